"""Sources of frames: the input of `sdcpc segment` and `view`."""

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

import cv2

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.storage_files import STORAGE_SUFFIXES
from sdcpc_ros.datasets.image_files import IMAGE_SUFFIXES, read_image
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.replay.segmented_frames import SourceFrame, Unusable
from sdcpc_ros.runtime.environment import environment
from sdcpc_ros.runtime.git_lfs import pointer_reason
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S

_BAG_SUFFIXES = (*STORAGE_SUFFIXES, ".bag")
#: Allowed frame rates of a player.
_RATES_HZ = (0.02, 240.0)
_DEFAULT_RATE_HZ = 30.0
#: OpenCV passes this environment variable's `key;value|key;value` to FFmpeg.
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


@dataclass(frozen=True)
class FrameSource:
    """Images in order, for a single pass."""

    frames: Iterator[SourceFrame | Unusable]
    expected: int | None  #: the number of images, if known
    rate_hz: float  #: for a player
    #: A file name without suffix for the result of an image.
    name_of: Callable[[SourceFrame], str] = lambda frame: f"{frame.number:06d}"
    files: Sequence[Path] = ()  #: of the images, where each is a file

    @property
    def max_gap_s(self) -> float:
        """The node's limit, but longer where images come at a lower rate."""
        return max(DEFAULT_MAX_GAP_S, 3 / self.rate_hz)


def _sane_rate_hz(rate_hz: float) -> float:
    """The rate if a player can use it, else 30 Hz."""
    return rate_hz if _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1] else _DEFAULT_RATE_HZ


@contextmanager
def open_source(
    path: str,
    *,
    camera: str | None = None,
    images_hz: float | None = None,
    label_set: LabelSet | None = None,
) -> Iterator[FrameSource]:
    """Opens a video, an image, a folder or a glob of images, a bag, or a camera of this machine by its number.

    `camera`: the topic, of a bag with several. `images_hz`: how fast images follow each other, 15 by default.
    `label_set`: the classes of the ground truth of a bag, which is resized to its images; None: frames have no truth.
    Raises BagError for an input that cannot be read, and for an option that the input does not have.
    """
    kind = kind_of(path)
    if camera is not None and kind != "bag":
        raise BagError(f"a camera topic can be chosen of a bag, and '{path}' is none")
    if images_hz is not None and kind != "images":
        raise BagError(f"'{path}' has times of its own; a rate goes with images")
    if kind == "bag":
        # These need rosbags, which videos and images do not.
        from sdcpc_ros.bags.reader import BagReader
        from sdcpc_ros.replay.bag_source import BagSettings, BagSource

        with BagReader(path) as bag:
            settings = BagSettings(camera, "none" if label_set is None else None, resize_truth=True)
            images = BagSource(bag, settings, () if label_set is None else label_set.colours)
            rate_hz = _sane_rate_hz(bag.rate_hz(images.camera))
            yield FrameSource(images.frames(), images.expected, rate_hz, lambda frame: str(frame.stamp_ns))
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

    return FrameSource(frames(), len(files), rate_hz, lambda frame: names[frame.number], files)


def _is_pattern(path: str) -> bool:
    return glob.has_magic(path) and not Path(path).exists()


@contextmanager
def _open_capture(path: str, is_webcam: bool) -> Iterator[FrameSource]:
    """A video file, or the webcam of a number. Raises BagError if it cannot be read."""
    if is_webcam:
        capture = cv2.VideoCapture(min(int(path), 2**31 - 1))
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
    """The first SIGINT (Ctrl-C) or SIGTERM in the block sets the event, a second one ends the program."""
    stop = threading.Event()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def interrupt(number: int, frame: FrameType | None) -> None:
        restore()
        stop.set()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()
