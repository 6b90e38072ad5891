"""Study steps: index, segment a chunk, measure, gather, keep."""
