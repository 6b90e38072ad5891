"""The weights that SCT published for deepseg_sc: read, and run as SCT runs them."""
