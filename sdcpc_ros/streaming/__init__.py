"""Streaming segmentation without ROS.

Nothing is imported here: the node takes its geometry before PyTorch, which takes seconds to import.
"""
