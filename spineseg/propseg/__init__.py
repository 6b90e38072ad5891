"""PropSeg: a deformable tube propagated along the centerline."""
