"""Stable Diffusion 1.x: a UNet told by CLIP's text encoder, epsilon or v; the pocket base is one at its own size."""
