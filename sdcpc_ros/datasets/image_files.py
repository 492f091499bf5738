"""Images and label images on disk, and the folders they lie in: read, checked, and explained when they are wrong."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.images.compressed_headers import read_header

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_GREY, _PNG_PALETTE = 0, 3
_LISTED = 8


def require_folders(folders: Iterable[Path], rule: str) -> None:
    """Raises DatasetError for the first that is missing, with the rule and what lies there instead."""
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
    """What lies in a folder, or in the nearest one above it that exists, as a clause of a message."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    return f"'{folder}' holds {listed or 'nothing'}"


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    return cv2.cvtColor(_decode(_bytes(path), path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_ids(path: Path) -> np.ndarray:
    """A label image with one id a pixel, (H, W) uint8: grey, or a palette PNG, whose indices are the ids."""
    content = _bytes(path)
    bits = _palette_bits(content)
    if bits is not None:
        content = _as_grey(content)
    ids = _decode(content, path, cv2.IMREAD_UNCHANGED)
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise DatasetError(f"'{path}' is not a single-channel 8-bit image; one class id a pixel is needed")
    if bits is not None and bits < 8:
        ids //= np.uint8(255 // ((1 << bits) - 1))  # narrow grey values are stretched to 0..255 when decoded
    return ids


def id_table(ids: dict[int, int]) -> np.ndarray:
    """(256,) int16: what an id on disk means, -1 where it means nothing."""
    table = np.full(256, -1, np.int16)
    table[list(ids)] = list(ids.values())
    return table


def translate(ids: np.ndarray, table: np.ndarray, path: Path, allowed: str) -> np.ndarray:
    """Ids (H, W) uint8 as on disk -> class ids and 255, by an `id_table`. Raises DatasetError for one that has none."""
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


def _decode(content: bytes, path: Path, flags: int) -> np.ndarray:
    """(H, W) or (H, W, channels), BGR, as stored: an EXIF tag would turn an image away from its labels."""
    header = read_header(memoryview(content))
    if header is not None and not header.complete:  # of a shortened JPEG some versions of OpenCV make up the rest
        raise DatasetError(f"'{path}' is not an image that can be decoded: it is cut short after {len(content)} bytes")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # of a size beyond its limits
        image = None
    if image is None:
        raise DatasetError(f"'{path}' is not an image that can be decoded")
    return image


def _palette_bits(content: bytes) -> int | None:
    """Bits a pixel of a palette PNG, None for any other file."""
    if content[:8] != _PNG_MAGIC or len(content) < 33 or content[25] != _PNG_PALETTE:
        return None
    return content[24]


def _as_grey(content: bytes) -> bytes:
    """A palette PNG with its header rewritten to say grey: OpenCV would look the colours up and lose the indices."""
    header = bytearray(content[12:29])  # "IHDR" and its fields; colour type is the last but three
    header[13] = _PNG_GREY
    chunks, at = [content[:12] + bytes(header) + struct.pack(">I", zlib.crc32(bytes(header)))], 33
    while at + 8 <= len(content):
        end = at + 12 + struct.unpack(">I", content[at : at + 4])[0]
        if content[at + 4 : at + 8] not in (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT"):
            chunks.append(content[at:end])
        at = end
    return b"".join(chunks)
