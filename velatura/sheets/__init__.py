"""Sheets: one picture over and over with something changed along axes, the shared work done once.

values       what is written for an axis, as a list
axes         settings of a generation by name, and what a value of one changes
plan         the cells of a sheet, and the file that says what a sheet is
together     cells through the denoiser as one batch (the only module here that needs torch)
folder       the cells that are there
picture      all cells as labelled pictures
page         all cells as one page to look through
"""
