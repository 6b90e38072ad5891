"""Pages and figures for people: QC and study report."""
