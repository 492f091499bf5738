"""Reads label images: ids of 8 or 16 bits, palette PNG, or the colours of the classes."""

from __future__ import annotations

import struct
import sys
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sdcpc_ros.images.compressed_headers import MAX_PIXELS, decode_picture, read_header
from sdcpc_ros.images.decoding import BadImage, check_data, check_size, check_step
from sdcpc_ros.runtime.git_lfs import is_pointer

_VOID = 255
_GREY, _PALETTE = 0, 3
_COLOUR_CHUNKS = (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT")
#: Encodings of label images in messages -> the NumPy type of an id, without its byte order.
LABEL_ENCODINGS = {"mono8": "u1", "8UC1": "u1", "mono16": "u2", "16UC1": "u2", "16SC1": "i2"}


class BadLabels(ValueError):
    """A label image that cannot be read as class ids; the text is a predicate ("holds ..."), to follow its name."""


@dataclass(frozen=True)
class LabelReader:
    """Reads class ids from label images.

    `colours`: RGB of each class, by id, for label images that hold colours; empty: these are refused.
    `unknown_colours_are_void`: whether a colour that no class has means void (255), or is refused.
    """

    colours: tuple[tuple[int, int, int], ...] = ()
    unknown_colours_are_void: bool = False

    def from_file(self, content: bytes) -> np.ndarray:
        """The ids (H, W) uint8, 255 = void, of a PNG file's bytes.

        The indices of a palette PNG are the ids, whatever its colours. Raises BadLabels.
        """
        return self.from_picture(decode_label_file(content))

    def from_picture(self, picture: np.ndarray) -> np.ndarray:
        """The ids (H, W) uint8, 255 = void, of (H, W) ids, or of (H, W, 3 or 4) uint8 RGB or RGBA colours.

        Ids are uint8, uint16 (65535 = void) or int16 (-1 = void). Raises BadLabels for any other id below 0 or above
        255, and for a colour that no class has.
        """
        if picture.ndim == 3 and picture.dtype == np.uint8 and picture.shape[2] in (3, 4):
            return self._of_colours(picture)
        if picture.ndim != 2 or picture.dtype not in (np.uint8, np.uint16, np.int16):
            raise BadLabels(f"is {picture.shape} {picture.dtype}; ids of 8 or 16 bits, or colours, are needed")
        if picture.dtype == np.uint8:
            return picture
        void_id = -1 if picture.dtype == np.int16 else 65535
        void = picture == void_id
        wrong = picture[~void & ((picture < 0) | (picture > _VOID))]
        if wrong.size:
            raise BadLabels(f"holds the 16-bit id {wrong[0]}; 0 to {_VOID} and {void_id} are allowed")
        return np.where(void, _VOID, picture).astype(np.uint8)

    def _of_colours(self, picture: np.ndarray) -> np.ndarray:
        if not self.colours:
            raise BadLabels(
                "holds colours, and no label set says which class has which; one class id a pixel is needed"
            )
        class_codes = _codes(np.array(self.colours, np.uint8))
        if len(set(class_codes.tolist())) < len(class_codes):
            raise BadLabels("holds colours, but two classes of the label set share one; one class id a pixel is needed")
        class_of = np.full(1 << 24, _VOID, np.uint8)
        class_of[class_codes] = np.arange(len(class_codes))
        codes = _codes(picture)
        ids = class_of[codes]
        unknown = (ids == _VOID) & (codes != 0)  # black is void, unless a class has it
        if unknown.any() and not self.unknown_colours_are_void:
            y, x = np.argwhere(unknown)[0]
            red, green, blue = picture[y, x, :3].tolist()
            raise BadLabels(
                f"holds the colour ({red}, {green}, {blue}) (first at x {x}, y {y}), which no class of the label set "
                f"has; the colours of its {len(self.colours)} classes, and black for void, are allowed"
            )
        return ids


def decode_label_file(content: bytes) -> np.ndarray:
    """A PNG as stored: (H, W) uint8 or uint16 of grey values or palette indices, or (H, W, 3 or 4) RGB(A).

    Raises BadLabels for what is no PNG, or is cut short.
    """
    header = read_header(memoryview(content))
    if header is not None and header.kind == "jpeg":
        raise BadLabels("is a JPEG, which changes ids and colours; a PNG is needed")
    if is_pointer(content):
        raise BadLabels("is a Git LFS pointer, not the file itself; `git lfs pull` fetches it")
    if header is None:
        raise BadLabels("is not an image that can be decoded" + ("" if content else ": it is empty"))
    if not header.complete:
        raise BadLabels(f"is not an image that can be decoded: it is cut short after {len(content)} bytes")
    if header.height * header.width > MAX_PIXELS:
        raise BadLabels(f"is {header.width}x{header.height}; at most {MAX_PIXELS} pixels are allowed")
    bits, colour_type = content[24], content[25]
    if colour_type == _PALETTE:
        content = _as_grey(content)
    picture = decode_picture(content, cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise BadLabels("is not an image that can be decoded")
    if bits < 8:
        picture = picture // np.uint8(255 // ((1 << bits) - 1))  # OpenCV stretches narrow values to 0..255
    if picture.ndim == 3:
        picture = picture[..., ::-1] if picture.shape[2] == 3 else cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)
    return picture


def label_ids(message: Any, max_pixels: int = sys.maxsize) -> np.ndarray:
    """The ids of a label image, an Image in one of LABEL_ENCODINGS with any step: (H, W) uint8, uint16 or int16.

    Raises BadImage.
    """
    height, width, step, name = int(message.height), int(message.width), int(message.step), str(message.encoding)
    if name not in LABEL_ENCODINGS:
        known = ", ".join(LABEL_ENCODINGS)
        raise BadImage("unknown_encoding", f"the label image is {name[:40]!r}; these are allowed: {known}")
    id_type = np.dtype(LABEL_ENCODINGS[name]).newbyteorder(">" if message.is_bigendian else "<")
    check_size(height, width, max_pixels)
    check_step(message, width * id_type.itemsize)
    check_data(message, needed=height * step)
    data = np.frombuffer(message.data, np.uint8)
    ids = np.ndarray((height, width), id_type, data, strides=(step, id_type.itemsize))
    return ids.astype(id_type.newbyteorder("="))


def resized_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (H, W) in another size (height, width), by the nearest pixel.

    Raises BadLabels where the two are not of one shape, to a pixel of the smaller one: they would not show the same.
    """
    (height, width), (wanted_height, wanted_width) = labels.shape, size
    smaller = min(height, width, wanted_height, wanted_width)
    if abs(height / wanted_height * wanted_width / width - 1) > 1 / smaller:
        raise BadLabels(
            f"is {width}x{height} and its image {wanted_width}x{wanted_height}; only labels of the same shape as "
            "their image can be resized"
        )
    return cv2.resize(labels, (wanted_width, wanted_height), interpolation=cv2.INTER_NEAREST_EXACT)


def _codes(colours: np.ndarray) -> np.ndarray:
    """(..., 3 or 4) uint8 -> (...) int32, a number for each colour; alpha does not count."""
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _as_grey(content: bytes) -> bytes:
    """A palette PNG with its header rewritten to say grey: OpenCV would look the colours up and lose the indices."""
    header = bytearray(content[12:29])  # "IHDR" and its fields; colour type is the last but three
    header[13] = _GREY
    chunks, at = [content[:12] + bytes(header) + struct.pack(">I", zlib.crc32(bytes(header)))], 33
    while at + 8 <= len(content):
        end = at + 12 + struct.unpack(">I", content[at : at + 4])[0]
        if content[at + 4 : at + 8] not in _COLOUR_CHUNKS:
            chunks.append(content[at:end])
        at = end
    return b"".join(chunks)
