"""The pictures of a video file, read by FFmpeg through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
from av.container import InputContainer

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.segmented_frames import SourceFrame, Unusable
from sdcpc_ros.bags.video_frames import VideoFrames, sane_rate_hz


@contextmanager
def open_video(path: str) -> Iterator[VideoFrames]:
    """The pictures of a video file, each at its own time. Raises BagError for what cannot be read."""
    try:
        # A playlist may name other files and hosts: those are not for it to open.
        container = av.open(path, options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        raise BagError(f"'{path}' is no video that can be read: {_reason(error)}") from error
    with container:
        if not container.streams.video:
            raise BagError(f"'{path}' holds no video")
        yield _frames_of(path, container)


def _frames_of(path: str, container: InputContainer) -> VideoFrames:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate_hz = sane_rate_hz(float(stream.average_rate or stream.guessed_rate or 0))
    expected = stream.frames or None
    if expected is None and container.duration:
        expected = round(container.duration / av.time_base * rate_hz)

    def frames() -> Iterator[SourceFrame | Unusable]:
        number, time_s = 0, 0.0
        try:
            for frame in container.decode(stream):
                time_s = number / rate_hz if frame.time is None else float(frame.time)
                yield SourceFrame(number, round(time_s * 1e9), _upright(frame))
                number += 1
        except av.FFmpegError as error:
            yield Unusable(number, f"'{path}' cannot be decoded beyond {time_s:.3f} s: {_reason(error)}")

    return VideoFrames(frames(), expected, rate_hz)


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as players turn it: telephones film sideways and note down by how much."""
    image = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image


def _reason(error: av.FFmpegError) -> str:
    return error.strerror or type(error).__name__
