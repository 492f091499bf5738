"""The thread that processes images: the newest of each camera, in turn, and those of one batch at once. No ROS here."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdcpc_ros.nodes.camera_stream import CameraStream, ReceivedImage

if TYPE_CHECKING:
    from sdcpc_ros.nodes.batch_processor import BatchProcessor

#: Images of different cameras, each with its camera's stream.
Batch = Sequence[tuple[CameraStream, ReceivedImage]]


class FrameWorker:
    """Passes waiting images to a processor, batch by batch. The camera that was served least recently leads a batch.

    An image so waits for at most one batch of each other camera. No image waits for one that has not come, and an image
    that finds no room in a batch stays in its slot, where a newer one may replace it.
    """

    def __init__(self, streams: Sequence[CameraStream], processor: BatchProcessor) -> None:
        self._streams = list(streams)  # the least recently served first
        self._processor = processor
        self._wake = threading.Condition()
        self._has_news = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="frame_worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """Wakes the thread: an image was offered to a stream."""
        with self._wake:
            self._has_news = True
            self._wake.notify()

    def stop(self) -> None:
        """Returns when the batch in work is done; no other starts."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def take_batch(self) -> Batch:
        """The images to process next; empty when no camera has one. For the worker's thread."""
        for stream in self._streams:
            image = stream.take()
            if image is not None:
                break
        else:
            return []
        key = self._processor.batch_key(image)

        def has_key(other: ReceivedImage) -> bool:
            return bool(self._processor.batch_key(other) == key)

        batch = [(stream, image)]
        others = [
            other
            for other in self._streams
            if other is not stream and (seen := other.waiting()) is not None and has_key(seen)
        ]
        size = self._processor.batch_size(key, 1 + len(others)) if others else 1
        for other in others:
            # A newer image with another key may have come since; it is left for its own turn.
            if len(batch) < size and (taken := other.take(has_key)) is not None:
                batch.append((other, taken))
        served = [member for member, _ in batch]
        self._streams = [waiting for waiting in self._streams if waiting not in served] + served
        return batch

    def _run(self) -> None:
        while self._wait_for_news():
            # Until none is found: news that came meanwhile must not wait for the next notification.
            while not self._stopping and (batch := self.take_batch()):
                self._processor.process(batch)

    def _wait_for_news(self) -> bool:
        """Sleeps until there is something to do; False if it is to stop."""
        with self._wake:
            self._wake.wait_for(lambda: self._has_news or self._stopping)
            self._has_news = False
            return not self._stopping
