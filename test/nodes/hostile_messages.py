"""Strategies for image messages as nobody should send them: every field true or a lie, in every combination."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from hypothesis import strategies as st

from sdcpc_ros.images.decoding import RAW_ENCODINGS

_BYTES_PER_PIXEL = {"mono": 1, "8UC1": 1, "bayer": 1, "nv": 1, "rgba": 4, "bgra": 4, "8UC4": 4, "yuv": 2, "uyvy": 2}
_ENCODINGS = st.one_of(
    st.sampled_from(RAW_ENCODINGS), st.sampled_from(["", "32FC1", "RGB8", "rgb8 ", "nv12\u00e9"]), st.text(max_size=20)
)
_SIDES = st.one_of(st.integers(0, 70), st.sampled_from([32, 33, 64, 2**16, 2**31 - 1, 2**32 - 1]))
_STAMPS = st.one_of(
    st.integers(0, 100), st.sampled_from([2**31 - 1, -(2**31), -1])
)  # seconds, as builtin_interfaces/Time holds them


@dataclass(frozen=True)
class Hostile:
    """The fields of an Image (`encoding`) or a CompressedImage (`format`), and of its header."""

    fields: dict
    sec: int
    nanosec: int
    frame_id: str


def _rows(encoding: str, height: int) -> int:
    return height + height // 2 if encoding.startswith("nv") else height


@st.composite
def _raw_fields(draw: st.DrawFn) -> dict:
    encoding, height, width = draw(_ENCODINGS), draw(_SIDES), draw(_SIDES)
    size = next((n for name, n in _BYTES_PER_PIXEL.items() if encoding.startswith(name)), 3)
    size *= 2 if encoding.endswith("16") else 1
    true_step = min(width * size, 2**32 - 1)
    step = draw(st.one_of(st.just(true_step), st.just(min(true_step + 5, 2**32 - 1)), st.integers(0, 2**32 - 1)))
    length = min(_rows(encoding, height) * step, 50_000)
    length = draw(st.one_of(st.just(length), st.just(max(0, length - 1)), st.integers(0, 300)))
    return {
        "encoding": encoding,
        "height": height,
        "width": width,
        "step": step,
        "is_bigendian": draw(st.sampled_from([0, 1, 255])),
        "data": bytes(length),
    }


def _pictures() -> list[bytes]:
    picture = np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)
    return [cv2.imencode(extension, picture)[1].tobytes() for extension in (".jpg", ".png")]


@st.composite
def _compressed_fields(draw: st.DrawFn) -> dict:
    data = bytearray(draw(st.one_of(st.sampled_from(_pictures()), st.binary(max_size=200))))
    if data:
        for _ in range(draw(st.integers(0, 4))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        data = data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))]
    kind = draw(st.one_of(st.sampled_from(["jpeg", "png", "rgb8; jpeg compressed bgr8"]), st.text(max_size=20)))
    return {"format": kind, "data": bytes(data)}


def _hostile(fields: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(
        Hostile,
        fields=fields,
        sec=_STAMPS,
        nanosec=st.one_of(st.integers(0, 999_999_999), st.just(2**32 - 1)),
        frame_id=st.text(max_size=10),
    )


RAW = _hostile(_raw_fields())
COMPRESSED = _hostile(_compressed_fields())
