"""sensor_msgs/Image and CompressedImage to numpy and back.

`sdcpc_ros.images` reads them; cv_bridge, if it is installed, adds encodings that `sdcpc_ros.images` does not know.
"""

from __future__ import annotations

import array
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from sdcpc_ros.images import decoding
from sdcpc_ros.images.decoding import RAW_ENCODINGS, BadImage, ImageFormat, check_data, check_size


def image_format(message: Any, max_pixels: int) -> ImageFormat:
    """Checks an Image or CompressedImage without decoding it. Raises BadImage, as `decoding.image_format` does."""
    if _bridge_for(message) is None:
        return decoding.image_format(message, max_pixels)
    check_size(message.height, message.width, max_pixels)
    check_data(message, needed=message.height * message.step)
    return ImageFormat(message.height, message.width, message.encoding)


def decode(message: Any, checked: ImageFormat) -> np.ndarray:
    """Decodes a message that `image_format` has checked to (H, W, 3) uint8 RGB; for `rgb8` a view into its data.

    Raises BadImage.
    """
    bridge = _bridge_for(message)
    if bridge is None:
        return decoding.decode(message, checked)
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except Exception as error:  # CvBridgeError, but also cv2.error, KeyError and others for encodings it cannot parse
        sentence = f"cv_bridge cannot convert {message.encoding[:40]!r} to rgb8: {error}"
        raise BadImage("unknown_encoding", sentence) from error


def _bridge_for(message: Any) -> Any | None:
    """The CvBridge that must convert a message; None if `sdcpc_ros.images` can, or cv_bridge is missing."""
    is_known = hasattr(message, "format") or message.encoding in RAW_ENCODINGS
    return None if is_known else find_cv_bridge()


@lru_cache(maxsize=1)
def find_cv_bridge() -> Any | None:
    """A CvBridge if cv_bridge is installed and fits this NumPy and OpenCV, else None."""
    try:
        from cv_bridge import CvBridge
    except (ImportError, AttributeError):  # a cv_bridge built for NumPy 1 fails on NumPy 2 with either
        return None
    return CvBridge()


def compressed_mask(header: Any, mask: np.ndarray, encoding: str) -> CompressedImage:
    """A mask (H, W) of 8 or 16 bits as PNG; the format names the encoding, as image_transport does.

    PNG has no negative numbers: int16 is stored as the uint16 of the same bits.
    """
    mask = mask.view(np.uint16) if mask.dtype == np.int16 else mask
    data = array.array("B")
    # OpenCV's defaults are three times as fast on masks as any explicit compression level, and small.
    data.frombytes(cv2.imencode(".png", mask)[1].tobytes())
    return CompressedImage(header=header, format=f"{encoding}; png compressed", data=data)


class ImageWriter:
    """Writes the Image messages of one topic into one message object.

    rclpy checks an array assigned to `data` element by element (0.3 s for 720p), so pixels are written in place through
    a view. Publishing serialises at once: the message may be written again as soon as `publish` has returned.
    """

    def __init__(self, encoding: str) -> None:
        self._message = Image(encoding=encoding, is_bigendian=0)
        self._pixels: np.ndarray = np.empty(0, np.uint8)

    def write(self, header: Any, pixels: np.ndarray) -> Image:
        """The message, with this header object; valid until the next call.

        pixels: (H, W) or (H, W, 3), of the encoding's type in little-endian order, the same type in each call.
        """
        if self._pixels.shape != pixels.shape:
            self._allocate(pixels)
        self._pixels[:] = pixels
        self._message.header = header
        return self._message

    def _allocate(self, pixels: np.ndarray) -> None:
        data = array.array("B")
        data.frombytes(bytes(pixels.nbytes))
        message = self._message
        message.height, message.width = pixels.shape[:2]
        message.step, message.data = pixels[0].nbytes, data
        self._pixels = np.frombuffer(message.data, pixels.dtype).reshape(pixels.shape)
