"""DeepSeg: one network detects the cord, a second one segments it."""
