"""How good a mask is, predicted from the mask and its image without a reference."""
