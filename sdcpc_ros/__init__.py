"""Temporally consistent semantic segmentation for ROS 2: SD-CPC in PyTorch."""

__version__ = "0.1.0"
#: The shipped model that node and commands use when none is named.
DEFAULT_MODEL = "camvid_efficientnet_lite0"
