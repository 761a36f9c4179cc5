"""Judging a run: what each checkpoint has learned, what it has copied, and which one to use.

`metrics` turns pictures into features; `style`, `copies`, `separability`, `diversity` and `heldout`
turn features and losses into evidence with its uncertainty; `gates` and `choose` turn evidence into
advice; `results` holds all of it, and `report` makes the page that shows it. No torch in any of these.
`protocol` runs the model and calls them.
"""
