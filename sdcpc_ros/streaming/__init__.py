"""Streaming segmentation without ROS. Nothing is imported here, as the node imports some modules before PyTorch."""
