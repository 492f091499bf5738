"""What the worker does with frames of several cameras: which of them go together, and what becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sdcpc_ros.nodes.camera import Camera
from sdcpc_ros.nodes.camera_stream import CameraStream, Frame
from sdcpc_ros.nodes.parameters import NodeParameters

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter


class FrameBatches:
    """Frames that the network sees at one size go through it together, as many as `max_batch` and the backend allow."""

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        segmenter: StreamingSegmenter,
        read_parameters: Callable[[], NodeParameters],
    ) -> None:
        self._cameras = cameras
        self._segmenter = segmenter
        self._read_parameters = read_parameters

    def kind(self, frame: Frame) -> tuple[int, int]:
        """What frames of one batch share: the (height, width) at which the network sees them."""
        return self._segmenter.network_size(frame.size)

    def size(self, kind: tuple[int, int], waiting: int) -> int:
        """How many of the `waiting` frames of a kind are to be taken now, 1 or more. Never raises."""
        try:
            return self._segmenter.batch_size(kind, waiting, self._most())
        except Exception:  # which running the frame will meet again, where it is logged and counted
            return 1

    def process(self, batch: Sequence[tuple[CameraStream, Frame]]) -> None:
        """Decodes, segments and publishes frames of different cameras. Never raises: each fault is its own camera's."""
        cameras = [self._cameras[stream.name] for stream, _ in batch]
        prepared = [(camera, camera.prepare(frame)) for camera, (_, frame) in zip(cameras, batch)]
        good = [(camera, image) for camera, image in prepared if image is not None]
        outcomes: Sequence[Segmentation | Exception]
        try:
            outcomes = self._segmenter.segment_batch([image.request for _, image in good], self._most())
        except Exception as error:
            outcomes = [error] * len(good)
        for (camera, image), outcome in zip(good, outcomes):
            camera.finish(image, outcome)

    def _most(self) -> int:
        return largest_batch(self._read_parameters(), self._segmenter.device)


def largest_batch(parameters: NodeParameters, device: str) -> int:
    """How many frames may be run at once on a device, by its name: `max_batch`, but no more than there are cameras."""
    cameras = len(parameters.cameras)
    if parameters.max_batch == 0:
        return cameras if device.startswith("cuda") else 1
    return min(parameters.max_batch, cameras)
