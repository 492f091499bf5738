"""Decodes images of cameras and bags to numpy: raw encodings, JPEG and PNG.

An image is any object with the fields of sensor_msgs/Image or CompressedImage; ROS is not needed. Every fault raises
BadImage. An image whose last row ends early is truncated; bytes after the last row are ignored, as some drivers send
whole memory pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sdcpc_ros.images.compressed_headers import decode_picture, read_header


class BadImage(ValueError):
    """An image message that cannot be used; `cause` is one of BadImage.CAUSES, for counting."""

    CAUSES = (
        *("zero_size", "too_small", "too_large", "odd_size", "unknown_encoding"),
        *("wrong_step", "truncated", "corrupt"),
    )

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause


@dataclass(frozen=True)
class ImageFormat:
    """Size in pixels and encoding ("jpeg" or "png" of a compressed image)."""

    height: int
    width: int
    encoding: str


@dataclass(frozen=True)
class _Encoding:
    """How the bytes of a raw encoding become RGB.

    Sixteen-bit samples are read by their high byte, a view of every second byte: the network takes 8 bits a channel.
    """

    channels: int  # samples per pixel within a row
    code: int | None  # OpenCV's conversion to RGB; None: it is RGB
    sample_bytes: int = 1
    planar_420: bool = False  # H / 2 rows of chroma pairs, of the same step, follow the H rows of luma
    multiple_of: tuple[int, int] = (1, 1)  # of (height, width): chroma shared by neighbours
    least_side: int = 1  # Bayer: OpenCV leaves images too small for its kernel black

    def rows(self, height: int) -> int:
        """Rows of `step` bytes that an image of this height has."""
        return height + height // 2 if self.planar_420 else height


def _encodings() -> dict[str, _Encoding]:
    table = {}
    for order, channels, code, least_side in (
        ("rgb", 3, None, 1),
        ("bgr", 3, cv2.COLOR_BGR2RGB, 1),
        ("rgba", 4, cv2.COLOR_RGBA2RGB, 1),
        ("bgra", 4, cv2.COLOR_BGRA2RGB, 1),
        ("mono", 1, cv2.COLOR_GRAY2RGB, 1),
        # ROS names a Bayer pattern by its first two rows; OpenCV by the second and third pixel of its rows 2 and 3.
        ("bayer_rggb", 1, cv2.COLOR_BayerBG2RGB, 4),
        ("bayer_bggr", 1, cv2.COLOR_BayerRG2RGB, 4),
        ("bayer_gbrg", 1, cv2.COLOR_BayerGR2RGB, 4),
        ("bayer_grbg", 1, cv2.COLOR_BayerGB2RGB, 4),
    ):
        for sample_bytes in (1, 2):
            table[f"{order}{8 * sample_bytes}"] = _Encoding(channels, code, sample_bytes, least_side=least_side)
    # Types without a channel order are taken in OpenCV's, as cv_bridge does.
    table |= {"8UC1": table["mono8"], "8UC3": table["bgr8"], "8UC4": table["bgra8"]}
    for name in ("yuv422", "uyvy"):
        table[name] = _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, multiple_of=(1, 2))
    for name in ("yuv422_yuy2", "yuyv"):
        table[name] = _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, multiple_of=(1, 2))
    for name, code in (("nv12", cv2.COLOR_YUV2RGB_NV12), ("nv21", cv2.COLOR_YUV2RGB_NV21)):
        table[name] = _Encoding(1, code, planar_420=True, multiple_of=(2, 2))
    return table


_ENCODINGS = _encodings()

#: Encodings of sensor_msgs/Image that are read.
RAW_ENCODINGS = tuple(_ENCODINGS)


def image_format(message: Any, max_pixels: int) -> ImageFormat:
    """Checks an Image or CompressedImage without decoding it: microseconds, whatever its size.

    Raises BadImage for every fault but `corrupt` data, which only `to_rgb` finds.
    """
    return _compressed_format(message, max_pixels) if hasattr(message, "format") else _raw_format(message, max_pixels)


def to_rgb(message: Any, max_pixels: int) -> np.ndarray:
    """The picture of an Image or CompressedImage as (H, W, 3) uint8 RGB; of `rgb8` a view into the message's own data.

    Raises BadImage.
    """
    return decode(message, image_format(message, max_pixels))


def decode(message: Any, checked: ImageFormat) -> np.ndarray:
    """As `to_rgb`, for a message that `image_format` has checked. Raises BadImage with the cause `corrupt`."""
    if hasattr(message, "format"):
        return _decode_compressed(message, checked)
    encoding = _ENCODINGS[checked.encoding]
    samples = _samples(message, encoding)
    return samples if encoding.code is None else cv2.cvtColor(np.ascontiguousarray(samples), encoding.code)


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Raises BadImage when an image has no pixels, or too many."""
    if height <= 0 or width <= 0:
        raise BadImage("zero_size", f"the image is {width} x {height} pixels; both sides must be at least 1")
    if height * width > max_pixels:
        raise BadImage("too_large", f"the image is {width} x {height} pixels; at most {max_pixels} in all are allowed")


def _raw_format(message: Any, max_pixels: int) -> ImageFormat:
    height, width, name = int(message.height), int(message.width), str(message.encoding)
    check_size(height, width, max_pixels)
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        known = ", ".join(RAW_ENCODINGS)
        raise BadImage("unknown_encoding", f"the encoding {name[:40]!r} is not known; these are: {known}")
    rows, columns = encoding.multiple_of
    if height % rows or width % columns:
        raise BadImage(
            "odd_size",
            f"the image is {width} x {height} pixels; {name} needs a width that is a multiple of {columns} "
            f"and a height that is a multiple of {rows}",
        )
    if min(height, width) < encoding.least_side:
        raise BadImage(
            "odd_size", f"the image is {width} x {height} pixels; {name} needs at least {encoding.least_side} a side"
        )
    check_step(message, width * encoding.channels * encoding.sample_bytes)
    check_data(message, needed=encoding.rows(height) * int(message.step))
    return ImageFormat(height, width, name)


def check_step(message: Any, least: int) -> None:
    """Raises BadImage when a row of a raw image has fewer than `least` bytes."""
    if message.step < least:
        row = f"a row of {message.width} pixels in {message.encoding}"
        raise BadImage("wrong_step", f"the step is {message.step} bytes; {row} needs at least {least}")


def check_data(message: Any, needed: int) -> None:
    """Raises BadImage when a raw image holds fewer than `needed` bytes."""
    if len(message.data) < needed:
        raise BadImage(
            "truncated",
            f"the image holds {len(message.data)} bytes; {message.width} x {message.height} pixels in "
            f"{str(message.encoding)[:40]} with a step of {message.step} need {needed}",
        )


def _samples(message: Any, encoding: _Encoding) -> np.ndarray:
    """The samples of a checked Image as (rows, W, channels) uint8: a view that leaves out what the step pads."""
    rows, width, step = encoding.rows(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8, count=rows * step).reshape(rows, step)
    samples = data[:, : width * encoding.channels * encoding.sample_bytes]
    if encoding.sample_bytes == 2:
        samples = samples[:, (0 if message.is_bigendian else 1) :: 2]
    return samples.reshape(rows, width, encoding.channels)


def _compressed_format(message: Any, max_pixels: int) -> ImageFormat:
    header = read_header(memoryview(message.data))
    if header is None:
        raise BadImage(
            "unknown_encoding",
            f"{len(message.data)} bytes of compressed format {str(message.format)[:40]!r} "
            "do not begin as a JPEG or PNG picture; these two are allowed",
        )
    check_size(header.height, header.width, max_pixels)
    if not header.complete:
        size = len(message.data)
        raise BadImage("truncated", f"the {header.kind} data ends after {size} bytes without its end marker")
    return ImageFormat(header.height, header.width, header.kind)


def _decode_compressed(message: Any, expected: ImageFormat) -> np.ndarray:
    # Without IGNORE_ORIENTATION an EXIF tag would turn the picture away from its CameraInfo.
    decoded = decode_picture(message.data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None or decoded.shape[:2] != (expected.height, expected.width):
        raise BadImage("corrupt", f"{len(message.data)} bytes of {expected.encoding} data cannot be decoded")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
