"""Weights of base models: reading them, and what they cost in memory."""
