"""A folder of images, with or without label images, as a bag: the drive that it was before someone unpacked it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.ground_truth import FRAME_NAMES_NOTE, read_mask
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE, IMAGE, RawMessage, serialise_compressed, serialise_image
from sdcpc_ros.bags.street_bag import FRAME_ID, GROUND_TRUTH_TOPIC, IMAGE_TOPIC, START_NS
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.git_lfs import pointer_reason
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.label_set import IGNORE

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class FolderBag:
    """Which images go into the bag, and as what. Raises BagError when they do not make a drive."""

    folder: Path  #: images, or a folder that holds `images/` and perhaps `labels/` (a CamVid split)
    labels: Path | None = None  #: folder of label images of the same names, None: `labels/` beside `images/` if there
    rate_hz: float = 15.0
    void: frozenset[int] = frozenset()  #: ids in the label images that are written as 255
    colours: tuple[tuple[int, int, int], ...] = ()  #: RGB of each class, for label images that hold colours
    compressed: bool = False  #: JPEG and PNG files as they are, as CompressedImage, rather than rgb8
    files: list[tuple[Path, Path | None]] = field(init=False)  #: image and label image of each frame, in order

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz < float("inf"):
            raise BagError(f"the rate is {self.rate_hz}; a positive number of images a second is needed")
        split = (self.folder / "images").is_dir()
        images = self.folder / "images" if split else self.folder
        labels = self.labels
        if labels is None and split and (self.folder / "labels").is_dir():
            labels = self.folder / "labels"
        for needed in (images, labels):
            if needed is not None and not needed.is_dir():
                raise BagError(f"there is no folder '{needed}'")
        object.__setattr__(self, "files", [(image, _label_of(image, labels)) for image in image_files(images)])

    @property
    def labelled(self) -> int:
        """How many of the images have a label image."""
        return sum(label is not None for _, label in self.files)

    @property
    def image_topic(self) -> str:
        return f"{IMAGE_TOPIC}/compressed" if self.compressed else IMAGE_TOPIC


def write_folder_bag(
    path: str | Path,
    folder_bag: FolderBag,
    *,
    storage: str = "mcap",
    progress: Callable[[int], None] = lambda frames: None,
) -> None:
    """Write the bag: images (rgb8, or as compressed as their files), and ground truth (mono8 ids, 255 = void).

    Names of the frames go into the bag's metadata. `progress` gets the number of frames written so far.
    Raises BagError for a file that cannot be read, or labels of another size than their image.
    """
    names = json.dumps([image.stem for image, _ in folder_bag.files])
    with BagWriter(path, storage=storage, notes={FRAME_NAMES_NOTE: names}) as bag:
        for index, (image, label) in enumerate(folder_bag.files):
            time_ns = START_NS + round(index * 1e9 / folder_bag.rate_hz)
            pixels = read_image(image)
            if folder_bag.compressed:
                kind = "png" if image.suffix.lower() == ".png" else "jpeg"
                data = serialise_compressed(image.read_bytes(), kind, time_ns, FRAME_ID)
                bag.write(RawMessage(folder_bag.image_topic, COMPRESSED_IMAGE, time_ns, data))
            else:
                data = serialise_image(pixels, "rgb8", time_ns, FRAME_ID)
                bag.write(RawMessage(folder_bag.image_topic, IMAGE, time_ns, data))
            if label is not None:
                ids = _labels(label, pixels.shape[:2], folder_bag)
                data = serialise_image(ids, "mono8", time_ns, FRAME_ID)
                bag.write(RawMessage(GROUND_TRUTH_TOPIC, IMAGE, time_ns, data))
            progress(index + 1)


def image_files(folder: Path) -> list[Path]:
    """The images of a folder, those that end in numbers in the order of the numbers. Raises BagError without any."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise BagError(f"no images in '{folder}'; files ending in {', '.join(IMAGE_SUFFIXES)} are read")
    return in_order(files)


def in_order(files: Iterable[Path]) -> list[Path]:
    """By name, but numbers in names by their value: `frame_2.png` before `frame_10.png`."""
    return sorted(files, key=lambda path: [(part.isdigit(), part.zfill(20)) for part in re.split(r"(\d+)", path.stem)])


def read_image(path: Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB. Raises BagError when it cannot be decoded."""
    bgr = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if bgr is None:
        reason = pointer_reason(path)
        raise BagError(f"'{path}' is not an image that can be decoded{f': {reason}' if reason else ''}")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _label_of(image: Path, labels: Path | None) -> Path | None:
    if labels is None:
        return None
    label = labels / f"{image.stem}.png"
    return label if label.is_file() else None


def _labels(path: Path, size: tuple[int, ...], folder_bag: FolderBag) -> np.ndarray:
    labels = read_mask(path, LabelReader(folder_bag.colours))
    if labels.shape != size:
        raise BagError(
            f"'{path}' is {labels.shape[1]}x{labels.shape[0]} but its image is {size[1]}x{size[0]}; "
            "they must be of one size"
        )
    return np.where(np.isin(labels, sorted(folder_bag.void)), np.uint8(IGNORE), labels)
