"""The thread that processes images: the newest of each camera, in turn, in batches. No ROS in here."""

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

    At most one image of each camera waits, the newest. It waits for at most one batch of each other camera, and never
    for an image that has not arrived. An image that does not fit into a batch stays waiting.
    """

    def __init__(self, streams: Sequence[CameraStream], processor: BatchProcessor) -> None:
        self._streams = list(streams)  # the least recently served first
        self._processor = processor
        self._waiting: dict[CameraStream, ReceivedImage] = {}
        self._stopping = False
        self._changed = threading.Condition()  # guards _waiting
        self._thread = threading.Thread(target=self._run, name="frame_worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, stream: CameraStream, image: ReceivedImage) -> None:
        """Wakes the thread for an image. An older image of the camera that still waits counts as dropped."""
        with self._changed:
            if stream in self._waiting:
                stream.count("dropped: newer")
            self._waiting[stream] = image
            self._changed.notify()

    def stop(self) -> None:
        """Returns when the current batch is done; no other batch starts, and waiting images count as dropped."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        for stream in self._waiting:
            stream.count("dropped: deactivated")
        self._waiting.clear()

    def take_batch(self) -> Batch:
        """The images to process next; empty if none waits. For the worker's thread."""
        with self._changed:
            first = next((stream for stream in self._streams if stream in self._waiting), None)
            if first is None:
                return []
            batch = [(first, self._waiting.pop(first))]
            key = self._processor.batch_key(batch[0][1])
            others = [stream for stream in self._streams if self._has_key(stream, key)]
        # Without the lock: this may start to build a backend, and the executor must not wait for it.
        size = self._processor.batch_size(key, 1 + len(others)) if others else 1
        with self._changed:
            # A newer image with another key may have arrived; it stays for its own turn.
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
