"""CamVid (Brostow et al. 2009) with eleven classes, as plain folders of images and label images.

Layout: `root/<split>/images/<name>.{png,jpg,jpeg}` and `root/<split>/labels/<name>.png`; a label image has one channel
of 8 bits and the image's size, ids 0..10 as in `CAMVID_11`, and 11 for void. A name ends in the number of the frame
in its video, `0016E5_07959`; videos run at 30 frames a second.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from sdcpc_ros.label_set import CAMVID_11, IGNORE, LabelSet

VIDEO_RATE_HZ = 30.0
_VOID_ON_DISK = 11
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class DatasetError(ValueError):
    """A data set on disk is not laid out as it should be, or a file of it cannot be used."""


class CamVid:
    """One split as a sequence of (image (H, W, 3) uint8 RGB, labels (H, W) uint8 with 255 = void), by video and frame.

    Files are read when an item is asked for. Raises DatasetError naming the file and the rule it breaks.
    """

    def __init__(self, root: str | os.PathLike[str], split: str) -> None:
        folder = Path(root) / split
        images_folder, labels_folder = folder / "images", folder / "labels"
        for needed in (images_folder, labels_folder):
            if not needed.is_dir():
                raise DatasetError(
                    f"no folder '{needed}'; CamVid needs ROOT/SPLIT/images and ROOT/SPLIT/labels "
                    f"(root '{root}', split '{split}')"
                )
        images = {path.stem: path for path in images_folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES}
        labels = {path.stem: path for path in labels_folder.iterdir() if path.suffix.lower() == ".png"}
        if not images:
            raise DatasetError(f"no images in '{images_folder}'; files ending in {', '.join(_IMAGE_SUFFIXES)} are read")
        for name in sorted(images.keys() ^ labels.keys()):
            if name in images:
                raise DatasetError(f"'{images[name]}' has no label image; '{labels_folder / name}.png' is needed")
            raise DatasetError(f"'{labels[name]}' has no image of that name in '{images_folder}'")
        self.label_set: LabelSet = CAMVID_11
        frames = sorted((*_video_and_frame_number(path), path) for path in images.values())
        self._frames = [(video, number) for video, number, _ in frames]
        self._files = [(path, labels[path.stem]) for _, _, path in frames]
        self.names: list[str] = [path.stem for path, _ in self._files]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image_path, labels_path = self._files[index]
        bgr = _read(image_path, cv2.IMREAD_COLOR)
        labels = _read(labels_path, cv2.IMREAD_UNCHANGED)
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise DatasetError(f"'{labels_path}' is not a single-channel 8-bit image; one class id a pixel is needed")
        if labels.shape != bgr.shape[:2]:
            raise DatasetError(
                f"'{labels_path}' is {_size(labels)} but its image '{image_path.name}' is {_size(bgr)}; "
                "they must be of one size"
            )
        if labels.max() > _VOID_ON_DISK:
            raise DatasetError(
                f"'{labels_path}' holds id {labels.max()}; 0 to {len(self.label_set) - 1}, "
                f"and {_VOID_ON_DISK} for void, are allowed"
            )
        labels[labels == _VOID_ON_DISK] = IGNORE
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), labels

    def stamp_s(self, index: int) -> float:
        """When the frame was filmed, in seconds from the start of its video."""
        return self._frames[index][1] / VIDEO_RATE_HZ

    def clips(self) -> list[range]:
        """Indices of runs of frames that follow each other in one video.

        A video's frames follow each other at its smallest step; a gap half as long again starts a new run (the
        train split has a few steps of 29 and 31 among those of 30).
        """
        frames = self._frames
        smallest_step: dict[str, int] = {}
        for (video, number), (next_video, next_number) in pairwise(frames):
            if video == next_video:
                step = next_number - number
                smallest_step[video] = min(step, smallest_step.get(video, step))
        starts = [0]
        for index in range(1, len(frames)):
            (last_video, last_number), (video, number) = frames[index - 1], frames[index]
            if video != last_video or number - last_number > 1.5 * smallest_step[video]:
                starts.append(index)
        return [range(start, end) for start, end in zip(starts, [*starts[1:], len(frames)])]


def _video_and_frame_number(path: Path) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(\d+)", path.stem)
    if match is None:
        raise DatasetError(f"'{path}' is not named by its video and frame number, as '0016E5_07959' is")
    return match[1], int(match[2])


def _read(path: Path, flags: int) -> np.ndarray:
    """An image file as (H, W) or (H, W, 3) BGR."""
    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}") from error
    image = cv2.imdecode(encoded, flags) if encoded.size else None
    if image is None:
        raise DatasetError(f"'{path}' is not an image that can be decoded")
    return image


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
