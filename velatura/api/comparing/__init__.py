"""Comparing: sheets of pictures that differ in what stands on their axes."""
