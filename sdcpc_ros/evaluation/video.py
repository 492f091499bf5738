"""Write a video that every browser plays: H.264, yuv420p, in an mp4 file whose index comes first."""

from __future__ import annotations

from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_CRF = "20"  # of x264: 18 looks lossless, 28 is rough
_MAX_SIDE = 16384  # of x264
_TICKS_PER_S = 90_000  # the customary time base of video: exact for all usual frame rates


class VideoWriter(AbstractContextManager["VideoWriter"]):
    """Appends (H, W, 3) uint8 RGB pictures of one even size, each shown from its own time until the next.

    Raises ValueError for a picture whose size is odd, too large or not that of the first, or a time not after the one
    before.
    """

    def __init__(self, path: str | Path, *, rate_hz: float = 30.0) -> None:
        """`rate_hz`: the nominal frame rate in the file."""
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream(
            "libx264",
            rate=Fraction(rate_hz).limit_denominator(1001),
            options={"crf": _CRF, "preset": "veryfast"},
        )
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        self._size: tuple[int, int] | None = None
        self._last_tick = -1

    def write(self, picture: np.ndarray, time_s: float) -> None:
        height, width = picture.shape[:2]
        if self._size is None:
            if height % 2 or width % 2 or max(height, width) > _MAX_SIDE:
                raise ValueError(f"a video picture is {width} x {height}; even sides up to {_MAX_SIDE} are allowed")
            self._size = self._stream.height, self._stream.width = height, width
        if (height, width) != self._size:
            raise ValueError(f"a picture of {width} x {height} pixels in a video of {self._size[1]} x {self._size[0]}")
        tick = round(time_s * _TICKS_PER_S)
        if tick <= self._last_tick:
            raise ValueError(f"the picture at {time_s:.3f} s does not come after the one before")
        self._last_tick = tick
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = tick, Fraction(1, _TICKS_PER_S)
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, *error: object) -> None:
        if self._size is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
