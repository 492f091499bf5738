"""Opens the input of `sdcpc segment`: a video file, images, a webcam, or a bag's camera."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.replay.folder_bag import IMAGE_SUFFIXES, image_files, in_order, read_image
from sdcpc_ros.replay.ground_truth import NoTruth, find_ground_truth
from sdcpc_ros.replay.segmented_frames import SourceFrame, Unusable, bag_frames
from sdcpc_ros.replay.video_sources import RATES_HZ, VideoFrames, open_video, open_webcam, sane_rate_hz
from sdcpc_ros.runtime.git_lfs import pointer_reason

_BAG_SUFFIXES = (".mcap", ".db3", ".bag")


@dataclass(frozen=True)
class PictureSource:
    """Images in order, for a single pass."""

    frames: Iterator[SourceFrame | Unusable]
    expected: int | None  #: the number of images, if known
    rate_hz: float  #: for a player
    name_of: Callable[[SourceFrame], str]  #: a file name without suffix for the result of an image


@contextmanager
def picture_source(
    path: str, *, camera: str | None = None, images_hz: float | None = None, truth_reader: LabelReader | None = None
) -> Iterator[PictureSource]:
    """Opens a video, an image, a folder or a glob of images, a bag, or a camera of this machine by its number.

    `camera`: the topic, of a bag with several. `images_hz`: how fast images follow each other, 15 by default.
    `truth_reader`: reads the ground truth of a bag, resized to its images; None: frames have no truth.
    Raises BagError for an input that cannot be read, and for an option that the input does not have.
    """
    kind = kind_of(path)
    if camera is not None and kind != "bag":
        raise BagError(f"a camera topic can be chosen of a bag, and '{path}' is none")
    if images_hz is not None and kind != "images":
        raise BagError(f"'{path}' has times of its own; a rate goes with images")
    if kind == "bag":
        with BagReader(path) as bag:
            yield _of_bag(bag, camera, truth_reader)
    elif kind == "images":
        yield _of_images(_images(path), 15.0 if images_hz is None else images_hz)
    elif kind == "webcam":
        with open_webcam(int(path)) as pictures:
            yield _of_video(pictures)
    else:
        with _video(path) as source:
            yield source


def kind_of(path: str) -> str:
    """The kind of a path, by its name: "bag", "images", "webcam" or "video"."""
    found = Path(path)
    if path.isdecimal() and not found.exists():
        return "webcam"
    if found.is_dir():
        storage = any(file.suffix in _BAG_SUFFIXES for file in found.iterdir())
        return "bag" if storage or (found / "metadata.yaml").is_file() else "images"
    if found.suffix.lower() in _BAG_SUFFIXES:
        return "bag"
    if found.suffix.lower() in IMAGE_SUFFIXES or _is_pattern(path):
        return "images"
    return "video"


def _is_pattern(path: str) -> bool:
    return glob.has_magic(path) and not Path(path).exists()


def _of_bag(bag: BagReader, camera: str | None, truth_reader: LabelReader | None) -> PictureSource:
    topic = bag.camera_topic(camera)
    truth = NoTruth() if truth_reader is None else find_ground_truth(None, bag, topic, reader=truth_reader)
    images = bag.topics[topic].message_count
    rate_hz = sane_rate_hz((images - 1) / bag.duration_s if bag.duration_s > 0 else 0.0)
    frames = bag_frames(bag, topic, truth, resize_truth=True)
    return PictureSource(frames, images, rate_hz, lambda frame: str(frame.stamp_ns))


def _of_images(files: Sequence[Path], rate_hz: float) -> PictureSource:
    low, high = RATES_HZ
    if not low <= rate_hz <= high:
        raise BagError(f"the rate is {rate_hz}; {low:g} to {high:g} images a second are allowed")
    stems = [file.stem for file in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    # Images of one name from several folders get numbers, so that their labels do not overwrite each other.
    names = [f"{number:06d}" for number in range(len(files))] if twice else stems

    def frames() -> Iterator[SourceFrame | Unusable]:
        for number, file in enumerate(files):
            try:
                yield SourceFrame(number, round(number * 1e9 / rate_hz), read_image(file))
            except (BagError, OSError) as error:
                yield Unusable(number, str(error))

    return PictureSource(frames(), len(files), rate_hz, lambda frame: names[frame.number])


def _images(path: str) -> list[Path]:
    found = Path(path)
    if found.is_dir():
        return image_files(found)
    if not _is_pattern(path):
        if not found.is_file():
            raise BagError(f"there is no image at '{path}'")
        return [found]
    files = (Path(name) for name in glob.glob(path, recursive=True))
    images = in_order(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise BagError(f"no images match '{path}'; files ending in {', '.join(IMAGE_SUFFIXES)} are read")
    return images


@contextmanager
def _video(path: str) -> Iterator[PictureSource]:
    if not Path(path).is_file():
        raise BagError(f"there is no file at '{path}'")
    pointer = pointer_reason(path)
    if pointer is not None:
        raise BagError(f"'{path}' is no video that can be read: {pointer}")
    with open_video(path) as video:
        yield _of_video(video)


def _of_video(video: VideoFrames) -> PictureSource:
    return PictureSource(video.frames, video.expected, video.rate_hz, lambda frame: f"{frame.number:06d}")
