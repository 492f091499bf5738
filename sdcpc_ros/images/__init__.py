"""Decoding of raw and compressed images to numpy arrays."""
