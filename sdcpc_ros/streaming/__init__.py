"""Streaming segmentation without ROS.

This file imports nothing, so that the node can use the geometry before it imports PyTorch, which takes seconds.
"""
