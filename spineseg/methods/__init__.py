"""The segmentation methods: ours, masks that exist already, and programs, behind one call."""
