"""`sdcpc view`: pictures and their masks as a Rerun recording; masks that a bag holds, or made here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import IMAGE
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.labels.label_set import LabelSet, label_set_of_ids
from sdcpc_ros.replay.ground_truth import find_ground_truth
from sdcpc_ros.replay.picture_sources import kind_of, picture_source
from sdcpc_ros.replay.prefetch import prefetch
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, SourceFrame, Unusable, bag_frames, segment_frames
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S, break_between
from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter

_LABEL, _CONFIDENCE, _LABEL_INFO = "/label/image_raw", "/confidence/image_raw", "/label/label_info"


@dataclass(frozen=True)
class Masks:
    """Topics of the masks that a bag holds."""

    label: str
    label_info: str
    confidence: str | None

    @classmethod
    def of(cls, bag: BagReader, wanted: str | None = None) -> Masks | None:
        """Those of the wanted label topic, or of the only one; None when there is none.

        Raises BagError when the wanted one is missing, there are several, or the classes' names are not in the bag.
        """
        found = sorted(
            t.name for t in bag.topics.values() if t.type == IMAGE and t.message_count and t.name.endswith(_LABEL)
        )
        if wanted is not None and wanted not in found:
            raise BagError(f"bag '{bag.path}' has no masks on '{wanted}'; it has them on: {', '.join(found) or 'none'}")
        if not found:
            return None
        if wanted is None and len(found) > 1:
            raise BagError(
                f"bag '{bag.path}' has several topics of masks, so one has to be chosen (--labels): {', '.join(found)}"
            )
        label = wanted or found[0]
        base = label.removesuffix(_LABEL)
        if base + _LABEL_INFO not in bag.topics:
            raise BagError(
                f"bag '{bag.path}' has masks on {label}, but no {base}{_LABEL_INFO} that names the classes; "
                "with --model the pictures are segmented anew"
            )
        return cls(label, base + _LABEL_INFO, base + _CONFIDENCE if base + _CONFIDENCE in bag.topics else None)

    def label_set(self, bag: BagReader) -> LabelSet:
        """The classes by name, with the colours of the known label set that has these names. BagError if none came."""
        for message in bag.messages(self.label_info):
            classes = bag.deserialise(message).class_map
            return label_set_of_ids("as recorded", ((entry.class_id, entry.class_name) for entry in classes))
        raise BagError(f"bag '{bag.path}' has no message on {self.label_info}, which names the classes")


def has_masks(path: str) -> bool:
    """Whether this is a bag with masks in it. Raises BagError for a bag that cannot be read."""
    if kind_of(path) != "bag":
        return False
    with BagReader(path) as bag:
        return any(name.endswith(_LABEL) and topic.message_count for name, topic in bag.topics.items())


def view_masks(
    path: str, file: Path | None, *, camera: str | None, labels: str | None, on_frame: Callable[[], None]
) -> int:
    """Show the masks that a bag holds. Returns how many frames were shown; raises BagError or ViewingError."""
    with BagReader(path) as bag:
        masks = Masks.of(bag, labels)
        if masks is None:
            raise BagError(f"bag '{path}' holds no masks")
        label_set, topic = masks.label_set(bag), bag.camera_topic(camera)
        truth = find_ground_truth(None, bag, topic, reader=LabelReader(label_set.colours))
        companions = (masks.label,) if masks.confidence is None else (masks.label, masks.confidence)
        frames = bag_frames(bag, topic, truth, resize_truth=True, companions=companions)
        with closing(prefetch(recorded(frames, masks))) as ahead:
            return _show(ahead, recorder(label_set, Path(path).name, file), on_frame)


def view_pictures(
    path: str,
    file: Path | None,
    segmenter: StreamingSegmenter,
    *,
    camera: str | None,
    images_hz: float | None,
    on_frame: Callable[[], None],
) -> int:
    """Segment pictures of any source and show them. Returns how many; raises BagError or ViewingError."""
    reader = LabelReader(segmenter.label_set.colours)
    with picture_source(path, camera=camera, images_hz=images_hz, truth_reader=reader) as source:
        # As `sdcpc segment`: pictures that come rarer than a second would never be compared.
        frames = segment_frames(segmenter, source.frames, max_gap_s=max(DEFAULT_MAX_GAP_S, 3 / source.rate_hz))
        with closing(prefetch(frames, depth=2)) as ahead:  # recording overlaps the network
            return _show(ahead, recorder(segmenter.label_set, Path(path).name, file), on_frame)


def recorded(frames: Iterable[SourceFrame | Unusable], masks: Masks) -> Iterator[SegmentedFrame | Unusable]:
    """The pictures of a bag with their masks in place of a network's; those without a mask are unusable.

    Where the node, with its default `max_gap`, emptied its memory is worked out again: bags do not tell.
    """
    previous: SourceFrame | None = None
    for frame in frames:
        if isinstance(frame, Unusable):
            yield frame
            continue
        assert frame.bag_frame is not None
        labels = frame.bag_frame.labels(masks.label)
        if labels is None:
            yield Unusable(frame.number, f"image {frame.number} has no mask on {masks.label}")
            continue
        confidence = None if masks.confidence is None else frame.bag_frame.labels(masks.confidence)
        reset = None if previous is None else break_between(previous, frame, DEFAULT_MAX_GAP_S)
        previous = frame
        yield SegmentedFrame(frame, Segmentation(labels, confidence, references=0), reset, elapsed_ms=0.0)


@contextmanager
def recorder(
    label_set: LabelSet, name: str, file: Path | None
) -> Iterator[Callable[[SegmentedFrame | Unusable], None]]:
    """What takes each frame, or why there is none, into a RerunRecording.

    It raises ValueError when a frame's truth and labels cannot be compared.
    """
    from sdcpc_ros.viewing.recording import RerunRecording  # needs rerun-sdk, which evaluations do without

    with RerunRecording(label_set, name, file) as recording:

        def take(frame: SegmentedFrame | Unusable) -> None:
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
                reset=frame.reset,
            )

        yield take


def _show(
    frames: Iterable[SegmentedFrame | Unusable],
    to: AbstractContextManager[Callable[[SegmentedFrame | Unusable], None]],
    on_frame: Callable[[], None],
) -> int:
    shown, problem = 0, ""
    with to as take:
        for frame in frames:
            take(frame)
            shown += isinstance(frame, SegmentedFrame)
            problem = problem or (frame.problem if isinstance(frame, Unusable) else "")
            on_frame()
        if not shown:
            raise BagError(f"there is no picture that can be shown; {problem or 'none came'}")
    return shown
