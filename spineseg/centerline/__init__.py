"""Find the cord: OptiC detector score, globally optimal curve, sub-voxel centerline."""
