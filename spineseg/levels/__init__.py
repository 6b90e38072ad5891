"""Vertebral levels: their names, their slices in a mask, and the rows of a table by level."""
