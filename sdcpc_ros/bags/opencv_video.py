"""The pictures of a video file, read by OpenCV: for where PyAV is not installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.segmented_frames import SourceFrame, Unusable
from sdcpc_ros.bags.video_frames import VideoFrames, sane_rate_hz

# A playlist may name other files and hosts: those are not for FFmpeg to open.
_ONLY_FILES = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file"}


@contextmanager
def open_video(path: str) -> Iterator[VideoFrames]:
    """The pictures of a video file, each at its own time. Raises BagError for what cannot be read."""
    os.environ.update({name: value for name, value in _ONLY_FILES.items() if name not in os.environ})
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise BagError(f"'{path}' is no video that can be read")
        rate_hz = sane_rate_hz(capture.get(cv2.CAP_PROP_FPS))
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        yield VideoFrames(_frames(path, capture, rate_hz, expected), expected if expected > 0 else None, rate_hz)
    finally:
        capture.release()


def _frames(path: str, capture: cv2.VideoCapture, rate_hz: float, expected: int) -> Iterator[SourceFrame | Unusable]:
    number, time_s = 0, 0.0
    while True:
        there, image = capture.read()  # BGR, turned as players turn it
        if not there:
            break
        time_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        time_s = time_ms / 1e3 if time_ms > 0 or number == 0 else number / rate_hz
        yield SourceFrame(number, round(time_s * 1e9), np.ascontiguousarray(image[..., ::-1]))
        number += 1
    if number == 0 or number < expected - 1:  # containers count one too many now and then
        yield Unusable(number, f"'{path}' cannot be decoded beyond {time_s:.3f} s")
