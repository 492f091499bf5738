"""Label images in every form that people store them in."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from palette_png import palette_png

from sdcpc_ros.datasets.image_files import read_image
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.images.compressed_headers import read_header
from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.images.label_pictures import BadLabels, LabelReader, decode_label_file, label_ids, resized_labels
from sdcpc_ros.labels.label_set import CAMVID_11

IDS = np.array([[0, 1, 2, 3], [10, 9, 255, 0]], np.uint8)
IN_COLOURS = LabelReader(CAMVID_11.colours)


def png(picture: np.ndarray) -> bytes:
    """Of grey values, or of RGB or RGBA colours."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    return cv2.imencode(".png", picture)[1].tobytes()


@pytest.mark.parametrize(
    "content",
    [
        png(IDS),
        palette_png(IDS, CAMVID_11.colours),
        png(np.where(IDS == 255, 65535, IDS).astype(np.uint16)),
        png(IDS.astype(np.uint16)),
        png(CAMVID_11.palette()[IDS]),
        png(np.dstack([CAMVID_11.palette()[IDS], np.full(IDS.shape, 7, np.uint8)])),
    ],
    ids=["grey", "palette", "16 bits", "16 bits, 255", "colours", "colours and alpha"],
)
def test_every_form_gives_the_same_ids(content):
    ids = IN_COLOURS.from_file(content)
    assert ids.dtype == np.uint8 and np.array_equal(ids, IDS)


def test_unknown_colours_are_void_only_when_asked_for():
    picture = CAMVID_11.palette()[IDS]
    picture[1, 2] = (1, 2, 3)
    with pytest.raises(BadLabels, match=r"colour \(1, 2, 3\) \(first at x 2, y 1\), which no class .* 11 clas"):
        IN_COLOURS.from_picture(picture)
    assert np.array_equal(LabelReader(CAMVID_11.colours, unknown_colours_are_void=True).from_picture(picture), IDS)


def test_black_is_void_unless_a_class_is_black():
    picture = np.array([[(0, 0, 0), (9, 9, 9)]], np.uint8)
    assert LabelReader(((9, 9, 9),)).from_picture(picture).tolist() == [[255, 0]]
    assert LabelReader(((9, 9, 9), (0, 0, 0))).from_picture(picture).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not an image that can be decoded: it is empty"),
        (b"hello", "is not an image that can be decoded"),
        (png(IDS)[:-8], "is cut short after"),
        (cv2.imencode(".jpg", IDS)[1].tobytes(), "is a JPEG, which changes ids and colours; a PNG is needed"),
        (png(np.full((2, 2), 300, np.uint16)), "holds the 16-bit id 300; 0 to 255 and 65535 are allowed"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "Git LFS pointer, .*`git lfs pull` fetches it",
        ),
    ],
)
def test_what_holds_no_ids_says_so(content, sentence):
    with pytest.raises(BadLabels, match=sentence):
        IN_COLOURS.from_file(content)


@pytest.mark.parametrize("colours", [(), ((1, 1, 1), (1, 1, 1))])
def test_colours_need_a_label_set_of_distinct_ones(colours):
    with pytest.raises(BadLabels, match=r"holds colours, .*; one class id a pixel is needed"):
        LabelReader(colours).from_picture(np.zeros((2, 2, 3), np.uint8))


def test_labels_are_resized_by_the_nearest_pixel():
    assert np.array_equal(resized_labels(IDS, (4, 8)), IDS.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(resized_labels(np.zeros((361, 481), np.uint8), (720, 960)), np.zeros((720, 960)))
    with pytest.raises(BadLabels, match=r"is 40x20 and its image 80x80; only labels of the same shape"):
        resized_labels(np.zeros((20, 40), np.uint8), (80, 80))


def _png(width: int, height: int, empty_chunks: int = 0) -> bytes:
    chunk = b"\0\0\0\x0dIHDR" + struct.pack(">II", width, height) + b"\x08\0\0\0\0" + b"\0" * 4
    return b"\x89PNG\r\n\x1a\n" + chunk + (b"\0\0\0\0teXt" + b"\0" * 4) * empty_chunks + b"\0\0\0\0IEND" + b"\0" * 4


def test_a_few_bytes_do_not_become_gigabytes(tmp_path: Path) -> None:
    with pytest.raises(BadLabels, match="is 30000x30000; at most 67108864 pixels are allowed"):
        decode_label_file(_png(30_000, 30_000))
    (tmp_path / "bomb.png").write_bytes(_png(30_000, 30_000))
    with pytest.raises(DatasetError, match=r"bomb\.png' is 30000x30000; at most 67108864 pixels"):
        read_image(tmp_path / "bomb.png")


def test_millions_of_empty_segments_are_not_walked() -> None:
    started = time.process_time()
    header = read_header(memoryview(_png(8, 8, empty_chunks=4_000_000)))
    assert header is not None and not header.complete
    assert read_header(memoryview(b"\xff\xd8" + b"\xff" * 20_000_000)) is None
    assert time.process_time() - started < 1


def label_image(encoding: str, rows: bytes, width: int, step: int, big: bool = False) -> SimpleNamespace:
    height = len(rows) // step
    return SimpleNamespace(encoding=encoding, height=height, width=width, step=step, data=rows, is_bigendian=int(big))


def test_label_images_of_every_encoding_and_step_are_read():
    ids = np.array([[0, 2, 255], [1, 1, 2]], np.uint8)
    large = np.array([[0, 255, 65535], [256, 300, 300]], np.uint16)
    padded = np.concatenate([ids, np.full((2, 2), 9, np.uint8)], axis=1)
    for image, expected in (
        (label_image("mono8", ids.tobytes(), 3, 3), ids),
        (label_image("8UC1", padded.tobytes(), 3, 5), ids),
        (label_image("16UC1", large.astype("<u2").tobytes(), 3, 6), large),
        (label_image("16UC1", large.astype(">u2").tobytes(), 3, 6, big=True), large),
        (label_image("16SC1", large.astype("<u2").tobytes(), 3, 6), large.view(np.int16)),  # 65535 are the bits of -1
    ):
        read = label_ids(image)
        assert np.array_equal(read, expected) and read.dtype == expected.dtype


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (label_image("rgb8", bytes(12), 2, 6), "'rgb8'; these are allowed: mono8, 8UC1, mono16, 16UC1, 16SC1"),
        (label_image("mono8", bytes(4), 3, 2), "the step is 2 bytes; a row of 3 pixels in mono8 needs at least 3"),
        (label_image("mono8", bytes(4), 0, 2), "the image is 0 x 2 pixels"),
    ],
)
def test_messages_that_hold_no_ids_are_refused(image, words):
    with pytest.raises(BadImage, match=words):
        label_ids(image)


def test_label_images_with_too_little_data_are_refused():
    image = label_image("mono8", bytes(6), 3, 3)
    image.data = bytes(5)
    with pytest.raises(BadImage, match="the image holds 5 bytes"):
        label_ids(image)
