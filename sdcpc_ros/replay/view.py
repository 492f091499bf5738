"""`sdcpc view`: images and their masks as a Rerun recording; masks that a bag holds, or made here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import IMAGE
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.labels.label_set import LabelSet, label_set_of_ids
from sdcpc_ros.replay.ground_truth import find_ground_truth
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Sink, SourceFrame, Unusable, feed, segment_frames
from sdcpc_ros.replay.sources import BagSettings, bag_frames, kind_of, open_source
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S, break_between
from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter

_LABEL, _CONFIDENCE, _LABEL_INFO = "/label/image_raw", "/confidence/image_raw", "/label/label_info"
_NOTHING = "there is no picture that can be shown"


def has_masks(path: str) -> bool:
    """Whether this is a bag with masks in it. Raises BagError for a bag that cannot be read."""
    if kind_of(path) != "bag":
        return False
    with BagReader(path) as bag:
        return bool(_label_topics(bag))


def view_masks(
    path: str, file: Path | None, *, camera: str | None, labels: str | None, on_frame: Callable[[], None]
) -> int:
    """Shows the masks that a bag holds, on the topic `labels` or the only one.

    Returns how many frames were shown; raises BagError or ViewingError.
    """
    with BagReader(path) as bag:
        label_topic = _label_topic(bag, labels)
        base = label_topic.removesuffix(_LABEL)
        label_set, topic = _recorded_label_set(bag, base + _LABEL_INFO), bag.camera_topic(camera)
        confidence_topic = base + _CONFIDENCE if base + _CONFIDENCE in bag.topics else None
        truth = find_ground_truth(None, bag, topic, reader=LabelReader(label_set.colours))
        companions = (label_topic, confidence_topic)
        frames = bag_frames(bag, topic, truth, BagSettings(resize_truth=True), companions=companions)
        masked = _recorded_frames(frames, label_topic, confidence_topic)
        with rerun_sink(label_set, Path(path).name, file) as show:
            return feed(masked, [show, lambda frame: on_frame()], _NOTHING).frames


def view_source(
    path: str,
    file: Path | None,
    segmenter: StreamingSegmenter,
    *,
    camera: str | None,
    images_hz: float | None,
    on_frame: Callable[[], None],
) -> int:
    """Segments images of any source and shows them. Returns how many; raises BagError or ViewingError."""
    reader = LabelReader(segmenter.label_set.colours)
    with open_source(path, camera=camera, images_hz=images_hz, truth_reader=reader) as source:
        frames = segment_frames(segmenter, source.frames, max_gap_s=source.max_gap_s)
        with rerun_sink(segmenter.label_set, Path(path).name, file) as show:
            return feed(frames, [show, lambda frame: on_frame()], _NOTHING).frames


@contextmanager
def rerun_sink(label_set: LabelSet, name: str, file: Path | None) -> Iterator[Sink]:
    """Adds frames to a RerunRecording, and the problems of unusable ones to its log.

    The sink raises ValueError when a frame's truth and labels cannot be compared.
    """
    from sdcpc_ros.viewing.recording import RerunRecording  # needs rerun-sdk, which evaluations do without

    with RerunRecording(label_set, name, file) as recording:

        def show(frame: SegmentedFrame | Unusable) -> None:
            if isinstance(frame, Unusable):
                recording.note(frame.number, frame.problem)
                return
            source, result = frame.source, frame.segmentation
            recording.add(
                source.number,
                source.stamp_ns,
                result.labels,
                image=source.image,
                confidence=result.confidence,
                truth=source.truth,
                reset=result.reset,
            )

        yield show


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


def _label_topics(bag: BagReader) -> list[str]:
    topics = bag.topics.values()
    return sorted(t.name for t in topics if t.type == IMAGE and t.message_count and t.name.endswith(_LABEL))


def _label_topic(bag: BagReader, wanted: str | None) -> str:
    """The topic of the masks. Raises BagError if the wanted one is missing, or several could be meant."""
    found = _label_topics(bag)
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
    """The classes by name, with the colours of the known label set that has these names. BagError if none came."""
    for message in bag.messages(topic) if topic in bag.topics else ():
        classes = bag.deserialise(message).class_map
        return label_set_of_ids("as recorded", ((entry.class_id, entry.class_name) for entry in classes))
    raise BagError(
        f"bag '{bag.path}' has masks, but no {topic} that names the classes; with --model the pictures are segmented "
        "anew"
    )
