"""JPEG and PNG data: the header (kind, size, and whether the end marker is present), and decoding.

A few kilobytes can decode to gigabytes, and OpenCV fills the missing part of a shortened JPEG with grey without an
error. Both are detected here from the header and the end marker.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_END = b"\xff\xd9"
#: Markers that carry no length: TEM, RST0..RST7, SOI.
_JPEG_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))
#: Start-of-frame markers of every JPEG process; 0xC4, 0xC8 and 0xCC have other meanings.
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN_MARKER = 0xDA
#: Headers with more segments, and PNG data with more chunks, are refused: walking millions of empty ones takes seconds.
_MOST_SEGMENTS = 1 << 16
#: Files with more pixels are refused: a few kilobytes could take gigabytes.
MAX_PIXELS = 1 << 26


@dataclass(frozen=True)
class PictureHeader:
    """Kind ("jpeg" or "png") and size of a compressed picture, and whether its data reaches its end marker."""

    kind: str
    height: int
    width: int
    complete: bool


def read_header(data: memoryview) -> PictureHeader | None:
    """The header of a JPEG or PNG picture in `data` (one dimension of bytes); None if there is none."""
    if bytes(data[:8]) == _PNG_SIGNATURE:
        return _read_png(data)
    if bytes(data[:2]) == b"\xff\xd8":
        return _read_jpeg(bytes(data))
    return None


def decode_picture(data: bytes | bytearray | memoryview, flags: int) -> np.ndarray | None:
    """The pixels of JPEG or PNG data as OpenCV gives them by its `flags`; None if it cannot decode them."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # of a size beyond its limits
        return None


def _read_png(data: memoryview) -> PictureHeader | None:
    if len(data) < 24 or bytes(data[12:16]) != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    # Complete if every chunk lies within the data up to the last; OpenCV would allocate what a damaged length says.
    position, kind = len(_PNG_SIGNATURE), b""
    for _ in range(_MOST_SEGMENTS):
        if position + 12 > len(data) or kind == b"IEND":
            break
        (length,) = struct.unpack_from(">I", data, position)
        kind = bytes(data[position + 4 : position + 8])
        position += 12 + length
    return PictureHeader("png", height, width, complete=kind == b"IEND" and position <= len(data))


def _read_jpeg(data: bytes) -> PictureHeader | None:
    """Walks the segments up to the first scan, which the frame header (the size) must precede."""
    size = None
    position = 2
    for _ in range(_MOST_SEGMENTS):
        if position + 4 > len(data):
            break
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF or marker in _JPEG_BARE_MARKERS:
            position += 1 if marker == 0xFF else 2  # the first of two is a fill byte
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _JPEG_FRAME_MARKERS and position + 9 <= len(data):
            size = struct.unpack_from(">HH", data, position + 5)
        if marker == _JPEG_SCAN_MARKER:
            if size is None:
                return None
            # Coded data never holds the end marker (a 0xFF in it is followed by 0x00); a thumbnail before it may.
            return PictureHeader("jpeg", size[0], size[1], complete=data.rfind(_JPEG_END) > position)
        position += 2 + length
    return None
