"""Captions by tools: taggers, templates, servers and local models behind one protocol; a person's own words stay."""
