"""Compare masks and measure the cord."""
