"""Palette PNG files, which OpenCV reads but does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def palette_png(ids: np.ndarray, colours: np.ndarray) -> bytes:
    """(H, W) uint8 `ids` as indices of a palette of (N, 3) RGB `colours`, black beyond, as annotation tools do."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    rows = b"".join(b"\0" + row.tobytes() for row in ids)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)
