"""One video stream: its frame buffer, and the last frame, which the time rules compare with the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sdcpc_ros.streaming.continuity import break_between
from sdcpc_ros.streaming.frame_buffer import FrameBuffer
from sdcpc_ros.streaming.stream_frame import StreamFrame


class _Facts(NamedTuple):
    stamp_s: float
    frame_id: str
    size: tuple[int, ...]
    encoding: str


class Stream:
    """Call `begin` before a frame runs and `finish` after it. A frame without `finish` has failed.

    The frame after a failed one begins with the reset that was due before the failed frame, or else with "fault".
    """

    def __init__(self, new_buffer: Callable[[tuple[int, int]], FrameBuffer], image_size: tuple[int, int]) -> None:
        """new_buffer: makes an empty frame buffer for images of a size (height, width)."""
        self._new_buffer = new_buffer
        self.buffer = new_buffer(image_size)
        self.image_size = image_size
        self.stamp_s = 0.0  #: of the frame that runs
        self.reset: str | None = None  #: the cause for which the buffer was emptied before the frame that runs
        self.reset_requested = False  #: whether to empty it before the next frame; any thread may set it at any time
        self._unfinished: str | None = None  # the cause of the next reset unless `finish` is called
        self._frame: _Facts | None = None
        self._last: _Facts | None = None  # of the last finished frame

    def begin(self, frame: StreamFrame, max_gap_s: float) -> None:
        """Empties the buffer if the frame does not continue the last one, and sets `reset` to the cause."""
        height, width = frame.image.shape[:2]
        self.stamp_s = self.buffer.next_stamp_s if frame.stamp_s is None else frame.stamp_s
        self._frame = _Facts(self.stamp_s, frame.frame_id, (height, width, *frame.source_size), frame.encoding)
        self.reset = self._unfinished
        if self.reset_requested:  # cleared only then: a request that comes after this line is for the next frame
            self.reset_requested = False
            self.reset = self.reset or "requested"
        if self.reset is None and self._last is not None:
            self.reset = break_between(self._last, self._frame, max_gap_s)
        self._unfinished = self.reset or "fault"  # first: there may be no memory for a new buffer
        if self.reset is not None:
            self.image_size, self.buffer = (height, width), self._new_buffer((height, width))

    def finish(self) -> None:
        """Adds the frame that ran to the buffer."""
        self.buffer.push(self.stamp_s)
        self._last, self._unfinished = self._frame, None
