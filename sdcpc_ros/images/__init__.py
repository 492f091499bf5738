"""Pictures, raw and compressed, to numpy."""
