"""Train the networks of deepseg."""
