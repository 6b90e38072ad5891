"""Prediction of a mask's quality from the mask and its image, without a reference."""
