"""Families of base models: one folder each, the same file names in each, found through `bases.FAMILIES`."""
