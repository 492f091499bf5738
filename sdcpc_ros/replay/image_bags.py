"""Bags of images that were not recorded: of the synthetic street, and of folders of images with or without labels."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    RawMessage,
    serialise_camera_info,
    serialise_compressed,
    serialise_image,
)
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.datasets.image_files import read_image
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.images.compressed_headers import read_header
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.replay.bag_source import FRAME_NAMES_NOTE, check_void, read_mask, with_void
from sdcpc_ros.replay.sources import image_files

IMAGE_TOPIC = "/camera/image_raw"
CAMERA_INFO_TOPIC = "/camera/camera_info"
GROUND_TRUTH_TOPIC = "/camera/ground_truth"
FRAME_ID = "camera_optical_frame"
#: The time of the first frame. It is fixed, so that the same street is the same bag.
START_NS = 1_700_000_000_000_000_000
_PARAMETERS_NOTE, _CHECKSUM_NOTE = "synthetic_street", "first_frame_crc32"  # keys in the bag's metadata


@dataclass(frozen=True)
class StreetBag:
    """The parameters of a street and its camera."""

    seed: int = 19  #: training uses seeds from 1000 up
    size: tuple[int, int] = (360, 480)  #: (height, width), px
    length: int = 150  #: frames
    rate_hz: float = 15.0

    def street(self) -> SyntheticStreet:
        return SyntheticStreet(**vars(self))

    def notes(self) -> dict[str, str]:
        """For the bag's metadata: the parameters, and a checksum that changes when the renderer does."""
        image, labels = self.street()[0]
        checksum = zlib.crc32(image.tobytes() + labels.tobytes())
        return {_PARAMETERS_NOTE: json.dumps(asdict(self)), _CHECKSUM_NOTE: str(checksum)}


def image_message(topic: str, pixels: np.ndarray, time_ns: int) -> RawMessage:
    """The camera's image (H, W, 3) uint8 RGB, or labels (H, W) uint8, recorded at the time of its stamp."""
    encoding = "rgb8" if pixels.ndim == 3 else "mono8"
    return RawMessage(topic, IMAGE, time_ns, serialise_image(pixels, encoding, time_ns, FRAME_ID))


def write_street_bag(path: str | Path, street_bag: StreetBag, *, on_frame: Callable[[], None] = lambda: None) -> None:
    """Renders a street into a bag: images (rgb8), camera_info and ground truth (mono8 class ids, 255 = void).

    `on_frame` is called after each frame. Raises BagError if `path` cannot become a bag.
    """
    street = street_bag.street()
    with BagWriter(path, notes=street_bag.notes()) as bag:
        for index in range(len(street)):
            stamp_ns = START_NS + round(index * 1e9 / street_bag.rate_hz)
            image, labels = street[index]
            info = serialise_camera_info(street_bag.size, street.camera.matrix, stamp_ns, FRAME_ID)
            bag.write(RawMessage(CAMERA_INFO_TOPIC, CAMERA_INFO, stamp_ns, info))
            bag.write(image_message(IMAGE_TOPIC, image, stamp_ns))
            bag.write(image_message(GROUND_TRUTH_TOPIC, labels, stamp_ns))
            on_frame()


def is_street_bag(path: str | Path, street_bag: StreetBag) -> bool:
    """Whether `path` is a readable bag of this street, as the current renderer draws it."""
    try:
        with BagReader(path) as bag:
            return bag.custom_data == street_bag.notes()
    except BagError:
        return False


def list_frames(folder: Path, labels: Path | None = None) -> list[tuple[Path, Path | None]]:
    """The image and label image of each frame, in order.

    `folder`: images, or a folder that holds `images/` and perhaps `labels/` (a CamVid split). `labels`: folder of label
    images of the same names; None: `labels/` beside `images/`, if any. Raises BagError for a missing folder, and if
    there is no image.
    """
    split = (folder / "images").is_dir()
    images = folder / "images" if split else folder
    if labels is None and split and (folder / "labels").is_dir():
        labels = folder / "labels"
    for needed in (images, labels):
        if needed is not None and not needed.is_dir():
            raise BagError(f"there is no folder '{needed}'")
    candidates = [(image, None if labels is None else labels / f"{image.stem}.png") for image in image_files(images)]
    return [(image, label if label is not None and label.is_file() else None) for image, label in candidates]


def write_folder_bag(
    path: str | Path,
    frames: Sequence[tuple[Path, Path | None]],
    *,
    rate_hz: float = 15.0,
    void: frozenset[int] = frozenset(),
    colours: tuple[tuple[int, int, int], ...] = (),
    compressed: bool = False,
    storage: str = "mcap",
    on_frame: Callable[[], None] = lambda: None,
) -> str:
    """Writes the frames of `list_frames` and returns the topic of the images.

    Images are rgb8, or with `compressed` their JPEG and PNG files unchanged as CompressedImage; ground truth is mono8
    ids, 255 = void. The frames' names go into the bag's metadata. `void`: ids in the label images that are written as
    255. `colours`: RGB of each class, for label images that hold colours. `on_frame` is called after each frame.
    Raises BagError for a bad rate or void id, and for label images that cannot be read or are not of the size of their
    image; DatasetError for an image that cannot be read.
    """
    if not 1e-3 <= rate_hz <= 1e4:
        raise BagError(f"the rate is {rate_hz}; 0.001 to 10000 images a second are allowed")
    check_void(void)
    folders = {file.parent.resolve() for frame in frames for file in frame if file is not None}
    if any(folder.is_relative_to(Path(path).resolve()) for folder in folders):
        raise BagError(f"the bag '{path}' would replace the images that it is made of; it needs another name")
    reader = LabelReader(colours)
    topic = f"{IMAGE_TOPIC}/compressed" if compressed else IMAGE_TOPIC
    names = json.dumps([image.stem for image, _ in frames])
    with BagWriter(path, storage=storage, notes={FRAME_NAMES_NOTE: names}) as bag:
        for index, (image, label) in enumerate(frames):
            time_ns = START_NS + round(index * 1e9 / rate_hz)
            pixels = read_image(image, upright=label is None)  # a label image is not turned
            if compressed:
                content = image.read_bytes()
                header = read_header(memoryview(content))
                if header is None:  # a WebP or TIFF file, which OpenCV decodes under any name
                    raise BagError(f"'{image}' holds neither JPEG nor PNG data, which --compressed keeps as they are")
                data = serialise_compressed(content, header.kind, time_ns, FRAME_ID)
                bag.write(RawMessage(topic, COMPRESSED_IMAGE, time_ns, data))
            else:
                bag.write(image_message(topic, pixels, time_ns))
            if label is not None:
                ids, size = read_mask(label, reader), pixels.shape
                if ids.shape != size[:2]:
                    raise BagError(
                        f"'{label}' is {ids.shape[1]}x{ids.shape[0]} but its image is {size[1]}x{size[0]}; "
                        "they must be of one size"
                    )
                bag.write(image_message(GROUND_TRUTH_TOPIC, with_void(ids, void), time_ns))
            on_frame()
    return topic
