"""Small nodes that use the masks, as examples. They depend on the topics only."""
