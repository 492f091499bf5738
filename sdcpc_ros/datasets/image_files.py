"""Data sets of image files with a label image beside each frame that has labels: folders are checked, files decoded."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame
from sdcpc_ros.images.compressed_headers import decode_picture, read_header
from sdcpc_ros.images.label_pictures import BadLabels, LabelReader
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.runtime.git_lfs import pointer_reason

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_LISTED = 8


class FrameFiles(NamedTuple):
    """A frame and the files it is in."""

    video: str
    stamp_s: float
    name: str
    image: Path
    labels: Path | None  #: None: the frame has none


class FolderDataset(VideoDataset):
    """A VideoDataset of files. A subclass lists them and decodes label images."""

    def __init__(
        self, name: str, label_set: LabelSet, files: Iterable[FrameFiles], *, max_gap_s: float | None = None
    ) -> None:
        """files: in any order; they are sorted by video and time."""
        ordered = sorted(files, key=lambda file: (file.video, file.stamp_s))
        frames = [VideoFrame(file.video, file.stamp_s, file.name, file.labels is not None) for file in ordered]
        super().__init__(name, label_set, frames, max_gap_s=max_gap_s)
        self._files = [(file.image, file.labels) for file in ordered]

    @abstractmethod
    def read_labels(self, path: Path) -> np.ndarray:
        """A label image as (H, W) uint8 class ids, 255 = void. Raises DatasetError."""

    def image(self, index: int) -> np.ndarray:
        return read_image(self._files[index][0])

    def labels(self, index: int) -> np.ndarray:
        path = self._files[index][1]
        if path is None:
            raise self.unlabelled(index)
        return self.read_labels(path)

    def sources(self, index: int) -> tuple[str, str]:
        image, labels = self._files[index]
        return f"'{image}'", f"the labels of '{image}'" if labels is None else f"'{labels}'"


def require_folders(folders: Iterable[Path], rule: str) -> None:
    """Raises DatasetError for the first missing folder, with the rule and the content of its parent."""
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f"no folder '{folder}'; {rule}; {found_in(folder.parent)}")


def list_images(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The images of a folder by their names without suffix; hidden files (macOS leaves some) are passed over."""
    found: dict[str, Path] = {}
    for entry in os.scandir(folder):
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() in suffixes and not stem.startswith("."):
            if stem in found:
                raise DatasetError(f"'{found[stem]}' and '{entry.path}' are both named '{stem}'; one must go")
            found[stem] = Path(entry.path)
    return found


def require_pairs(
    images: Mapping[str, Path], labels: Mapping[str, Path], needed: Callable[[str], Path], images_folder: Path
) -> None:
    """Raises DatasetError for the first image, by name, that has no label image (`needed`: where), or the other way."""
    for name in sorted(images.keys() ^ labels.keys()):
        if name in images:
            raise DatasetError(f"'{images[name]}' has no label image; '{needed(name)}' is needed")
        raise DatasetError(f"'{labels[name]}' has no image of that name in '{images_folder}'")


def found_in(folder: Path) -> str:
    """The content of a folder, or of the nearest existing one above it, for an error message."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    return f"'{folder}' holds {listed or 'nothing'}"


def read_image(path: Path, *, upright: bool = False) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises DatasetError.

    upright: turned as an EXIF tag says. Without it the image is as stored, as its label image is.
    """
    content = _bytes(path)
    header = read_header(memoryview(content))
    if header is not None and not header.complete:  # of a shortened JPEG some versions of OpenCV make up the rest
        raise DatasetError(f"'{path}' is not an image that can be decoded: it is cut short after {len(content)} bytes")
    image = decode_picture(content, cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION))
    if image is None:
        reason = pointer_reason(path)
        raise DatasetError(f"'{path}' is not an image that can be decoded{f': {reason}' if reason else ''}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_ids(path: Path) -> np.ndarray:
    """The ids (H, W) uint8 of a label image: grey of 8 or 16 bits, or a palette PNG, whose indices are the ids.

    In 16 bits 65535 is read as 255. Raises DatasetError.
    """
    try:
        return LabelReader().from_file(_bytes(path))
    except BadLabels as error:
        raise DatasetError(f"'{path}' {error}") from error


def id_table(ids: dict[int, int]) -> np.ndarray:
    """(256,) int16: the class of an id on disk, -1 for none."""
    table = np.full(256, -1, np.int16)
    table[list(ids)] = list(ids.values())
    return table


def translate(ids: np.ndarray, table: np.ndarray, path: Path, allowed: str) -> np.ndarray:
    """Ids (H, W) uint8 as on disk -> class ids and 255, by an `id_table`. Raises DatasetError for other ids."""
    found = np.bincount(ids.ravel(), minlength=256)
    strays = np.flatnonzero((found > 0) & (table < 0))
    if strays.size:
        y, x = np.argwhere(ids == strays[0])[0]
        raise DatasetError(f"'{path}' holds id {strays[0]} (first at x {x}, y {y}); {allowed} are allowed")
    return table.astype(np.uint8)[ids]


def _bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}") from error
    if not content:
        raise DatasetError(f"'{path}' is not an image that can be decoded: the file is empty")
    return content
