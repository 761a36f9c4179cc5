"""Training an adapter: one loop, and beside it data, objective, validation and checkpoints."""
