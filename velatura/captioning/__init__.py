"""Captions by tools: taggers and templates behind one protocol, written so that a person's own words stay."""
