"""Bags as a data set for training and evaluation: camera images, and labels on a topic beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import decode_image, decode_labels
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.storage_files import STORAGE_SUFFIXES
from sdcpc_ros.datasets.image_files import found_in
from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import IGNORE, LabelSet, LabelSetError, read_label_set
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S

LABEL_SET_FILE = "label_set.json"

_LAYOUT = "bags are needed: a .mcap or .db3 file, a folder with metadata.yaml, or a folder of such"
_OPEN_BAGS = 4  #: at a time, in each process
_SEEK_NS = 1000  #: BagReader takes seconds as floating point, with an error of some ns


class _Place(NamedTuple):
    """The positions of a frame's messages: topic, and time of recording in ns from the bag's start."""

    bag: Path
    stamp_ns: int
    image: tuple[str, int]
    labels: tuple[str, int] | None


def open_bags(root: Path, split: str | None, label_set: LabelSet | None = None) -> BagDataset:
    """The bag, or folder of bags, at `root`, or at `root`/`split`.

    The label set is a file label_set.json there or in `root`, as `sdcpc import-weights --label-set` reads it, else
    `label_set`, since bags do not contain it. Raises DatasetError.
    """
    folder = root if split is None else root / split
    bags = [folder] if _is_bag(folder) else sorted(filter(_is_bag, folder.iterdir())) if folder.is_dir() else []
    if not bags:
        raise DatasetError(f"no bag at '{folder}'; {_LAYOUT}; {found_in(folder)}")
    described = [file for file in (folder / LABEL_SET_FILE, root / LABEL_SET_FILE) if file.is_file()]
    if described:
        try:
            label_set = read_label_set(str(described[0]))
        except LabelSetError as error:
            raise DatasetError(str(error)) from error
    if label_set is None:
        raise DatasetError(
            f"bags do not say what their label ids mean; '{root / LABEL_SET_FILE}' is needed, "
            "with name, class_names and colours"
        )
    return BagDataset(bags, label_set, name=f"bag {bags[0].stem}" if len(bags) == 1 else f"bags of {folder.name}")


class BagDataset(VideoDataset):
    """One video for each bag, of its only camera. Frames without a message on the ground-truth topic are unlabelled.

    Opening reads every message's header once; images are read and decoded on request. A stamp earlier than the last
    starts another video, a gap longer than the node's `max_gap` (longer in a slow bag) another run.
    """

    def __init__(self, bags: Sequence[Path], label_set: LabelSet, *, name: str) -> None:
        self._places: list[_Place] = []
        frames: list[VideoFrame] = []
        for path in bags:
            part, last_ns = 1, None
            for place in _explained(_places, path):
                if last_ns is not None and place.stamp_ns < last_ns:
                    part += 1
                last_ns = place.stamp_ns
                video = str(path) if part == 1 else f"{path}, part {part}"
                at = f"at {place.image[1] / 1e9:.3f} s"
                sources = f"the image {at} of bag '{path}'", f"the labels {at} of bag '{path}'"
                labelled = place.labels is not None
                frames.append(VideoFrame(video, place.stamp_ns / 1e9, f"{path.name} {at}", labelled, *sources))
                self._places.append(place)
        self._open: dict[Path, BagReader] = {}
        self._process = os.getpid()
        super().__init__(name, label_set, frames, max_gap_s=_max_gap_s(frames))

    def image(self, index: int) -> np.ndarray:
        place = self._places[index]
        return _explained(self._decoded, place, place.image, decode_image)

    def labels(self, index: int) -> np.ndarray:
        place = self._places[index]
        if place.labels is None:
            raise self.unlabelled(index)
        labels = _explained(self._decoded, place, place.labels, decode_labels)
        strays = np.argwhere((labels >= len(self.label_set)) & (labels != IGNORE))
        if len(strays):
            y, x = strays[0]
            raise DatasetError(
                f"{self.frames[index].labels_source} hold id {labels[y, x]} (first at x {x}, y {y}); "
                f"0 to {len(self.label_set) - 1}, and {IGNORE} for void, are allowed ('{self.label_set.name}')"
            )
        return labels

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # another process opens its own bags

    def _decoded(self, place: _Place, message: tuple[str, int], decoder: Any) -> np.ndarray:
        bag = self._bag(place.bag)
        topic, offset_ns = message
        start_s, duration_s = max(0, offset_ns - _SEEK_NS) / 1e9, 2 * _SEEK_NS / 1e9
        for found in bag.messages(topic, start_s=start_s, duration_s=duration_s):
            if found.time_ns - bag.start_ns == offset_ns and found.stamp_or_time_ns == place.stamp_ns:
                return np.require(bag.decode(found, decoder), requirements="W")  # a copy of a view of the message
        raise BagError(f"bag '{place.bag}' has changed: nothing on {topic} at {offset_ns / 1e9:.3f} s")

    def _bag(self, path: Path) -> BagReader:
        """An open bag. A forked process opens its own, since it would share the file position with its parent."""
        if self._process != os.getpid():
            self._open, self._process = {}, os.getpid()
        if path not in self._open:
            if len(self._open) >= _OPEN_BAGS:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = BagReader(path)
        return self._open[path]


def _places(path: Path) -> list[_Place]:
    with BagReader(path) as bag:
        camera = bag.camera_topic()
        truth = bag.ground_truth_topic(camera)
        if truth is None:
            listed = ", ".join(sorted(bag.topics))
            raise BagError(
                f"bag '{path}' has no labels: a topic of sensor_msgs/Image is needed whose name has a part "
                f"'ground_truth', as /camera/ground_truth; it has {listed}"
            )
        places = []
        with ProgressBar(bag.topics[camera].message_count, f"reading {path.name}") as advance:
            for frame in bag.frames(camera, truth):
                image, labels = frame.camera, frame.companions.get(truth)
                of_labels = None if labels is None else (truth, labels.time_ns - bag.start_ns)
                places.append(_Place(path, image.stamp_or_time_ns, (camera, image.time_ns - bag.start_ns), of_labels))
                advance()
        return _each_once(places)


def _each_once(places: Sequence[_Place]) -> list[_Place]:
    """In the order of recording. An image that was recorded twice in a row is one frame, with its labels if any."""
    in_order = sorted(places, key=lambda place: place.image[1])
    copies = (list(group) for _, group in groupby(in_order, key=lambda place: place.stamp_ns))
    return [next((place for place in reversed(each) if place.labels), each[0]) for each in copies]


def _max_gap_s(frames: Sequence[VideoFrame]) -> float:
    steps = [b.stamp_s - a.stamp_s for a, b in pairwise(frames) if a.video == b.video]
    return max(DEFAULT_MAX_GAP_S, 1.5 * median(steps)) if steps else DEFAULT_MAX_GAP_S


def _is_bag(path: Path) -> bool:
    return (path / "metadata.yaml").is_file() or (path.is_file() and path.suffix in STORAGE_SUFFIXES)


def _explained(function: Any, *arguments: Any) -> Any:
    """Calls a function and raises its BagError as a DatasetError."""
    try:
        return function(*arguments)
    except BagError as error:
        raise DatasetError(str(error)) from error
