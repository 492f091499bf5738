"""Checks a CameraInfo and scales it to the size of the mask."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from sdcpc_ros.streaming.geometry import scaled_camera_matrix


def camera_info_fault(info: Any) -> str | None:
    """Why a CameraInfo cannot be published with masks: a number that is not finite, or no size. None if it can."""
    for field in ("d", "k", "r", "p"):
        if not all(math.isfinite(value) for value in getattr(info, field)):
            return f"{field} of the CameraInfo holds a value that is not finite"
    if info.width == 0 or info.height == 0:
        return f"the CameraInfo is for an image of {info.width} x {info.height} pixels"
    return None


def scale_camera_info(info: Any, header: Any, size: tuple[int, int]) -> CameraInfo:
    """`info` for its image resized to `size` (height, width), with another header.

    K, P and the region of interest are scaled; distortion, rotation and binning stay.
    """
    height, width = size
    own_size = (info.height, info.width)
    scaled = copy.copy(info)
    scaled.header, scaled.height, scaled.width = header, height, width
    scaled.k = scaled_camera_matrix(np.reshape(info.k, (3, 3)), own_size, size).ravel()
    scaled.p = scaled_camera_matrix(np.reshape(info.p, (3, 4)), own_size, size).ravel()
    scale_y, scale_x = height / info.height, width / info.width
    scaled.roi = RegionOfInterest(
        y_offset=round(info.roi.y_offset * scale_y),
        x_offset=round(info.roi.x_offset * scale_x),
        height=round(info.roi.height * scale_y),
        width=round(info.roi.width * scale_x),
        do_rectify=info.roi.do_rectify,
    )
    return scaled
