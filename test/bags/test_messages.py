from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_fixtures import serialise_jpeg
from hypothesis import given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import (
    CAMERA_INFO,
    CLASS_STATISTICS,
    COMPRESSED_IMAGE,
    IMAGE,
    RawMessage,
    decode_image,
    decode_labels,
    serialise_camera_info,
    serialise_compressed,
    serialise_image,
    standard_types,
)
from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.labels.label_set import CAMVID_11

STAMP_NS = 1_234_567_890_123_456_789
sides = st.integers(1, 9)


def stamp_of(data: bytes) -> int:
    return RawMessage("/camera", IMAGE, 0, data).stamp_ns


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: int = 0):
    """A deserialised Image whose rows have `padding` extra bytes, filled with what must not be read."""
    message = standard_types().deserialize_cdr(serialise_image(pixels, encoding, STAMP_NS, "optical"), IMAGE)
    rows = np.asarray(message.data).reshape(message.height, message.step)
    message.data = np.pad(rows, ((0, 0), (0, padding)), constant_values=77).reshape(-1)
    message.step += padding
    message.is_bigendian = big_endian
    return message


@given(sides, sides, st.integers(0, 5), st.sampled_from(["rgb8", "bgr8", "mono8"]))
def test_raw_images_come_back_as_rgb_whatever_their_step(height, width, padding, encoding):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stored = {"rgb8": rgb, "bgr8": rgb[..., ::-1], "mono8": rgb[..., 0]}[encoding]
    expected = np.repeat(rgb[..., :1], 3, axis=2) if encoding == "mono8" else rgb
    np.testing.assert_array_equal(decode_image(image_message(stored, encoding, padding)), expected)


def test_a_jpeg_comes_back_nearly_as_it_was():
    rows, columns = np.mgrid[:32, :48]
    image = np.stack([rows * 6, columns * 5, np.full_like(rows, 120)], axis=2).astype(np.uint8)
    message = standard_types().deserialize_cdr(serialise_jpeg(image, STAMP_NS, "optical"), COMPRESSED_IMAGE)
    decoded = decode_image(message)
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 3


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 999_999_999))
def test_the_stamp_is_read_without_deserialising(seconds, nanoseconds):
    stamp_ns = seconds * 1_000_000_000 + nanoseconds
    assert stamp_of(serialise_image(np.zeros((1, 1), np.uint8), "mono8", stamp_ns, "frame")) == stamp_ns


def test_the_stamp_of_a_big_endian_message_is_read():
    types = standard_types()
    message = types.deserialize_cdr(serialise_image(np.zeros((1, 1), np.uint8), "mono8", STAMP_NS, "f"), IMAGE)
    assert stamp_of(bytes(types.serialize_cdr(message, IMAGE, little_endian=False))) == STAMP_NS


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x01\x00\x00\x01\x02\x03"])
def test_a_message_too_short_for_a_header_says_so(data):
    with pytest.raises(BagError, match=f"message of {len(data)} bytes is too short"):
        stamp_of(data)


@given(sides, sides, st.integers(0, 3), st.sampled_from(["mono8", "8UC1"]))
def test_labels_keep_their_ids(height, width, padding, encoding):
    labels = np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)
    np.testing.assert_array_equal(decode_labels(image_message(labels, encoding, padding)), labels)


@pytest.mark.parametrize("big_endian", [0, 1])
@pytest.mark.parametrize(("encoding", "kind", "no_label"), [("16UC1", "u2", 65535), ("16SC1", "i2", -1)])
def test_sixteen_bit_labels_keep_their_ids_and_their_no_label_is_255(big_endian, encoding, kind, no_label):
    ids = np.array([[0, 1, 254], [no_label, 7, 10]], (">" if big_endian else "<") + kind)
    message = image_message(ids, encoding, padding=2, big_endian=big_endian)
    np.testing.assert_array_equal(decode_labels(message), [[0, 1, 254], [255, 7, 10]])


@pytest.mark.parametrize(
    ("encoding", "kind", "number", "no_label"),
    [("16UC1", "<u2", 300, 65535), ("16SC1", "<i2", 300, -1), ("16SC1", "<i2", -2, -1)],
)
def test_a_sixteen_bit_id_that_does_not_fit_is_refused(encoding, kind, number, no_label):
    with pytest.raises(BagError, match=f"holds the 16-bit id {number}; 0 to 255 and {no_label} are allowed"):
        decode_labels(image_message(np.array([[no_label, number]], kind), encoding))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoding": "yuv999"}, "the encoding 'yuv999' is not known"),
        ({"height": 0}, "4 x 0 pixels"),
        ({"step": 11}, "the step is 11 bytes"),
        ({"height": 9}, "the image holds 36 bytes"),
    ],
)
def test_an_image_that_lies_is_refused_with_a_sentence(change, sentence):
    message = image_message(np.zeros((3, 4, 3), np.uint8), "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(BadImage, match=sentence):
        decode_image(message)


@pytest.mark.parametrize("jpeg", [b"", b"not a jpeg", b"\xff\xd8\xff\xd9"])
def test_a_corrupt_compressed_image_is_refused_with_a_sentence(jpeg):
    message = standard_types().deserialize_cdr(
        serialise_jpeg(np.zeros((8, 8, 3), np.uint8), STAMP_NS, ""), COMPRESSED_IMAGE
    )
    message.data = np.frombuffer(jpeg, np.uint8)
    with pytest.raises(BadImage, match="do not begin as"):
        decode_image(message)


def test_labels_are_not_read_from_colours_without_a_label_set_or_from_jpeg():
    with pytest.raises(BagError, match="labels cannot be read from 'rgb8'; mono8"):
        decode_labels(image_message(np.zeros((2, 2, 3), np.uint8), "rgb8"))
    jpeg = standard_types().deserialize_cdr(serialise_jpeg(np.zeros((8, 8, 3), np.uint8), 0, ""), COMPRESSED_IMAGE)
    with pytest.raises(BagError, match="a label image is a JPEG, which changes ids"):
        decode_labels(jpeg)


def test_labels_are_read_from_colours_and_from_png():
    ids = np.array([[0, 3, 10], [255, 1, 2]], np.uint8)
    rgb = CAMVID_11.palette()[ids]
    reader = LabelReader(CAMVID_11.colours)
    bgra = np.dstack([rgb[..., ::-1], np.zeros(ids.shape, np.uint8)])
    for pixels, encoding in ((rgb, "rgb8"), (rgb[..., ::-1], "bgr8"), (bgra, "bgra8")):
        assert np.array_equal(decode_labels(image_message(pixels, encoding), reader), ids)
    for picture in (ids, rgb[..., ::-1]):
        content = cv2.imencode(".png", picture)[1].tobytes()
        data = serialise_compressed(content, "mono8; png compressed", 0, "")
        assert np.array_equal(decode_labels(standard_types().deserialize_cdr(data, COMPRESSED_IMAGE), reader), ids)


def test_camera_info_is_a_pinhole_camera_without_distortion():
    camera_matrix = np.array([[400.0, 0, 319.5], [0, 410.0, 239.5], [0, 0, 1]])
    data = serialise_camera_info((480, 640), camera_matrix, STAMP_NS, "optical")
    info = standard_types().deserialize_cdr(data, CAMERA_INFO)
    assert (info.height, info.width, info.header.frame_id) == (480, 640, "optical")
    np.testing.assert_array_equal(info.k.reshape(3, 3), camera_matrix)
    np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], camera_matrix)
    assert not info.d.any()


def test_our_message_is_defined_as_its_file_defines_it():
    definition = (Path(__file__).parents[2] / "msg" / "ClassStatistics.msg").read_text()
    types = get_typestore(Stores.ROS2_JAZZY)
    types.register(get_types_from_msg(definition, CLASS_STATISTICS))
    assert standard_types().hash_rihs01(CLASS_STATISTICS) == types.hash_rihs01(CLASS_STATISTICS)
