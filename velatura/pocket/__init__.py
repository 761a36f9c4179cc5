"""The pocket base: a small model that comes with the program, and everything that it was made from."""
