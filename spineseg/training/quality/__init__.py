"""Fit the prediction of a mask's Dice."""
