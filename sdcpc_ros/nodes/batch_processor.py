"""The worker's path of an image: decode, segment, publish."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sdcpc_ros.nodes.camera_interface import CameraInterface
from sdcpc_ros.nodes.camera_stream import CameraStream, ReceivedImage
from sdcpc_ros.nodes.declared_parameters import DeclaredParameters
from sdcpc_ros.nodes.image_messages import decode
from sdcpc_ros.nodes.parameters import NodeParameters
from sdcpc_ros.streaming.geometry import to_network
from sdcpc_ros.streaming.stream_frame import StreamFrame

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter


class BatchProcessor:
    """Segments images of several cameras. Images of one network size run as a batch if `max_batch` allows it."""

    def __init__(
        self, cameras: Mapping[str, CameraInterface], segmenter: StreamingSegmenter, declared: DeclaredParameters
    ) -> None:
        self._cameras = cameras
        self._segmenter = segmenter
        self._declared = declared

    def batch_key(self, image: ReceivedImage) -> tuple[int, int]:
        """The (height, width) at which the network sees an image. All images of a batch have the same key."""
        return self._segmenter.network_size(image.size)

    def batch_size(self, key: tuple[int, int], waiting: int) -> int:
        """How many of `waiting` images with this key to process now, 1 or more. Never raises."""
        try:
            most = largest_batch(self._declared.current, self._segmenter.device)
            return self._segmenter.batch_size(key, waiting, most)
        except Exception:  # `process` meets the same error, logs it and counts it
            return 1

    def process(self, batch: Sequence[tuple[CameraStream, ReceivedImage]]) -> None:
        """Processes one image of each of several cameras. Never raises: an error costs only its own image."""
        parameters = self._declared.current
        decoded: list[tuple[CameraInterface, ReceivedImage, StreamFrame, float]] = []
        for stream, image in batch:
            camera, begun_s = self._cameras[stream.name], time.perf_counter()
            try:
                frame = self._decode(camera, image, parameters)
            except Exception as error:
                camera.report_lost(image.message, error)
            else:
                decoded.append((camera, image, frame, (time.perf_counter() - begun_s) * 1e3))
        outcomes: Sequence[Segmentation | Exception]
        try:
            self._segmenter.max_gap_s = parameters.max_gap
            most = largest_batch(parameters, self._segmenter.device)
            outcomes = self._segmenter.segment_batch([frame for _, _, frame, _ in decoded], most)
        except Exception as error:
            outcomes = [error] * len(decoded)
        for (camera, image, frame, decode_ms), outcome in zip(decoded, outcomes):
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                self._publish(camera, image, frame, decode_ms, outcome, parameters)
            except Exception as error:
                camera.report_lost(image.message, error)

    def _decode(self, camera: CameraInterface, image: ReceivedImage, parameters: NodeParameters) -> StreamFrame:
        pixels = decode(image.message, image.format)
        if parameters.output_size == "network":
            pixels = to_network(pixels, self._segmenter.network_size(image.size))
        return StreamFrame(
            pixels,
            image.stamp_s,
            camera.stream.name,
            confidence=camera.outputs.needs_confidence(parameters),
            frame_id=image.message.header.frame_id,
            encoding=image.format.encoding,
            source_size=image.size,
        )

    def _publish(
        self,
        camera: CameraInterface,
        image: ReceivedImage,
        frame: StreamFrame,
        decode_ms: float,
        segmentation: Segmentation,
        parameters: NodeParameters,
    ) -> None:
        begun_s = time.perf_counter()
        if segmentation.reset is not None:
            camera.report_reset(image, segmentation.reset, parameters)
        camera.outputs.publish(
            image.message.header,
            frame.image,
            segmentation.labels,
            segmentation.confidence,
            camera.camera_info,
            parameters,
        )
        stage_ms = {
            "decode": decode_ms,
            **segmentation.stage_ms,
            "publish": (time.perf_counter() - begun_s) * 1e3,
            "total": (time.monotonic() - image.received_s) * 1e3,
        }
        camera.stream.count_processed(stage_ms, segmentation.batch)


def largest_batch(parameters: NodeParameters, device: str) -> int:
    """How many images may run at once on a device, given by its name: `max_batch`, but at most one for each camera."""
    cameras = len(parameters.cameras)
    if parameters.max_batch == 0:
        return cameras if device.startswith("cuda") else 1
    return min(parameters.max_batch, cameras)
