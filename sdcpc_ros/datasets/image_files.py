"""Data sets of image files with a label image beside each frame that has labels: folders are checked, files decoded."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path

import cv2
import numpy as np

from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame
from sdcpc_ros.images.compressed_headers import MAX_PIXELS, decode_picture, read_header
from sdcpc_ros.images.label_pictures import BadLabels, LabelReader
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.runtime.git_lfs import pointer_reason

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
FrameKey = tuple[str, float, str]  # a frame's video, stamp in s, and name
Pair = tuple[Path, Path | None]  # an image, and its label image if it has one

_LISTED = 8


class FolderDataset(VideoDataset):
    """A VideoDataset of files. A subclass lists them and decodes label images."""

    def __init__(
        self, name: str, label_set: LabelSet, files: dict[FrameKey, Pair], *, max_gap_s: float | None = None
    ) -> None:
        """files: of each frame, in any order, its image and its label image, if it has one."""
        in_order = sorted(files.items())
        self._files = [pair for _, pair in in_order]
        frames = [
            VideoFrame(*key, labels is not None, f"'{image}'", f"'{labels}'") for key, (image, labels) in in_order
        ]
        super().__init__(name, label_set, frames, max_gap_s=max_gap_s)

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


def require_folder(folder: Path, rule: str) -> None:
    """Raises DatasetError if the folder is missing, with the rule and the content of its parent."""
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


def list_pairs(
    images_folder: Path, labels_folder: Path, rule: str, *, label_ending: str = "", may_lack_labels: bool = False
) -> dict[str, Pair]:
    """The images of a folder by name, each with its label image, NAME`label_ending`.png in the other folder.

    rule: the data set's layout, for errors. may_lack_labels: without the folder of labels no image has any. Raises
    DatasetError for a missing folder, a folder without images, and an image or label image without its partner.
    """
    require_folder(images_folder, rule)
    images = list_images(images_folder)
    if not images:
        raise DatasetError(f"no images in '{images_folder}'; .png, .jpg and .jpeg are read; {found_in(images_folder)}")
    if may_lack_labels and not labels_folder.is_dir():
        return {name: (path, None) for name, path in images.items()}
    require_folder(labels_folder, rule)
    labels = {}
    for stem, path in list_images(labels_folder, (".png",)).items():
        if not stem.endswith(label_ending):
            raise DatasetError(f"'{path}' is not named as a label image; NAME{label_ending}.png is needed")
        labels[stem.removesuffix(label_ending)] = path
    for name in sorted(images.keys() ^ labels.keys()):
        if name in images:
            needed = labels_folder / f"{name}{label_ending}.png"
            raise DatasetError(f"'{images[name]}' has no label image; '{needed}' is needed")
        raise DatasetError(f"'{labels[name]}' has no image of that name in '{images_folder}'")
    return {name: (path, labels[name]) for name, path in images.items()}


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
    if header is not None and header.height * header.width > MAX_PIXELS:
        raise DatasetError(f"'{path}' is {header.width}x{header.height}; at most {MAX_PIXELS} pixels are allowed")
    image = decode_picture(content, cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION))
    if image is None:
        reason = pointer_reason(path)
        raise DatasetError(f"'{path}' is not an image that can be decoded{f': {reason}' if reason else ''}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_ids(path: Path, table: np.ndarray, allowed: str) -> np.ndarray:
    """The class ids (H, W) uint8 and 255 of a label image: grey of 8 or 16 bits, or a palette PNG, whose indices count.

    table: from ids on disk, as of `id_table`; allowed: those that it has, for errors. In 16 bits 65535 is read as 255.
    Raises DatasetError.
    """
    try:
        ids = LabelReader().from_file(_bytes(path))
    except BadLabels as error:
        raise DatasetError(f"'{path}' {error}") from error
    found = np.bincount(ids.ravel(), minlength=256)
    strays = np.flatnonzero((found > 0) & (table < 0))
    if strays.size:
        y, x = np.argwhere(ids == strays[0])[0]
        raise DatasetError(f"'{path}' holds id {strays[0]} (first at x {x}, y {y}); {allowed} are allowed")
    return table.astype(np.uint8)[ids]


def id_table(ids: dict[int, int]) -> np.ndarray:
    """(256,) int16: the class of an id on disk, -1 for none."""
    table = np.full(256, -1, np.int16)
    table[list(ids)] = list(ids.values())
    return table


def _bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}") from error
    if not content:
        raise DatasetError(f"'{path}' is not an image that can be decoded: the file is empty")
    return content
