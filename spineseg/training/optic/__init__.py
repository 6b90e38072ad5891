"""Train the OptiC detectors that find the centerline."""
