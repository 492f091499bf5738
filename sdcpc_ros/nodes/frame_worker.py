"""The thread that works on frames: takes the newest of each camera, in turn. No ROS in here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from sdcpc_ros.nodes.camera_stream import CameraStream, Frame


class FrameWorker:
    """Hands waiting frames to `process`, one at a time; after a camera's frame the others come first."""

    def __init__(self, streams: Sequence[CameraStream], process: Callable[[CameraStream, Frame], None]) -> None:
        """`process` must not raise: an exception ends the thread."""
        self._streams = list(streams)
        self._process = process
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
        """Returns when the frame that is being worked on is done and no other will be begun."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        turn = 0
        while self._wait_for_news():
            # A full round without a frame ends the search, so news that came meanwhile is never slept through.
            idle = 0
            while idle < len(self._streams) and not self._stopping:
                stream = self._streams[turn]
                turn = (turn + 1) % len(self._streams)
                frame = stream.take()
                if frame is None:
                    idle += 1
                else:
                    idle = 0
                    self._process(stream, frame)

    def _wait_for_news(self) -> bool:
        """Sleeps until there is something to do; False when it is to stop."""
        with self._wake:
            self._wake.wait_for(lambda: self._has_news or self._stopping)
            self._has_news = False
            return not self._stopping
