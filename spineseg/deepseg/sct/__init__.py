"""Read the weights that SCT published for deepseg_sc, and run them as SCT does."""
