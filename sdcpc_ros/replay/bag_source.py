"""A bag as a source of frames: its camera's images with their ground truth.

Ground truth is a label topic, or a folder of masks that are matched by stamp, name or number.
"""

from __future__ import annotations

import bisect
import json
import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import decode_image, image_encoding
from sdcpc_ros.bags.reader import BagFrame, BagReader
from sdcpc_ros.images.label_pictures import BadLabels, LabelReader, resized_labels
from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.replay.segmented_frames import SourceFrame, Unusable
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S

#: The key in a bag's metadata of its frames' names: a JSON list, in the order of the camera's images.
FRAME_NAMES_NOTE = "frame_names"
#: Largest difference between the stamps of a mask and its image.
_STAMP_TOLERANCE_NS = 1_000_000
_LONGEST_S = 1e10  # in nanoseconds it is beyond all stamps
_LEAST_STAMP_NS = 10**15  # a smaller number is the number of a frame


@dataclass(frozen=True)
class BagSettings:
    """The part of a bag to evaluate, and how. Raises BagError for a value out of range."""

    camera: str | None = None  #: the image topic; None: the only one
    truth: str | None = None  #: a topic, a folder of masks, "none"; None: the bag's own ground truth, if any
    void: tuple[int, ...] = ()  #: ids in the truth that mean "no truth", besides 255
    resize_truth: bool = False  #: a truth of another size is resized to its image, by the nearest pixel
    unknown_colours_are_void: bool = False  #: in a truth in colours, those of no class mean "no truth"
    start_s: float = 0.0
    duration_s: float | None = None
    every: int = 1  #: only every n-th image, from the first one on
    max_gap_s: float = DEFAULT_MAX_GAP_S  #: as the node's parameter max_gap

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < _LONGEST_S:
            raise BagError(f"the start is {self.start_s} s; zero or a positive number below {_LONGEST_S:g} is needed")
        for name, value in (("duration", self.duration_s), ("longest gap", self.max_gap_s)):
            if value is not None and not 0 < value < _LONGEST_S:
                raise BagError(f"the {name} is {value} s; a positive number below {_LONGEST_S:g} is needed")
        if self.every < 1:
            raise BagError(f"every n-th image: n is {self.every}; a whole number of 1 or more is needed")
        check_void(self.void)


@dataclass(frozen=True)
class GroundTruth:
    """The source of the truth of each frame."""

    description: str
    #: The class ids (H, W) uint8, 255 = void, of a frame and its number on the topic; None without. Raises BagError.
    of: Callable[[BagFrame, int], np.ndarray | None]
    topic: str | None = None  #: to be read together with the camera's
    masks: tuple[str, ...] = ()  #: the names of the files in a folder of masks


class BagSource:
    """The camera of an open bag, its ground truth, and the part of it that the settings choose.

    `class_colours`: RGB of each class, for a truth in colours. Raises BagError if the bag lacks the camera or the truth
    that the settings name, if no mask of a folder belongs to an image, and if `settings.every` leaves only one image,
    which is no stream.
    """

    def __init__(
        self,
        bag: BagReader,
        settings: BagSettings | None = None,
        class_colours: tuple[tuple[int, int, int], ...] = (),
    ) -> None:
        self.bag, self.settings = bag, settings or BagSettings()
        self.camera = bag.camera_topic(self.settings.camera)
        reader = LabelReader(class_colours, self.settings.unknown_colours_are_void)
        self.truth = _find_ground_truth(self.settings.truth, bag, self.camera, reader)
        images, every = bag.topics[self.camera].message_count, self.settings.every
        if every > 1 and every >= images:
            raise BagError(
                f"bag '{bag.path}', every n-th image: n is {every}; a whole number of 1 to {max(1, images - 1)} "
                f"is allowed, as {self.camera} has {images} images"
            )
        if self.truth.masks:
            self._require_a_mask()

    def _require_a_mask(self) -> None:
        """Raises BagError if no image has a mask. It reads the bag up to the first image that has one."""
        settings, masks, stamps_ns = self.settings, self.truth.masks, list[int]()
        found = self.bag.frames(self.camera, start_s=settings.start_s, duration_s=settings.duration_s)
        for number, frame in enumerate(found):
            stamps_ns.append(frame.camera.stamp_or_time_ns)
            if number % settings.every == 0 and self.truth.of(frame, number) is not None:
                return
        if stamps_ns:
            raise BagError(
                f"bag '{self.bag.path}': no image has a mask of the {self.truth.description}; these are named "
                f"'{masks[0]}' to '{masks[-1]}', the images have the numbers 0 to {len(stamps_ns) - 1} and the stamps "
                f"{min(stamps_ns)} to {max(stamps_ns)}"
            )

    @property
    def expected(self) -> int:
        """The number of images: exact for a whole bag, an estimate for a part of it."""
        images, whole_s = self.bag.topics[self.camera].message_count, self.bag.duration_s
        start_s, duration_s = self.settings.start_s, self.settings.duration_s
        if whole_s > 0 and (start_s > 0 or duration_s is not None):
            left_s = max(0.0, whole_s - start_s)
            images = round(images * min(left_s, left_s if duration_s is None else duration_s) / whole_s)
        return math.ceil(images / self.settings.every)

    def frames(self, *companions: str | None) -> Iterator[SourceFrame | Unusable]:
        """The images in order. Those that `settings.every` skips are not decoded and keep their numbers.

        `companions`: further topics, whose messages come with the `bag_frame` of each image. Raises BagError for a
        truth of another size than its image without `settings.resize_truth`.
        """
        start_s, duration_s, number = self.settings.start_s, self.settings.duration_s, -1
        found = self.bag.frames(self.camera, self.truth.topic, *companions, start_s=start_s, duration_s=duration_s)
        for number, frame in enumerate(found):
            if number % self.settings.every:
                continue
            try:
                image, frame_id, encoding = self.bag.decode(frame.camera, _decode)
            except BagError as error:
                yield Unusable(number, str(error))
                continue
            truth = self.truth.of(frame, number)
            if truth is not None:
                truth = with_void(self._fit(truth, image.shape[:2], number), self.settings.void)
            yield SourceFrame(number, frame.stamp_ns, image, frame_id, encoding, truth, frame)
        # Of a damaged chunk rosbags skips messages without an error.
        held, listed = number + 1, self.bag.topics[self.camera].message_count
        if start_s == 0 and duration_s is None and held < listed:
            yield Unusable(held, f"bag '{self.bag.path}' holds {held} of the {listed} images that its index counts")

    def _fit(self, truth: np.ndarray, size: tuple[int, ...], number: int) -> np.ndarray:
        """The truth at the size (height, width) of its image."""
        if truth.shape == size:
            return truth
        name = f"bag '{self.bag.path}': the truth of image {number}"
        if not self.settings.resize_truth:
            raise BagError(
                f"{name} is {truth.shape[1]}x{truth.shape[0]} and the image {size[1]}x{size[0]}; they must be of one "
                "size (`--resize-truth` resizes the truth, by the nearest pixel)"
            )
        try:
            return resized_labels(truth, (size[0], size[1]))
        except BadLabels as error:
            raise BagError(f"{name} {error}") from error


def _decode(message: Any) -> tuple[np.ndarray, str, str]:
    # PyTorch takes no view of a bag's read-only bytes, so such an image is copied.
    image = np.require(decode_image(message), requirements="W")
    return image, str(message.header.frame_id), image_encoding(message)


def _find_ground_truth(wanted: str | None, bag: BagReader, camera: str, reader: LabelReader) -> GroundTruth:
    """The truth for `wanted`, as `BagSettings.truth`.

    The masks of a folder are PNG files: ids of 8 or 16 bits, palette indices, or the classes' colours. They are matched
    by stamp, to the millisecond, if all names are stamps in nanoseconds (`1700000000066666667.png`) or seconds
    (`1700000000.066667.png`); else by the frames' names in the bag's metadata (from `sdcpc make-bag`), if any; else by
    the number at the end of the name, from 0.
    """
    topic = bag.ground_truth_topic(camera) if wanted is None else wanted
    if topic is None or topic == "none":
        return GroundTruth("none", lambda frame, number: None)
    if wanted is not None and Path(wanted).is_dir():
        matched_by, mask_of = _match_masks(Path(wanted), bag)

        def read(frame: BagFrame, number: int) -> np.ndarray | None:
            path = mask_of(frame, number)
            return None if path is None else read_mask(path, reader)

        names = tuple(sorted(path.name for path in Path(wanted).glob("*.png")))
        return GroundTruth(f"masks in {Path(wanted).name}/, matched by {matched_by}", read, masks=names)
    if topic not in bag.topics:
        bag.require_topics([topic] if topic.startswith("/") else [])
        raise BagError(f"no ground truth '{wanted}': neither a topic of the bag, nor a folder of masks, nor 'none'")
    return GroundTruth(f"topic {topic}", lambda frame, number: frame.labels(topic, reader), topic)


def read_mask(path: Path, reader: LabelReader) -> np.ndarray:
    """A PNG file as (H, W) uint8 class ids, 255 = void. Raises BagError if it cannot be read."""
    try:
        return reader.from_file(path.read_bytes())
    except BadLabels as error:
        raise BagError(f"'{path}' {error}") from error


def check_void(void: Collection[int]) -> None:
    """Raises BagError for an id that no label image can hold."""
    if any(not 0 <= label <= 255 for label in void):
        raise BagError(f"void ids are {sorted(void)}; 0 to 255 are allowed")


def with_void(labels: np.ndarray, void: Collection[int]) -> np.ndarray:
    """The labels with 255 in place of the ids in `void`."""
    return np.where(np.isin(labels, list(void)), np.uint8(IGNORE), labels) if void else labels


def _match_masks(folder: Path, bag: BagReader) -> tuple[str, Callable[[BagFrame, int], Path | None]]:
    """How masks are matched (by stamp, name or number), and the mask of a frame and its number."""
    files = {path.stem: path for path in sorted(folder.glob("*.png"))}
    if not files:
        raise BagError(f"the folder of masks '{folder}' holds no .png file")
    stamps = [(_stamp_ns(stem), path) for stem, path in files.items()]
    by_stamp = sorted((stamp, path) for stamp, path in stamps if stamp is not None)
    if len(by_stamp) == len(files):
        return "stamp", lambda frame, number: _at_stamp(by_stamp, frame.camera.stamp_or_time_ns)
    names = _frame_names(bag)
    if not files.keys().isdisjoint(names):
        return "name", lambda frame, number: files.get(names[number]) if number < len(names) else None
    numbered: dict[int, Path] = {}
    for path in files.values():
        match = re.search(r"(\d+)$", path.stem)
        if match is None:
            raise BagError(f"the mask '{path}' is named by neither a stamp nor a frame's name nor a number")
        first = numbered.setdefault(int(match[1]), path)
        if first is not path:
            raise BagError(f"the masks '{first.name}' and '{path.name}' are both for image {int(match[1])}")
    return "number", lambda frame, number: numbered.get(number)


def _at_stamp(by_stamp: list[tuple[int, Path]], stamp_ns: int) -> Path | None:
    at = bisect.bisect_left(by_stamp, stamp_ns, key=lambda entry: entry[0])
    near = by_stamp[max(0, at - 1) : at + 1]
    distance, path = min((abs(stamp - stamp_ns), path) for stamp, path in near)
    return path if distance <= _STAMP_TOLERANCE_NS else None


def _stamp_ns(stem: str) -> int | None:
    """`1700000000066666667` and `1700000000.066667` in ns, None for any other name."""
    match = re.fullmatch(r"(\d+)(?:[._](\d{1,9}))?", stem)
    if match is None:
        return None
    whole, fraction = match.groups()
    stamp = int(whole) if fraction is None else int(whole) * 10**9 + int(fraction.ljust(9, "0"))
    return stamp if stamp >= _LEAST_STAMP_NS else None


def _frame_names(bag: BagReader) -> list[str]:
    try:
        names = json.loads(bag.custom_data.get(FRAME_NAMES_NOTE, "[]"))
    except (TypeError, ValueError, RecursionError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
