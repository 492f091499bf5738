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

    One image of each camera waits at most, the newest. It waits for at most one batch of each other camera, and for no
    image that has not come. Where a batch has no room left, the image goes on waiting.
    """

    def __init__(self, streams: Sequence[CameraStream], processor: BatchProcessor) -> None:
        self._streams = list(streams)  # the least recently served first
        self._processor = processor
        self._waiting: dict[CameraStream, ReceivedImage] = {}
        self._stopping = False
        self._changed = threading.Condition()  # guards what waits
        self._thread = threading.Thread(target=self._run, name="frame_worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, stream: CameraStream, image: ReceivedImage) -> None:
        """Wakes the thread for an image; an older one of the camera that still waits counts as dropped."""
        with self._changed:
            if stream in self._waiting:
                stream.count("dropped: newer")
            self._waiting[stream] = image
            self._changed.notify()

    def stop(self) -> None:
        """Returns when the batch in work is done; no other starts, and what waits counts as dropped."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        for stream in self._waiting:
            stream.count("dropped: deactivated")
        self._waiting.clear()

    def take_batch(self) -> Batch:
        """The images to process next; empty when no camera has one. For the worker's thread."""
        with self._changed:
            first = next((stream for stream in self._streams if stream in self._waiting), None)
            if first is None:
                return []
            batch = [(first, self._waiting.pop(first))]
            key = self._processor.batch_key(batch[0][1])
            others = [stream for stream in self._streams if self._has_key(stream, key)]
        # Not with the lock: it may start to build a backend, and the executor must not wait for that.
        size = self._processor.batch_size(key, 1 + len(others)) if others else 1
        with self._changed:
            # A newer image with another key may have come since; it is left for its own turn.
            alike = [stream for stream in others if self._has_key(stream, key)]
            batch += [(stream, self._waiting.pop(stream)) for stream in alike[: size - 1]]
        served = [stream for stream, _ in batch]
        self._streams = [stream for stream in self._streams if stream not in served] + served
        return batch

    def _has_key(self, stream: CameraStream, key: tuple[int, int]) -> bool:
        return stream in self._waiting and self._processor.batch_key(self._waiting[stream]) == key

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
            self._processor.process(self.take_batch())
