"""Training: what it is to do and will cost, the run itself, its judgement, and how runs differ."""
