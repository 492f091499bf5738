"""Temporally consistent semantic segmentation for ROS 2: SD-CPC in PyTorch."""

__version__ = "0.1.0"
