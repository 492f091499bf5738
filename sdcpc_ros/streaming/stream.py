"""One video stream: its frame buffer, and the last frame, which the time rules compare with the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sdcpc_ros.network import FrameMemory
from sdcpc_ros.streaming.continuity import break_between
from sdcpc_ros.streaming.frame_buffer import FrameBuffer
from sdcpc_ros.streaming.stream_frame import StreamFrame


class _Facts(NamedTuple):
    stamp_s: float
    frame_id: str
    size: tuple[int, ...]
    encoding: str


class Stream:
    """Call `begin` before a frame runs, then `finish` or `fail`. Later frames are compared with finished ones only."""

    def __init__(self, new_buffer: Callable[[tuple[int, int]], FrameBuffer], image_size: tuple[int, int]) -> None:
        """new_buffer: makes an empty frame buffer for images of a size (height, width)."""
        self._new_buffer = new_buffer
        self.buffer = new_buffer(image_size)
        self.image_size = image_size
        self.stamp_s = 0.0  #: of the frame that runs
        self.reset: str | None = None  #: the cause for which the buffer was emptied before the frame that runs
        #: The cause for which the buffer is emptied before the next frame. Other threads may set it at any time.
        self.pending_reset: str | None = None
        self._frame: _Facts | None = None
        self._last: _Facts | None = None

    def begin(self, frame: StreamFrame, max_gap_s: float) -> None:
        """Empties the buffer if the frame does not continue the last one, and sets `reset` to the cause."""
        height, width = frame.image.shape[:2]
        self.stamp_s = self.buffer.next_stamp_s if frame.stamp_s is None else frame.stamp_s
        self._frame = _Facts(self.stamp_s, frame.frame_id, (height, width, *frame.source_size), frame.encoding)
        self.reset = self.pending_reset
        if self.reset is not None:  # only then: a request that comes meanwhile is kept for the next frame
            self.pending_reset = None
        elif self._last is not None:
            self.reset = break_between(self._last, self._frame, max_gap_s)
        if self.reset is not None:
            self.image_size, self.buffer = (height, width), self._new_buffer((height, width))

    def finish(self, memory: FrameMemory) -> None:
        """Stores the memory of the frame that ran, (1, ...) each."""
        self.buffer.push(memory, self.stamp_s)
        self._last = self._frame

    def fail(self) -> None:
        """Lets the next frame begin with the reset that the failed frame began with, or else with "fault"."""
        self.pending_reset = self.pending_reset or self.reset or "fault"
