"""Reads video files and webcams frame by frame with OpenCV."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cv2

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.replay.segmented_frames import SourceFrame, Unusable
from sdcpc_ros.runtime.git_lfs import pointer_reason
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S

#: Allowed frame rates of a player.
RATES_HZ = (0.02, 240.0)
_DEFAULT_RATE_HZ = 30.0
# A playlist may name other files and hosts. FFmpeg must not open those.
_ONLY_FILES = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file"}


@dataclass(frozen=True)
class FrameSource:
    """Images in order, for a single pass."""

    frames: Iterator[SourceFrame | Unusable]
    expected: int | None  #: the number of images, if known
    rate_hz: float  #: for a player
    #: A file name without suffix for the result of an image.
    name_of: Callable[[SourceFrame], str] = lambda frame: f"{frame.number:06d}"

    @property
    def max_gap_s(self) -> float:
        """The node's limit, but longer where images come at a lower rate."""
        return max(DEFAULT_MAX_GAP_S, 3 / self.rate_hz)


def sane_rate_hz(rate_hz: float) -> float:
    """The rate if a player can use it, else 30 Hz."""
    return rate_hz if RATES_HZ[0] <= rate_hz <= RATES_HZ[1] else _DEFAULT_RATE_HZ


@contextmanager
def open_video(path: str) -> Iterator[FrameSource]:
    """The frames of a video file with their times, rotated as the file says. Raises BagError if it cannot be read."""
    if not Path(path).is_file():
        raise BagError(f"there is no file at '{path}'")
    os.environ.update({name: value for name, value in _ONLY_FILES.items() if name not in os.environ})
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            pointer = pointer_reason(path)
            raise BagError(f"'{path}' is no video that can be read{f': {pointer}' if pointer else ''}")
        rate_hz = sane_rate_hz(capture.get(cv2.CAP_PROP_FPS))
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))

        def frames() -> Iterator[SourceFrame | Unusable]:
            number, time_s = 0, 0.0
            while True:
                is_read, image = capture.read()
                if not is_read:
                    break
                time_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
                time_s = time_ms / 1e3 if time_ms > 0 or number == 0 else number / rate_hz
                yield SourceFrame(number, round(time_s * 1e9), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                number += 1
            if number == 0 or number < expected - 1:  # some containers count one frame too many
                yield Unusable(number, f"'{path}' cannot be decoded beyond {time_s:.3f} s")

        yield FrameSource(frames(), expected if expected > 0 else None, rate_hz)
    finally:
        capture.release()


@contextmanager
def open_webcam(index: int) -> Iterator[FrameSource]:
    """The frames of OpenCV's camera `index`, with the time since the first.

    The first Ctrl-C ends the stream, a second one the program. Raises BagError if there is no such camera.
    """
    capture = cv2.VideoCapture(index)
    stop = threading.Event()

    def frames() -> Iterator[SourceFrame | Unusable]:
        number, start_ns = 0, time.monotonic_ns()
        while not stop.is_set():
            is_read, image = capture.read()  # BGR
            if not is_read:
                yield Unusable(number, f"camera {index} gives no more pictures")
                return
            yield SourceFrame(number, time.monotonic_ns() - start_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            number += 1

    try:
        if not capture.isOpened():
            raise BagError(
                f"there is no camera {index}, or another program has it; a number of 0 or more that "
                "`v4l2-ctl --list-devices` shows as /dev/videoN is needed"
            )
        with _set_when_interrupted(stop):
            yield FrameSource(frames(), None, sane_rate_hz(capture.get(cv2.CAP_PROP_FPS)))
    finally:
        capture.release()


@contextmanager
def _set_when_interrupted(stop: threading.Event) -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
