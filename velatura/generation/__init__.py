"""Making pictures: the prompt grammar, generation, sheets of pictures, and what is written into the files."""
