"""Painting pictures: what is asked for, lists of it, what a picture says of itself, and the same again."""
