"""The thread that works on frames: takes the newest of each camera, in turn, those that go together at once. No ROS."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

from sdcpc_ros.nodes.camera_stream import CameraStream, Frame

#: Frames of different cameras, each with its camera's stream.
Batch = Sequence[tuple[CameraStream, Frame]]


class Work(Protocol):
    """What is done with frames. None of it may raise: an exception ends the thread."""

    def kind(self, frame: Frame) -> Any:
        """What frames have in common that may go together; compared with ==."""

    def size(self, kind: Any, waiting: int) -> int:
        """How many of the `waiting` frames of a kind are to be taken now, 1 or more."""

    def process(self, batch: Batch) -> None:
        """Works on frames of one kind, or on one frame."""


class FrameWorker:
    """Hands waiting frames over, a batch at a time, begun by the camera that was not served for longest.

    So a frame waits for no more batches than there are other cameras, whatever their sizes and whoever shares them.
    No frame waits for one that has not come, and one that is not in the batch stays where a newer one may replace it.
    """

    def __init__(self, streams: Sequence[CameraStream], work: Work) -> None:
        self._streams = list(streams)  # the one that was served last comes last
        self._work = work
        self._wake = threading.Condition()
        self._has_news = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="frame_worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """Says that a stream has been offered a frame."""
        with self._wake:
            self._has_news = True
            self._wake.notify()

    def stop(self) -> None:
        """Returns when the frames that are being worked on are done and no other will be begun."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def take_batch(self) -> Batch:
        """The frames that are to be worked on next; none when no camera has one. For the worker's thread."""
        for stream in self._streams:
            frame = stream.take()
            if frame is not None:
                break
        else:
            return []
        kind = self._work.kind(frame)

        def is_alike(other: Frame) -> bool:
            return bool(self._work.kind(other) == kind)

        batch = [(stream, frame)]
        # One whose frame changes between the look and the taking is left out; its turn comes.
        others = [other for other in self._streams if (seen := other.waiting()) is not None and is_alike(seen)]
        others = [other for other in others if other is not stream]  # whose next frame may have come
        size = self._work.size(kind, 1 + len(others)) if others else 1
        for other in others:
            if len(batch) < size and (taken := other.take(is_alike)) is not None:
                batch.append((other, taken))
        served = [member for member, _ in batch]
        self._streams = [waiting for waiting in self._streams if waiting not in served] + served
        return batch

    def _run(self) -> None:
        while self._wait_for_news():
            # Until none is found, so news that came meanwhile is never slept through.
            while not self._stopping and (batch := self.take_batch()):
                self._work.process(batch)

    def _wait_for_news(self) -> bool:
        """Sleeps until there is something to do; False when it is to stop."""
        with self._wake:
            self._wake.wait_for(lambda: self._has_news or self._stopping)
            self._has_news = False
            return not self._stopping
