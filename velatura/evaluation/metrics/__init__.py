"""Features of a picture that need no learned weights, one family per module.

Each `describe(image, side=128)` takes RGB, uint8, shape (H, W, 3), and returns a vector of floats whose
length does not depend on the picture. Pictures of different sizes are compared at one common side.
"""
