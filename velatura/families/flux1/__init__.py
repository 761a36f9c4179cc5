"""FLUX.1: a transformer told by T5 and by CLIP's pooled vector; dev (guidance distilled in) and schnell (few steps)."""
