"""What a machine offers Velatura, and what is missing. No torch before it is asked for.

examine      every finding, in the order a person reads them
machine      memory and processors
packages     what is installed, what is not, and how to get it
"""
