"""A folder of images, with or without label images, as a bag."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE, IMAGE, RawMessage, serialise_compressed, serialise_image
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.replay.ground_truth import FRAME_NAMES_NOTE, read_mask, with_void
from sdcpc_ros.replay.street_bag import FRAME_ID, GROUND_TRUTH_TOPIC, IMAGE_TOPIC, START_NS
from sdcpc_ros.runtime.git_lfs import pointer_reason

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class FolderBag:
    """Which images become a bag, and how. Raises BagError if there are none, or for a bad rate."""

    folder: Path  #: images, or a folder that holds `images/` and perhaps `labels/` (a CamVid split)
    labels: Path | None = None  #: folder of label images of the same names; None: `labels/` beside `images/`, if any
    rate_hz: float = 15.0
    void: frozenset[int] = frozenset()  #: ids in the label images that are written as 255
    colours: tuple[tuple[int, int, int], ...] = ()  #: RGB of each class, for label images that hold colours
    compressed: bool = False  #: JPEG and PNG files unchanged as CompressedImage, instead of rgb8
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
        files = [(image, None if labels is None else labels / f"{image.stem}.png") for image in image_files(images)]
        present = [(image, label if label is not None and label.is_file() else None) for image, label in files]
        object.__setattr__(self, "files", present)

    @property
    def labelled(self) -> int:
        """How many of the images have a label image."""
        return sum(label is not None for _, label in self.files)

    @property
    def image_topic(self) -> str:
        return f"{IMAGE_TOPIC}/compressed" if self.compressed else IMAGE_TOPIC


def write_folder_bag(
    path: str | Path, folder_bag: FolderBag, *, storage: str = "mcap", on_frame: Callable[[], None] = lambda: None
) -> None:
    """Writes the bag: images (rgb8, or their compressed files), and ground truth (mono8 ids, 255 = void).

    The frames' names go into the bag's metadata. `on_frame` is called after each frame.
    Raises BagError for a file that cannot be read, or labels of another size than their image.
    """
    reader = LabelReader(folder_bag.colours)
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
                ids, size = read_mask(label, reader), pixels.shape
                if ids.shape != size[:2]:
                    raise BagError(
                        f"'{label}' is {ids.shape[1]}x{ids.shape[0]} but its image is {size[1]}x{size[0]}; "
                        "they must be of one size"
                    )
                data = serialise_image(with_void(ids, folder_bag.void), "mono8", time_ns, FRAME_ID)
                bag.write(RawMessage(GROUND_TRUTH_TOPIC, IMAGE, time_ns, data))
            on_frame()


def image_files(folder: Path) -> list[Path]:
    """The images of a folder, see `in_order`. Raises BagError if there is none."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise BagError(f"no images in '{folder}'; files ending in {', '.join(IMAGE_SUFFIXES)} are read")
    return in_order(files)


def in_order(files: Iterable[Path]) -> list[Path]:
    """By name, but numbers in names by their value: `frame_2.png` before `frame_10.png`."""
    return sorted(files, key=lambda path: [(part.isdigit(), part.zfill(20)) for part in re.split(r"(\d+)", path.stem)])


def read_image(path: Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB. Raises BagError if it cannot be decoded."""
    bgr = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if bgr is None:
        reason = pointer_reason(path)
        raise BagError(f"'{path}' is not an image that can be decoded{f': {reason}' if reason else ''}")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
