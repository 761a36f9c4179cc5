"""Stable Diffusion XL and what was made from it: a UNet told by two CLIP text encoders and by the picture's sizes."""
