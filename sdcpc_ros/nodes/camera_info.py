"""Checks a CameraInfo and scales it to the size of the mask."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from sdcpc_ros.streaming.geometry import scaled_camera_matrix


def camera_info_fault(info: Any) -> str | None:
    """Why a CameraInfo cannot be published with masks: a number that is not finite, or no size. None if it can."""
    for field in ("d", "k", "r", "p"):
        if not np.isfinite(getattr(info, field)).all():
            return f"{field} of the CameraInfo holds a value that is not finite"
    if info.width == 0 or info.height == 0:
        return f"the CameraInfo is for an image of {info.width} x {info.height} pixels"
    return None


def scale_camera_info(info: Any, header: Any, size: tuple[int, int]) -> CameraInfo:
    """`info` for its image resized to `size` (height, width), with another header.

    All lengths, K and P are of the whole sensor without binning and are scaled; distortion, rotation and binning stay.
    The image is as large as the region of interest (0: the sensor), divided by the binning (0: 1).
    """
    region = (info.roi.height or info.height, info.roi.width or info.width)
    region_then = (size[0] * max(info.binning_y, 1), size[1] * max(info.binning_x, 1))
    scale_y, scale_x = region_then[0] / region[0], region_then[1] / region[1]
    scaled = copy.copy(info)
    scaled.header, scaled.height, scaled.width = header, round(info.height * scale_y), round(info.width * scale_x)
    scaled.k = scaled_camera_matrix(np.reshape(info.k, (3, 3)), region, region_then).ravel()
    scaled.p = scaled_camera_matrix(np.reshape(info.p, (3, 4)), region, region_then).ravel()
    scaled.roi = RegionOfInterest(
        y_offset=round(info.roi.y_offset * scale_y),
        x_offset=round(info.roi.x_offset * scale_x),
        height=round(info.roi.height * scale_y),
        width=round(info.roi.width * scale_x),
        do_rectify=info.roi.do_rectify,
    )
    return scaled
