"""Painting on in a picture: a part of it anew, finds in detail, the whole larger."""
