"""The results folder of a study: every path, and one reader and one writer of every file."""
