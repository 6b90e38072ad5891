"""DeepSeg: one network finds the cord, a second one segments it."""
