"""A bag with its labels in it: the camera's topics, and beside each image the masks that were made of it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.frame_join import Reading
from sdcpc_ros.bags.messages import (
    CLASS_STATISTICS,
    IMAGE,
    LABEL_INFO,
    serialise_class_statistics,
    serialise_image,
    serialise_label_info,
)
from sdcpc_ros.bags.node_process import CLASS_STATISTICS_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC, LABEL_TOPIC
from sdcpc_ros.bags.reader import BagReader, RawMessage
from sdcpc_ros.bags.segmented_frames import SegmentedFrame, Unusable
from sdcpc_ros.bags.split_writer import SplitBagWriter
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.label_set import LabelSet

_TRANSFORMS = ("/tf", "/tf_static")  # RViz places nothing without them
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
    """Write `inputs`, messages of the bag `source` in order of time, together with the outputs recorded for them.

    An output is stored under the bag time of the image it was made of (`frame_times_ns`: stamp -> time), not under the
    time it arrived at: played or looked at, image and mask come together. Outputs of other stamps are left out.
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
    """Writes the labelled bag of an evaluation while the frames pass; memory does not grow with the bag.

    It holds the camera's topics, a ground truth on `truth` or of the bag's own, and /tf, as they are; and beside each
    image, under its bag time and header, what the node would publish under its topic's names: label and confidence
    (mono8), label_info, class_statistics. An mcap bag with packed chunks, for label images pack well.

    `cut` tells where it stands; a later writer goes on from there with that as `earlier`, to a bag of the same
    messages. Raises BagError when the bag cannot be read, or a topic to be copied has the name of one to be written,
    StateError when what `earlier` tells of is not there.
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
        earlier: dict[str, Any] | None = None,
    ) -> None:
        self._label_set = label_set
        self._announced = earlier is not None
        with ExitStack() as opened:
            self._bag = opened.enter_context(BagReader(source))
            inputs = _inputs(self._bag, camera, truth)
            if earlier is None:
                self._inputs = self._input_messages(inputs, start_s, duration_s)
            else:
                self._inputs = self._inputs_left(inputs, start_s, duration_s, earlier["left"])
            self._waiting = next(self._inputs, None)
            latched = {topic for topic in inputs if self._bag.topics[topic].latched}
            files = None if earlier is None else earlier["files"]
            self._writer = SplitBagWriter(path, latched={LABEL_INFO_TOPIC, *latched}, earlier=files)
            self._opened = opened.pop_all()

    def watch(self, frame: SegmentedFrame | Unusable) -> None:
        """The next frame. One that could not be used has its image copied, and no labels."""
        if isinstance(frame, Unusable):
            return
        assert frame.source.bag_frame is not None and frame.segmentation.confidence is not None
        time_ns = frame.source.bag_frame.camera.time_ns
        self._copy_inputs(until_ns=time_ns)
        labels, confidence = frame.segmentation.labels, frame.segmentation.confidence
        header = frame.source.stamp_ns, frame.source.frame_id
        if not self._announced or frame.reset == "backward":  # as the node does, for those who came with the jump
            self._announced = True
            self._write(LABEL_INFO_TOPIC, LABEL_INFO, time_ns, serialise_label_info(self._label_set, *header))
        for topic, pixels in ((LABEL_TOPIC, labels), (CONFIDENCE_TOPIC, confidence)):
            self._write(topic, IMAGE, time_ns, serialise_image(pixels, "mono8", *header))
        statistics = serialise_class_statistics(labels, confidence, *header)
        self._write(CLASS_STATISTICS_TOPIC, CLASS_STATISTICS, time_ns, statistics)

    def cut(self) -> dict[str, Any]:
        """Complete the file at hand. Returns, as plain values, what is written and which input comes next."""
        left = None
        if self._waiting is not None:
            reading = self._waiting
            left = {"from_ns": reading.cut_ns, "skip": reading.ordinal - reading.cut_ordinal}
        return {"files": self._writer.cut(), "left": left}

    def _inputs_left(
        self, topics: tuple[str, ...], start_s: float, duration_s: float | None, left: dict[str, int] | None
    ) -> Iterator[Reading]:
        if left is None:
            return iter(())
        inputs = self._bag.readings(*topics, start_s=start_s, duration_s=duration_s, from_ns=left["from_ns"])
        return islice(inputs, left["skip"], None)

    def _input_messages(self, topics: tuple[str, ...], start_s: float, duration_s: float | None) -> Iterator[Reading]:
        """What is to be copied; of latched topics also what was said before the start, as if it were said there."""
        latched = [topic for topic in topics if self._bag.topics[topic].latched]
        start_ns = self._bag.start_ns + int(start_s * 1e9)
        earlier = self._bag.readings(*latched, duration_s=start_s) if start_s and latched else iter(())
        return chain(
            (reading._replace(message=replace(reading.message, time_ns=start_ns)) for reading in earlier),
            self._bag.readings(*topics, start_s=start_s, duration_s=duration_s),
        )

    def _copy_inputs(self, until_ns: int | None) -> None:
        while self._waiting is not None and (until_ns is None or self._waiting.message.time_ns <= until_ns):
            self._writer.write(self._waiting.message, self._bag.typestore)
            self._waiting = next(self._inputs, None)

    def _write(self, topic: str, message_type: str, time_ns: int, data: bytes) -> None:
        self._writer.write(RawMessage(topic, message_type, time_ns, data))

    def __enter__(self) -> LabelledBagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._opened:
            try:
                if error is None:
                    self._copy_inputs(until_ns=None)
            except BaseException:
                self._writer.abort()
                raise
            self._writer.__exit__(kind, error, traceback)


def _inputs(bag: BagReader, camera: str | None, truth: str | None) -> tuple[str, ...]:
    """The topics of a bag that its labelled bag holds too."""
    camera = bag.camera_topic(camera)
    truth_topic = bag.ground_truth_topic(camera) if truth is None else truth
    wanted = (camera, bag.camera_info_topic(camera), truth_topic, *_TRANSFORMS)
    found = tuple(dict.fromkeys(topic for topic in wanted if topic in bag.topics and topic is not None))
    for topic in found:
        if topic in _OUTPUTS:
            raise BagError(f"bag '{bag.path}' has {topic} already, which the labelled bag would have as well")
    return found
