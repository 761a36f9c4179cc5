"""Adapters: small trained changes to a base model's layers, their files, and how they are applied.

`weights`, `formats`, `metadata` and `targets` need no torch; `layers`, `lora` and `merge` do.
"""
