"""A folder of images, with or without label images, as a bag."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import COMPRESSED_IMAGE, RawMessage, serialise_compressed
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.datasets.image_files import read_image
from sdcpc_ros.images.compressed_headers import read_header
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.replay.bag_source import FRAME_NAMES_NOTE, check_void, read_mask, with_void
from sdcpc_ros.replay.sources import image_files
from sdcpc_ros.replay.street_bag import FRAME_ID, GROUND_TRUTH_TOPIC, IMAGE_TOPIC, START_NS, image_message


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
