"""Spinal cord segmentation by two methods, and the evidence for which one a study should keep."""

__version__ = "0.1.0"
