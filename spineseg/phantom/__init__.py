"""Synthetic people: anatomy, MRI contrast and a BIDS dataset with exact references."""
