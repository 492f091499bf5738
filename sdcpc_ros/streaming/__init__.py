"""Streaming segmentation without ROS."""

from sdcpc_ros.streaming.frame_buffer import FrameBuffer
from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter

__all__ = ["FrameBuffer", "Segmentation", "StreamingSegmenter"]
