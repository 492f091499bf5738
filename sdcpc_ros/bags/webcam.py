"""The pictures of a camera that is attached to this machine, until it is stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import cv2

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.segmented_frames import SourceFrame, Unusable
from sdcpc_ros.bags.video_frames import VideoFrames, sane_rate_hz


@contextmanager
def open_webcam(index: int) -> Iterator[VideoFrames]:
    """The pictures of camera `index`, as OpenCV counts them, each at the time it came, s from the first.

    The first Ctrl-C ends the pictures, a second one the program. Raises BagError when there is no such camera.
    """
    capture = cv2.VideoCapture(index)
    stop = threading.Event()
    try:
        if not capture.isOpened():
            raise BagError(
                f"there is no camera {index}, or another program has it; a number of 0 or more that "
                "`v4l2-ctl --list-devices` shows as /dev/videoN is needed"
            )
        with _until_interrupted(stop):
            yield VideoFrames(_frames(capture, stop, index), None, sane_rate_hz(capture.get(cv2.CAP_PROP_FPS)))
    finally:
        capture.release()


def _frames(capture: cv2.VideoCapture, stop: threading.Event, index: int) -> Iterator[SourceFrame | Unusable]:
    number, begun_ns = 0, time.monotonic_ns()
    while not stop.is_set():
        there, image = capture.read()  # BGR
        if not there:
            yield Unusable(number, f"camera {index} gives no more pictures")
            return
        yield SourceFrame(number, time.monotonic_ns() - begun_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        number += 1


@contextmanager
def _until_interrupted(stop: threading.Event) -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
