"""Labelled bags: the camera's topics, and beside each image its mask. Writes them, and reads their masks back.

They are mcap bags with compressed chunks. They hold the camera's topics, the ground truth and /tf unchanged, and the
node's outputs for each image under the bag time of the image. Memory does not grow with the bag.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
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
from sdcpc_ros.labels.label_set import LabelSet, label_set_of_ids
from sdcpc_ros.replay.bag_source import BagSettings, BagSource
from sdcpc_ros.replay.live_run import LiveRun
from sdcpc_ros.replay.node_process import CLASS_STATISTICS_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC, LABEL_TOPIC
from sdcpc_ros.replay.segment import NOTHING_SHOWN, rerun_sink
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Sink, SourceFrame, Unusable, feed
from sdcpc_ros.replay.sources import kind_of
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S, break_between
from sdcpc_ros.streaming.segmenter import Segmentation

_TRANSFORMS = ("/tf", "/tf_static")  # RViz needs them
_LABEL, _CONFIDENCE, _LABEL_INFO = "/label/image_raw", "/confidence/image_raw", "/label/label_info"
_OUTPUTS = (LABEL_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC, CLASS_STATISTICS_TOPIC)


def write_labelled_bag(path: Path, source: BagSource, run: LiveRun, answers: BagReader) -> None:
    """Writes the part of a bag that was played to a node, and the masks and confidences that the node answered.

    An answer gets the bag time of its image instead of its time of arrival. Answers with other stamps are left out.
    """

    def in_bag_time(topic: str) -> Iterator[RawMessage]:
        for message in answers.messages(topic):
            time_ns = run.bag_times_ns.get(message.stamp_ns)
            if time_ns is not None:
                yield replace(message, time_ns=time_ns)

    streams = [in_bag_time(topic) for topic in (run.topics.label, run.topics.confidence) if topic in answers.topics]
    with _copy_of(path, source.bag.path, source.settings) as write:
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
        part, start_s = BagSource(bag, settings), settings.start_s
        wanted = (part.camera, bag.camera_info_topic(part.camera), part.truth.topic, *_TRANSFORMS)
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


def has_masks(path: str) -> bool:
    """Whether this is a bag with masks in it. Raises BagError for a bag that cannot be read."""
    if kind_of(path) != "bag":
        return False
    with BagReader(path) as bag:
        return bool(_mask_topics(bag))


def view_masks(
    path: str, file: Path | None, *, camera: str | None, labels: str | None, on_frame: Callable[[], None]
) -> int:
    """Shows the masks that a bag holds in Rerun, on the topic `labels` or the only one.

    Returns how many frames were shown; raises BagError or ViewingError.
    """
    with BagReader(path) as bag:
        label_topic = _label_topic(bag, labels)
        base = label_topic.removesuffix(_LABEL)
        label_set = _recorded_label_set(bag, base + _LABEL_INFO)
        confidence_topic = base + _CONFIDENCE if base + _CONFIDENCE in bag.topics else None
        source = BagSource(bag, BagSettings(camera, resize_truth=True), label_set.colours)
        frames = _recorded_frames(source.frames(label_topic, confidence_topic), label_topic, confidence_topic)
        with rerun_sink(label_set, Path(path).name, file) as show:
            return feed(frames, [show, lambda frame: on_frame()], NOTHING_SHOWN).frames


def _recorded_frames(
    frames: Iterable[SourceFrame | Unusable], label_topic: str, confidence_topic: str | None
) -> Iterator[SegmentedFrame | Unusable]:
    """The images of a bag with their recorded masks; those without a mask are unusable.

    Bags do not say where the node reset its memory, so this is computed again with the node's default `max_gap`.
    """
    previous: SourceFrame | None = None
    for frame in frames:
        if isinstance(frame, Unusable):
            yield frame
            continue
        assert frame.bag_frame is not None
        labels = frame.bag_frame.labels(label_topic)
        if labels is None:
            yield Unusable(frame.number, f"image {frame.number} has no mask on {label_topic}")
            continue
        confidence = None if confidence_topic is None else frame.bag_frame.labels(confidence_topic)
        reset = None if previous is None else break_between(previous, frame, DEFAULT_MAX_GAP_S)
        previous = frame
        yield SegmentedFrame(frame, Segmentation(labels, confidence, references=0, reset=reset))


def _mask_topics(bag: BagReader) -> list[str]:
    topics = bag.topics.values()
    return sorted(t.name for t in topics if t.type == IMAGE and t.message_count and t.name.endswith(_LABEL))


def _label_topic(bag: BagReader, wanted: str | None) -> str:
    """The topic of the masks. Raises BagError if the wanted one is missing, or several could be meant."""
    found = _mask_topics(bag)
    if wanted is not None and wanted not in found:
        raise BagError(f"bag '{bag.path}' has no masks on '{wanted}'; it has them on: {', '.join(found) or 'none'}")
    if not found:
        raise BagError(f"bag '{bag.path}' holds no masks")
    if wanted is None and len(found) > 1:
        raise BagError(
            f"bag '{bag.path}' has several topics of masks, so one has to be chosen (--labels): {', '.join(found)}"
        )
    return wanted or found[0]


def _recorded_label_set(bag: BagReader, topic: str) -> LabelSet:
    """The classes by name, with the colours of the known label set that has these names."""
    for message in bag.messages(topic) if topic in bag.topics else ():
        classes = bag.decode(message, lambda info: [(entry.class_id, entry.class_name) for entry in info.class_map])
        return label_set_of_ids("as recorded", classes)
    raise BagError(
        f"bag '{bag.path}' has masks, but no {topic} that names the classes; with --model the pictures are segmented "
        "anew"
    )
