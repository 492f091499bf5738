"""Ground truth of a bag: a label topic, or a folder of masks that are matched by stamp, name or number."""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.images.label_pictures import BadLabels, LabelReader
from sdcpc_ros.labels.label_set import IGNORE

if TYPE_CHECKING:
    from sdcpc_ros.bags.reader import BagFrame, BagReader

#: The key in a bag's metadata of its frames' names: a JSON list, in the order of the camera's images.
FRAME_NAMES_NOTE = "frame_names"
#: Largest difference between the stamps of a mask and its image.
_STAMP_TOLERANCE_NS = 1_000_000
_LEAST_STAMP_NS = 10**15  # a smaller number is the number of a frame


@dataclass(frozen=True)
class GroundTruth:
    """The source of the truth of each frame."""

    description: str
    #: The class ids (H, W) uint8, 255 = void, of a frame and its number on the topic; None without. Raises BagError.
    of: Callable[[BagFrame, int], np.ndarray | None]
    topic: str | None = None  #: to be read together with the camera's


NO_TRUTH = GroundTruth("none", lambda frame, number: None)


def find_ground_truth(
    wanted: str | None,
    bag: BagReader,
    camera: str,
    void: frozenset[int] = frozenset(),
    reader: LabelReader | None = None,
) -> GroundTruth:
    """The truth for `wanted`: a topic ("/..."), a folder, or "none"; None: the bag's own topic, if any.

    The masks of a folder are PNG files: ids of 8 or 16 bits, palette indices, or the classes' colours. They are matched
    by stamp, to the millisecond, if all names are stamps in nanoseconds (`1700000000066666667.png`) or seconds
    (`1700000000.066667.png`); else by the frames' names in the bag's metadata (from `sdcpc make-bag`), if any; else by
    the number at the end of the name, from 0.

    `void`: ids that mean "no truth" besides 255. `reader` knows the classes' colours, for label images that hold
    colours. Raises BagError if there is no such topic or folder, or its masks cannot be matched.
    """
    reader = reader or LabelReader()
    topic = bag.ground_truth_topic(camera) if wanted is None else wanted
    if topic is None or topic == "none":
        return NO_TRUTH
    if wanted is not None and Path(wanted).is_dir():
        matched_by, mask_of = _match_masks(Path(wanted), bag)

        def read(frame: BagFrame, number: int) -> np.ndarray | None:
            path = mask_of(frame, number)
            return None if path is None else with_void(read_mask(path, reader), void)

        return GroundTruth(f"masks in {Path(wanted).name}/, matched by {matched_by}", read)
    if topic not in bag.topics:
        bag.require_topics([topic] if topic.startswith("/") else [])
        raise BagError(f"no ground truth '{wanted}': neither a topic of the bag, nor a folder of masks, nor 'none'")

    def decode(frame: BagFrame, number: int) -> np.ndarray | None:
        labels = frame.labels(topic, reader)
        return None if labels is None else with_void(labels, void)

    return GroundTruth(f"topic {topic}", decode, topic)


def read_mask(path: Path, reader: LabelReader) -> np.ndarray:
    """A PNG file as (H, W) uint8 class ids, 255 = void. Raises BagError if it cannot be read."""
    try:
        return reader.from_file(path.read_bytes())
    except BadLabels as error:
        raise BagError(f"'{path}' {error}") from error


def with_void(labels: np.ndarray, void: frozenset[int]) -> np.ndarray:
    """The labels with 255 in place of the ids in `void`."""
    return np.where(np.isin(labels, sorted(void)), np.uint8(IGNORE), labels) if void else labels


def _match_masks(folder: Path, bag: BagReader) -> tuple[str, Callable[[BagFrame, int], Path | None]]:
    """How masks are matched (by stamp, name or number), and the mask of a frame and its number."""
    files = {path.stem: path for path in sorted(folder.glob("*.png"))}
    if not files:
        raise BagError(f"the folder of masks '{folder}' holds no .png file")
    stamps = [(_stamp_ns(stem), path) for stem, path in files.items()]
    by_stamp = sorted((stamp, path) for stamp, path in stamps if stamp is not None)
    if len(by_stamp) == len(files):
        return "stamp", lambda frame, number: _at_stamp(by_stamp, frame.stamp_ns)
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
    except ValueError:
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
