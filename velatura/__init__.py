"""Velatura: teach an image model your own hand."""

__version__ = "0.1.0"
