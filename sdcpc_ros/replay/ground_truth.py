"""Ground truth of a bag: a label topic, or a folder of masks that are matched by stamp, name or number."""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagFrame, BagReader
from sdcpc_ros.images.label_pictures import BadLabels, LabelReader
from sdcpc_ros.labels.label_set import IGNORE

#: The key in a bag's metadata of its frames' names: a JSON list, in the order of the camera's images.
FRAME_NAMES_NOTE = "frame_names"
#: Largest difference between the stamps of a mask and its image.
_STAMP_TOLERANCE_NS = 1_000_000
_LEAST_STAMP_NS = 10**15  # a smaller number is the number of a frame


class GroundTruth(Protocol):
    """The source of the truth of each frame."""

    @property
    def topic(self) -> str | None: ...  # read together with the camera's

    @property
    def description(self) -> str: ...

    def of(self, frame: BagFrame, number: int) -> np.ndarray | None:
        """(H, W) uint8 class ids, 255 = void, of image `number` of the camera; None without. Raises BagError."""
        ...


@dataclass(frozen=True)
class TopicTruth:
    """Label images on a topic of the bag, with the stamps of the camera's images."""

    topic: str
    void: frozenset[int] = frozenset()
    reader: LabelReader = field(default_factory=LabelReader)

    @property
    def description(self) -> str:
        return f"topic {self.topic}"

    def of(self, frame: BagFrame, number: int) -> np.ndarray | None:
        labels = frame.labels(self.topic, self.reader)
        return None if labels is None else with_void(labels, self.void)


class MaskFolder:
    """PNG masks named for the images they belong to: ids of 8 or 16 bits, palette indices, or the classes' colours.

    They are matched by stamp, to the millisecond, if all names are stamps in nanoseconds (`1700000000066666667.png`) or
    seconds (`1700000000.066667.png`); else by the frames' names in the bag's metadata (from `sdcpc make-bag`), if any;
    else by the number at the end of the name, from 0. Raises BagError if there is no mask, or a name has no number.
    """

    topic = None

    def __init__(
        self, folder: Path, bag: BagReader, void: frozenset[int] = frozenset(), reader: LabelReader | None = None
    ) -> None:
        self.folder, self._void, self._reader = folder, void, reader or LabelReader()
        files = {path.stem: path for path in sorted(folder.glob("*.png"))}
        if not files:
            raise BagError(f"the folder of masks '{folder}' holds no .png file")
        self._by_number: dict[int, Path] = {}
        self._by_stamp: list[tuple[int, Path]] = []
        stamps = {stem: _stamp_ns(stem) for stem in files}
        names = _frame_names(bag)
        if all(stamp is not None for stamp in stamps.values()):
            self.matched_by = "stamp"
            self._by_stamp = sorted((stamp, files[stem]) for stem, stamp in stamps.items() if stamp is not None)
        elif names and not files.keys().isdisjoint(names):
            self.matched_by = "name"
            self._by_number = {number: files[name] for number, name in enumerate(names) if name in files}
        else:
            self.matched_by = "number"
            self._by_number = _numbered(files.values())

    @property
    def description(self) -> str:
        return f"masks in {self.folder.name}/, matched by {self.matched_by}"

    def of(self, frame: BagFrame, number: int) -> np.ndarray | None:
        path = self._at_stamp(frame.stamp_ns) if self._by_stamp else self._by_number.get(number)
        return None if path is None else with_void(read_mask(path, self._reader), self._void)

    def _at_stamp(self, stamp_ns: int) -> Path | None:
        at = bisect.bisect_left(self._by_stamp, stamp_ns, key=lambda entry: entry[0])
        near = self._by_stamp[max(0, at - 1) : at + 1]
        if not near:
            return None
        distance, path = min((abs(stamp - stamp_ns), path) for stamp, path in near)
        return path if distance <= _STAMP_TOLERANCE_NS else None


@dataclass(frozen=True)
class NoTruth:
    """There is no ground truth."""

    topic: str | None = None
    description: str = "none"

    def of(self, frame: BagFrame, number: int) -> np.ndarray | None:
        return None


def find_ground_truth(
    wanted: str | None,
    bag: BagReader,
    camera: str,
    void: frozenset[int] = frozenset(),
    reader: LabelReader | None = None,
) -> GroundTruth:
    """The truth for `wanted`: a topic ("/..."), a folder, or "none"; None: the bag's own topic, if any.

    `void`: ids that mean "no truth" besides 255. `reader` knows the classes' colours, for label images that hold
    colours. Raises BagError if there is no such topic or folder.
    """
    reader = reader or LabelReader()
    if wanted is None:
        topic = bag.ground_truth_topic(camera)
        return NoTruth() if topic is None else TopicTruth(topic, void, reader)
    if wanted == "none":
        return NoTruth()
    if Path(wanted).is_dir():
        return MaskFolder(Path(wanted), bag, void, reader)
    if wanted in bag.topics:
        return TopicTruth(wanted, void, reader)
    bag.require_topics([wanted] if wanted.startswith("/") else [])
    raise BagError(f"no ground truth '{wanted}': neither a topic of the bag, nor a folder of masks, nor 'none'")


def read_mask(path: Path, reader: LabelReader | None = None) -> np.ndarray:
    """A PNG file as (H, W) uint8 class ids, 255 = void. Raises BagError if it cannot be read."""
    try:
        return (reader or LabelReader()).from_file(path.read_bytes())
    except BadLabels as error:
        raise BagError(f"'{path}' {error}") from error


def with_void(labels: np.ndarray, void: frozenset[int]) -> np.ndarray:
    """The labels with 255 in place of the ids in `void`."""
    return np.where(np.isin(labels, sorted(void)), np.uint8(IGNORE), labels) if void else labels


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
    except ValueError:
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _numbered(files: Iterable[Path]) -> dict[int, Path]:
    numbered: dict[int, Path] = {}
    for path in files:
        match = re.search(r"(\d+)$", path.stem)
        if match is None:
            raise BagError(f"the mask '{path}' is named by neither a stamp nor a frame's name nor a number")
        number = int(match[1])
        if number in numbered:
            raise BagError(f"the masks '{numbered[number].name}' and '{path.name}' are both for image {number}")
        numbered[number] = path
    return numbered
