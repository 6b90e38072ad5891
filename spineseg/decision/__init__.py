"""Which method a dataset keeps, and how sure that is."""
