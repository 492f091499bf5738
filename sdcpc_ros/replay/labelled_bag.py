"""Writes labelled bags: the camera's topics, and beside each image its mask.

They are mcap bags with compressed chunks. They hold the camera's topics, the ground truth and /tf unchanged, and the
node's outputs for each image under the bag time of the image. Memory does not grow with the bag.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

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
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Sink, Unusable
from sdcpc_ros.replay.sources import BagSettings

_TRANSFORMS = ("/tf", "/tf_static")  # RViz needs them
_OUTPUTS = (LABEL_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC, CLASS_STATISTICS_TOPIC)


def write_labelled_bag(
    path: Path,
    source: Path,
    answers: BagReader,
    answer_topics: Iterable[str],
    frame_times_ns: Mapping[int, int],
    settings: BagSettings,
) -> None:
    """Writes the part of the bag `source` that was played to a node, and the answers of the node.

    An answer gets the bag time of its image (`frame_times_ns`: stamp -> time) instead of its time of arrival. Answers
    with other stamps are left out.
    """

    def in_bag_time(topic: str) -> Iterator[RawMessage]:
        for message in answers.messages(topic):
            time_ns = frame_times_ns.get(message.stamp_ns)
            if time_ns is not None:
                yield replace(message, time_ns=time_ns)

    streams = [in_bag_time(topic) for topic in answer_topics if topic in answers.topics]
    with _copy_of(path, source, settings) as write:
        for message in heapq.merge(*streams, key=lambda message: message.time_ns):
            write(message)


@contextmanager
def labelled_bag_sink(path: Path, source: Path, label_set: LabelSet, settings: BagSettings) -> Iterator[Sink]:
    """Writes the labelled bag of an evaluation of the bag `source`.

    Outputs have the image's header and the node's topic names: label and confidence (mono8), label_info,
    class_statistics. The image of an unusable frame is copied, without labels. Raises BagError when the source cannot
    be read, or a topic to copy has the name of one to write.
    """
    has_label_info = False

    def write(frame: SegmentedFrame | Unusable) -> None:
        nonlocal has_label_info
        if isinstance(frame, Unusable):
            return
        source_frame, result = frame.source, frame.segmentation
        assert source_frame.bag_frame is not None and result.confidence is not None
        header = source_frame.stamp_ns, source_frame.frame_id
        statistics = serialise_class_statistics(result.labels, result.confidence, *header)
        outputs = [
            (LABEL_TOPIC, IMAGE, serialise_image(result.labels, "mono8", *header)),
            (CONFIDENCE_TOPIC, IMAGE, serialise_image(result.confidence, "mono8", *header)),
            (CLASS_STATISTICS_TOPIC, CLASS_STATISTICS, statistics),
        ]
        if not has_label_info or result.reset == "backward":  # as the node does, for subscribers after the jump
            has_label_info = True
            outputs.insert(0, (LABEL_INFO_TOPIC, LABEL_INFO, serialise_label_info(label_set, *header)))
        for topic, message_type, data in outputs:
            copy(RawMessage(topic, message_type, source_frame.bag_frame.camera.time_ns, data))

    with _copy_of(path, source, settings) as copy:
        yield write


@contextmanager
def _copy_of(path: Path, source: Path, settings: BagSettings) -> Iterator[Callable[[RawMessage], None]]:
    """Copies a part of a bag, and adds the messages that the yielded function gets, which come in order of time."""
    with BagReader(source) as bag:
        camera, start_s = bag.camera_topic(settings.camera), settings.start_s
        truth = bag.ground_truth_topic(camera) if settings.truth is None else settings.truth
        wanted = (camera, bag.camera_info_topic(camera), truth, *_TRANSFORMS)
        topics = [topic for topic in dict.fromkeys(wanted) if topic in bag.topics and topic is not None]
        if taken := [topic for topic in topics if topic in _OUTPUTS]:
            raise BagError(f"bag '{source}' has {taken[0]} already, which the labelled bag would have as well")
        latched = [topic for topic in topics if bag.topics[topic].latched]
        inputs = bag.messages(*topics, start_s=start_s, duration_s=settings.duration_s)
        if start_s and latched:  # those from before the start get the time of the start
            start_ns = bag.start_ns + int(start_s * 1e9)
            earlier = bag.messages(*latched, duration_s=start_s)
            inputs = chain((replace(message, time_ns=start_ns) for message in earlier), inputs)
        waiting = next(inputs, None)
        with BagWriter(path, compressed=True, latched={LABEL_INFO_TOPIC, *latched}) as writer:

            def copy_until(time_ns: float) -> None:
                nonlocal waiting
                while waiting is not None and waiting.time_ns <= time_ns:
                    writer.write(waiting, bag.typestore)
                    waiting = next(inputs, None)

            def write(message: RawMessage) -> None:
                copy_until(message.time_ns)
                writer.write(message)

            yield write
            copy_until(math.inf)
