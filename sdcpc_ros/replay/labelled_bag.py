"""Writes labelled bags: the camera's topics, and beside each image its mask."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import (
    CLASS_STATISTICS,
    IMAGE,
    LABEL_INFO,
    RawMessage,
    serialise_class_statistics,
    serialise_image,
    serialise_label_info,
)
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.replay.node_process import CLASS_STATISTICS_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC, LABEL_TOPIC
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Unusable

_TRANSFORMS = ("/tf", "/tf_static")  # RViz needs them
_OUTPUTS = (LABEL_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC, CLASS_STATISTICS_TOPIC)


def write_labelled_bag(
    path: str | Path,
    inputs: Iterable[RawMessage],
    outputs: BagReader,
    output_topics: Iterable[str],
    frame_times_ns: Mapping[int, int],
    *,
    source: BagReader,
) -> None:
    """Writes `inputs`, messages of the bag `source` in order of time, and the outputs that were recorded for them.

    An output gets the bag time of its image (`frame_times_ns`: stamp -> time) instead of its time of arrival, so that
    image and mask come together. Outputs with other stamps are left out.
    """
    outputs_in_bag_time = [
        _in_bag_time(outputs.messages(topic), frame_times_ns) for topic in output_topics if topic in outputs.topics
    ]
    with BagWriter(path) as bag:
        for message in heapq.merge(inputs, *outputs_in_bag_time, key=lambda message: message.time_ns):
            bag.write(message, source.typestore if message.topic in source.topics else outputs.typestore)


def _in_bag_time(messages: Iterable[RawMessage], frame_times_ns: Mapping[int, int]) -> Iterator[RawMessage]:
    for message in messages:
        time_ns = frame_times_ns.get(message.stamp_ns)
        if time_ns is not None:
            yield replace(message, time_ns=time_ns)


class LabelledBagWriter:
    """Writes the labelled bag of an evaluation frame by frame; memory does not grow with the bag.

    The bag holds the camera's topics, the ground truth (`truth`, or the bag's own) and /tf unchanged; and beside each
    image, under its bag time and header, what the node would publish under its topic names: label and confidence
    (mono8), label_info, class_statistics. It is an mcap bag with compressed chunks. Raises BagError when the source
    cannot be read, or a topic to copy has the name of one to write.
    """

    def __init__(
        self,
        path: Path,
        source: Path,
        label_set: LabelSet,
        *,
        camera: str | None = None,
        truth: str | None = None,
        start_s: float = 0.0,
        duration_s: float | None = None,
    ) -> None:
        self._label_set = label_set
        self._has_label_info = False
        with ExitStack() as opened:
            self._bag = opened.enter_context(BagReader(source))
            topics = _inputs(self._bag, camera, truth)
            self._inputs = self._input_messages(topics, start_s, duration_s)
            self._waiting = next(self._inputs, None)
            latched = {topic for topic in topics if self._bag.topics[topic].latched}
            self._writer = BagWriter(path, compressed=True, latched={LABEL_INFO_TOPIC, *latched})
            opened.push(self._writer)
            self._opened = opened.pop_all()

    def write(self, frame: SegmentedFrame | Unusable) -> None:
        """Writes the next frame. The image of an unusable one is copied, without labels."""
        if isinstance(frame, Unusable):
            return
        assert frame.source.bag_frame is not None and frame.segmentation.confidence is not None
        time_ns = frame.source.bag_frame.camera.time_ns
        self._copy_inputs(until_ns=time_ns)
        labels, confidence = frame.segmentation.labels, frame.segmentation.confidence
        header = frame.source.stamp_ns, frame.source.frame_id
        if not self._has_label_info or frame.reset == "backward":  # as the node does, for subscribers after the jump
            self._has_label_info = True
            self._write(LABEL_INFO_TOPIC, LABEL_INFO, time_ns, serialise_label_info(self._label_set, *header))
        for topic, pixels in ((LABEL_TOPIC, labels), (CONFIDENCE_TOPIC, confidence)):
            self._write(topic, IMAGE, time_ns, serialise_image(pixels, "mono8", *header))
        statistics = serialise_class_statistics(labels, confidence, *header)
        self._write(CLASS_STATISTICS_TOPIC, CLASS_STATISTICS, time_ns, statistics)

    def _input_messages(
        self, topics: tuple[str, ...], start_s: float, duration_s: float | None
    ) -> Iterator[RawMessage]:
        """The messages to copy; those of latched topics from before the start get the time of the start."""
        latched = [topic for topic in topics if self._bag.topics[topic].latched]
        start_ns = self._bag.start_ns + int(start_s * 1e9)
        earlier = self._bag.messages(*latched, duration_s=start_s) if start_s and latched else iter(())
        return chain(
            (replace(message, time_ns=start_ns) for message in earlier),
            self._bag.messages(*topics, start_s=start_s, duration_s=duration_s),
        )

    def _copy_inputs(self, until_ns: int | None) -> None:
        while self._waiting is not None and (until_ns is None or self._waiting.time_ns <= until_ns):
            self._writer.write(self._waiting, self._bag.typestore)
            self._waiting = next(self._inputs, None)

    def _write(self, topic: str, message_type: str, time_ns: int, data: bytes) -> None:
        self._writer.write(RawMessage(topic, message_type, time_ns, data))

    def __enter__(self) -> LabelledBagWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            with self._opened:
                self._copy_inputs(until_ns=None)
        else:
            self._opened.__exit__(*error)


def _inputs(bag: BagReader, camera: str | None, truth: str | None) -> tuple[str, ...]:
    """The topics that are copied."""
    camera = bag.camera_topic(camera)
    truth_topic = bag.ground_truth_topic(camera) if truth is None else truth
    wanted = (camera, bag.camera_info_topic(camera), truth_topic, *_TRANSFORMS)
    found = tuple(dict.fromkeys(topic for topic in wanted if topic in bag.topics and topic is not None))
    for topic in found:
        if topic in _OUTPUTS:
            raise BagError(f"bag '{bag.path}' has {topic} already, which the labelled bag would have as well")
    return found
