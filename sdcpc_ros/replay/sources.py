"""Sources of frames: the input of `sdcpc segment` and `view`, and the camera of a bag with its ground truth."""

from __future__ import annotations

import glob
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.datasets.image_files import IMAGE_SUFFIXES, read_image
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.images.label_pictures import BadLabels, LabelReader, resized_labels
from sdcpc_ros.replay.ground_truth import NO_TRUTH, GroundTruth, find_ground_truth
from sdcpc_ros.replay.segmented_frames import SourceFrame, Unusable
from sdcpc_ros.runtime.environment import environment
from sdcpc_ros.runtime.git_lfs import pointer_reason
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S

if TYPE_CHECKING:
    from sdcpc_ros.bags.reader import BagReader

_BAG_SUFFIXES = (".mcap", ".db3", ".bag")
#: Allowed frame rates of a player.
_RATES_HZ = (0.02, 240.0)
_DEFAULT_RATE_HZ = 30.0
#: OpenCV passes this environment variable's `key;value|key;value` to FFmpeg.
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


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
        if not 0 <= self.start_s < float("inf"):
            raise BagError(f"the start is {self.start_s} s; zero or a positive number is needed")
        for name, value in (("duration", self.duration_s), ("longest gap", self.max_gap_s)):
            if value is not None and not 0 < value < float("inf"):
                raise BagError(f"the {name} is {value} s; a positive number is needed")
        if self.every < 1:
            raise BagError(f"every n-th image: n is {self.every}; a whole number of 1 or more is needed")
        if any(not 0 <= label <= 255 for label in self.void):
            raise BagError(f"void ids are {list(self.void)}; 0 to 255 are allowed")


@dataclass(frozen=True)
class FrameSource:
    """Images in order, for a single pass."""

    frames: Iterator[SourceFrame | Unusable]
    expected: int | None  #: the number of images, if known
    rate_hz: float  #: for a player
    #: A file name without suffix for the result of an image.
    name_of: Callable[[SourceFrame], str] = lambda frame: f"{frame.number:06d}"

    @property
    def max_gap_s(self) -> float:
        """The node's limit, but longer where images come at a lower rate."""
        return max(DEFAULT_MAX_GAP_S, 3 / self.rate_hz)


def _sane_rate_hz(rate_hz: float) -> float:
    """The rate if a player can use it, else 30 Hz."""
    return rate_hz if _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1] else _DEFAULT_RATE_HZ


@contextmanager
def open_source(
    path: str, *, camera: str | None = None, images_hz: float | None = None, truth_reader: LabelReader | None = None
) -> Iterator[FrameSource]:
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
        from sdcpc_ros.bags.reader import BagReader  # needs rosbags, which videos and images do not

        with BagReader(path) as bag:
            topic = bag.camera_topic(camera)
            truth = NO_TRUTH if truth_reader is None else find_ground_truth(None, bag, topic, reader=truth_reader)
            frames = bag_frames(bag, topic, truth, BagSettings(resize_truth=True))
            images, rate_hz = bag.topics[topic].message_count, _sane_rate_hz(bag.rate_hz(topic))
            yield FrameSource(frames, images, rate_hz, lambda frame: str(frame.stamp_ns))
    elif kind == "images":
        yield _image_source(image_files(path), 15.0 if images_hz is None else images_hz)
    else:
        with _open_capture(path, kind == "webcam") as source:
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
    return "images" if found.suffix.lower() in IMAGE_SUFFIXES or _is_pattern(path) else "video"


def bag_frames(
    bag: BagReader,
    camera: str,
    truth: GroundTruth = NO_TRUTH,
    settings: BagSettings | None = None,
    *,
    companions: Sequence[str | None] = (),
) -> Iterator[SourceFrame | Unusable]:
    """The images of a bag's camera with their ground truth.

    Images that `settings.every` skips are not decoded and keep their numbers. Raises BagError for a truth of another
    size than its image without `settings.resize_truth`. `companions`: further topics, whose messages come with the
    `bag_frame` of each image.
    """
    settings = settings or BagSettings()
    start_s, duration_s = settings.start_s, settings.duration_s
    frames = bag.frames(camera, truth.topic, *companions, start_s=start_s, duration_s=duration_s)
    for number, frame in enumerate(frames):
        if number % settings.every:
            continue
        try:
            image, frame_id, encoding = bag.decode(frame.camera, _decode)
        except BagError as error:
            yield Unusable(number, str(error))
            continue
        name = f"bag '{bag.path}': the truth of image {number}"
        labels = _fit(truth.of(frame, number), image.shape[:2], name, settings.resize_truth)
        yield SourceFrame(number, frame.stamp_ns, image, frame_id, encoding, labels, frame)


def image_files(path: str | Path) -> list[Path]:
    """The image at a path, or those of a folder or a glob, by name, but numbers by value: `frame_2` before `frame_10`.

    Raises BagError if there is none.
    """
    found = Path(path)
    if found.is_dir():
        paths, nothing = list(found.iterdir()), f"no images in '{path}'"
    elif _is_pattern(str(path)):
        paths = [Path(name) for name in glob.glob(str(path), recursive=True)]
        nothing = f"no images match '{path}'"
    else:
        paths, nothing = [found] if found.is_file() else [], f"there is no image at '{path}'"
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise BagError(f"{nothing}; files ending in {', '.join(IMAGE_SUFFIXES)} are read")
    return sorted(images, key=lambda path: [(part.isdigit(), part.zfill(20)) for part in re.split(r"(\d+)", path.stem)])


def _image_source(files: Sequence[Path], rate_hz: float) -> FrameSource:
    low, high = _RATES_HZ
    if not low <= rate_hz <= high:
        raise BagError(f"the rate is {rate_hz}; {low:g} to {high:g} images a second are allowed")
    names = [file.stem for file in files]
    if len(set(names)) < len(names):  # of several folders: numbers, so that labels do not overwrite each other
        names = [f"{number:06d}" for number in range(len(files))]

    def frames() -> Iterator[SourceFrame | Unusable]:
        for number, file in enumerate(files):
            try:
                yield SourceFrame(number, round(number * 1e9 / rate_hz), read_image(file, upright=True))
            except DatasetError as error:
                yield Unusable(number, str(error))

    return FrameSource(frames(), len(files), rate_hz, lambda frame: names[frame.number])


def _is_pattern(path: str) -> bool:
    return glob.has_magic(path) and not Path(path).exists()


def _fit(truth: np.ndarray | None, size: tuple[int, ...], name: str, resize: bool) -> np.ndarray | None:
    """The truth at the size (height, width) of its image. BagError, with `name`, if it has another size."""
    if truth is None or truth.shape == size:
        return truth
    if not resize:
        raise BagError(
            f"{name} is {truth.shape[1]}x{truth.shape[0]} and the image {size[1]}x{size[0]}; they must be of one size "
            "(`--resize-truth` resizes the truth, by the nearest pixel)"
        )
    try:
        return resized_labels(truth, (size[0], size[1]))
    except BadLabels as error:
        raise BagError(f"{name} {error}") from error


def _decode(message: Any) -> tuple[np.ndarray, str, str]:
    from sdcpc_ros.bags.messages import decode_image, image_encoding

    # PyTorch takes no view of a bag's read-only bytes, so such an image is copied.
    image = np.require(decode_image(message), requirements="W")
    return image, str(message.header.frame_id), image_encoding(message)


@contextmanager
def _open_capture(path: str, is_webcam: bool) -> Iterator[FrameSource]:
    """A video file, or the webcam of a number. Raises BagError if it cannot be read."""
    if is_webcam:
        capture = cv2.VideoCapture(int(path))
        problem = (
            f"there is no camera {path}, or another program has it; a number of 0 or more that "
            "`v4l2-ctl --list-devices` shows as /dev/videoN is needed"
        )
    else:
        if not Path(path).is_file():
            raise BagError(f"there is no file at '{path}'")
        # A playlist may name other hosts, which FFmpeg must not open. Of two values of an option the last one counts.
        options = [os.environ.get(_FFMPEG_OPTIONS), "protocol_whitelist;file"]
        with environment({_FFMPEG_OPTIONS: "|".join(filter(None, options))}):
            capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        pointer = pointer_reason(path)
        problem = f"'{path}' is no video that can be read{f': {pointer}' if pointer else ''}"
    try:
        if not capture.isOpened():
            raise BagError(problem)
        rate_hz = _sane_rate_hz(capture.get(cv2.CAP_PROP_FPS))
        if is_webcam:
            with _interrupted() as stop:
                yield FrameSource(_webcam_frames(capture, path, stop), None, rate_hz)
        else:
            expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            frames = _video_frames(capture, path, expected, rate_hz)
            yield FrameSource(frames, expected if expected > 0 else None, rate_hz)
    finally:
        capture.release()


def _video_frames(
    capture: cv2.VideoCapture, path: str, expected: int, rate_hz: float
) -> Iterator[SourceFrame | Unusable]:
    """The frames with their times, rotated as the file says."""
    number, time_s = 0, 0.0
    while (image := capture.read()[1]) is not None:
        time_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        time_s = time_ms / 1e3 if time_ms > 0 or number == 0 else number / rate_hz
        yield SourceFrame(number, round(time_s * 1e9), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        number += 1
    if number == 0 or number < expected - 1:  # some containers count one frame too many
        yield Unusable(number, f"'{path}' cannot be decoded beyond {time_s:.3f} s")


def _webcam_frames(capture: cv2.VideoCapture, index: str, stop: threading.Event) -> Iterator[SourceFrame | Unusable]:
    """The frames with the time since the first, until `stop`."""
    number, start_ns = 0, time.monotonic_ns()
    while not stop.is_set():
        is_read, image = capture.read()
        if not is_read:
            yield Unusable(number, f"camera {index} gives no more pictures")
            return
        yield SourceFrame(number, time.monotonic_ns() - start_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        number += 1


@contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """The first Ctrl-C in the block sets the event, a second one ends the program."""
    stop = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
