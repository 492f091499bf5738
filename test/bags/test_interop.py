"""Images as others record them: every encoding is evaluated, or what is wrong with an image is said, and where."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    RawMessage,
    serialise_compressed,
    serialise_image,
    standard_types,
)
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.replay.bag_evaluation import Model

pytestmark = pytest.mark.slow

CAMERA = "/front/image"
SIZE = (64, 96)
FRAMES = 6
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 100_000_000


def raw(index: int, pixels: np.ndarray, encoding: str, topic: str = CAMERA, **fields: Any) -> RawMessage:
    """An Image message as a driver might fill it: any field can be set, `order` is the byte order of its CDR."""
    types, time_ns = standard_types(), START_NS + index * PERIOD_NS
    order, padding = fields.pop("order", "<"), fields.pop("padding", 0)
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    message = types.deserialize_cdr(serialise_image(np.zeros((1, 1), np.uint8), "mono8", time_ns, "optical"), IMAGE)
    values = {
        **{"height": pixels.shape[0], "width": pixels.shape[1], "step": rows.shape[1]},
        **{"encoding": encoding, "is_bigendian": 0, "data": rows.reshape(-1), **fields},
    }
    for name, value in values.items():
        object.__setattr__(message, name, value)
    data = bytes(types.serialize_cdr(message, IMAGE, little_endian=order == "<"))
    return RawMessage(topic, IMAGE, time_ns, data)


def compressed(index: int, data: bytes, kind: str, topic: str = f"{CAMERA}/compressed") -> RawMessage:
    time_ns = START_NS + index * PERIOD_NS
    return RawMessage(topic, COMPRESSED_IMAGE, time_ns, serialise_compressed(data, kind, time_ns, "optical"))


def coded(suffix: str, image: np.ndarray) -> bytes:
    """An RGB image (or one of a single channel) as the bytes of a file."""
    encoded, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image)
    assert encoded
    return data.tobytes()


def sixteen(image: np.ndarray, order: str) -> np.ndarray:
    """8 bits a sample as 16, the low byte different from the high one."""
    return (image.astype(np.uint16) * 256 + 99).astype(f"{order}u2")


def bayer(image: np.ndarray) -> np.ndarray:
    """The RGGB mosaic of an image."""
    mosaic = image[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = image[::2, ::2, 0], image[1::2, 1::2, 2]
    return mosaic


SAME_PICTURE: dict[str, Callable[[int, np.ndarray], RawMessage]] = {
    "rgb8": lambda i, image: raw(i, image, "rgb8"),
    "bgr8": lambda i, image: raw(i, image[..., ::-1], "bgr8"),
    "8UC3": lambda i, image: raw(i, image[..., ::-1], "8UC3"),
    "rgba8": lambda i, image: raw(i, np.dstack([image, np.full(SIZE, 7, np.uint8)]), "rgba8"),
    "bgra8": lambda i, image: raw(i, np.dstack([image[..., ::-1], np.zeros(SIZE, np.uint8)]), "bgra8"),
    "rgb16": lambda i, image: raw(i, sixteen(image, "<"), "rgb16"),
    "rgb16, big-endian": lambda i, image: raw(i, sixteen(image, ">"), "rgb16", is_bigendian=1),
    "rgb8 that says it is big-endian": lambda i, image: raw(i, image, "rgb8", is_bigendian=1),
    "CDR in big-endian": lambda i, image: raw(i, image, "rgb8", order=">"),
    "rows padded": lambda i, image: raw(i, image, "rgb8", padding=13),
    "whole pages": lambda i, image: raw(i, image, "rgb8", data=np.append(image.reshape(-1), np.zeros(500, np.uint8))),
    "PNG": lambda i, image: compressed(i, coded(".png", image), "png"),
    "PNG of 16 bits": lambda i, image: compressed(i, coded(".png", sixteen(image, "<")), "rgb16; png compressed"),
    "a format that says nothing": lambda i, image: compressed(i, coded(".png", image), ""),
}


@pytest.mark.parametrize(("kind", "storage"), [*((kind, "mcap") for kind in SAME_PICTURE), ("rgb16", "sqlite3")])
def test_the_same_picture_gets_the_same_labels_however_it_is_packed(
    pictures, write_bag, evaluated, tiny_model, kind, storage
):
    messages = [SAME_PICTURE[kind](index, image) for index, (image, _) in enumerate(pictures)]
    report = evaluated(write_bag(messages, storage=storage))
    assert (report["scores"]["frames"], report["bag"]["unusable"], report["resets"]) == (FRAMES, 0, [])
    assert report["labels_sha256"] == reference_digest(pictures, tiny_model)


def reference_digest(pictures: list[tuple[np.ndarray, np.ndarray]], model: Model) -> str:
    """Of the labels that the segmenter gives these images without any bag."""
    model.segmenter.reset()
    labels = [model.segmenter.segment(image, stream="reference").labels for image, _ in pictures]
    model.segmenter.reset()
    digest = hashlib.sha256().digest()
    for each in labels:  # a chain, so that an evaluation can go on from the middle
        digest = hashlib.sha256(digest + each.tobytes()).digest()
    return digest.hex()


SIMILAR_PICTURE: dict[str, tuple[float, Callable[[int, np.ndarray], RawMessage]]] = {
    "JPEG": (8, lambda i, image: compressed(i, coded(".jpg", image), "rgb8; jpeg compressed bgr8")),
    "bayer_rggb8": (14, lambda i, image: raw(i, bayer(image), "bayer_rggb8")),
    "bayer_rggb16": (14, lambda i, image: raw(i, sixteen(bayer(image), "<"), "bayer_rggb16")),
    "bayer_rggb16, big-endian": (
        14,
        lambda i, image: raw(i, sixteen(bayer(image), ">"), "bayer_rggb16", is_bigendian=1),
    ),
    "yuv422 (UYVY)": (12, lambda i, image: raw(i, yuv422(image, cv2.COLOR_RGB2YUV_UYVY), "yuv422")),
    "yuv422_yuy2": (12, lambda i, image: raw(i, yuv422(image, cv2.COLOR_RGB2YUV_YUY2), "yuv422_yuy2")),
    "mono8": (25, lambda i, image: raw(i, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), "mono8")),
    "mono16, big-endian": (
        25,
        lambda i, image: raw(i, sixteen(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), ">"), "mono16", is_bigendian=1),
    ),
}


def yuv422(image: np.ndarray, code: int) -> np.ndarray:
    return cv2.cvtColor(image, code)


@pytest.mark.parametrize("kind", SIMILAR_PICTURE)
def test_what_loses_a_little_is_read_too(pictures, write_bag, evaluated, kind):
    tolerance, message_of = SIMILAR_PICTURE[kind]
    path = write_bag([message_of(index, image) for index, (image, _) in enumerate(pictures)])
    with BagReader(path) as bag:
        for frame, (image, _) in zip(bag.frames(bag.camera_topic()), pictures):
            assert np.abs(frame.image().astype(int) - image).mean() < tolerance
    report = evaluated(path)
    assert (report["scores"]["frames"], report["bag"]["unusable"]) == (FRAMES, 0)


def test_encodings_may_change_within_a_topic(pictures, write_bag, evaluated):
    kinds = ("rgb8", "rgb8", "bgr8", "rgb16", "rgb16", "rgb8")
    messages = [SAME_PICTURE[kind](index, image) for index, (kind, (image, _)) in enumerate(zip(kinds, pictures))]
    report = evaluated(write_bag(messages))
    assert report["scores"]["frames"] == FRAMES
    assert report["resets"] == [{"number": number, "cause": "encoding"} for number in (2, 3, 5)]


BROKEN: dict[str, tuple[Callable[[np.ndarray], RawMessage], str]] = {
    "no data": (lambda image: raw(2, image, "rgb8", data=np.zeros(0, np.uint8)), "the image holds 0 bytes"),
    "no pixels": (
        lambda image: raw(2, image, "rgb8", height=0, width=0, step=0, data=np.zeros(0, np.uint8)),
        "the image is 0 x 0 pixels",
    ),
    "cut data": (lambda image: raw(2, image, "rgb8", data=image.reshape(-1)[:-1]), "the image holds 18431 bytes"),
    "a step that lies": (lambda image: raw(2, image, "rgb8", step=95), "the step is 95 bytes"),
    "an encoding nobody knows": (lambda image: raw(2, image, "rgb12p"), "the encoding 'rgb12p' is not known"),
    "depth": (lambda image: raw(2, image.astype(np.float32), "32FC3"), "the encoding '32FC3' is not known"),
    "no message at all": (lambda image: RawMessage(CAMERA, IMAGE, START_NS + 2 * PERIOD_NS, b""), "has a damaged"),
    "a message of four bytes": (
        lambda image: RawMessage(CAMERA, IMAGE, START_NS + 2 * PERIOD_NS, b"\x00\x01\x00\x00"),
        "has a damaged message",
    ),
    "a message cut in its pixels": (
        lambda image: RawMessage(CAMERA, IMAGE, START_NS + 2 * PERIOD_NS, raw(2, image, "rgb8").data[:500]),
        "has a damaged message",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_is_left_out_and_located(pictures, write_bag, evaluated, kind):
    """Among good ones, which are labelled all the same."""
    broken, sentence = BROKEN[kind]
    messages = [raw(index, image, "rgb8") for index, (image, _) in enumerate(pictures)]
    messages[2] = broken(pictures[2][0])
    report = evaluated(write_bag(messages))
    assert (report["scores"]["frames"], report["bag"]["unusable"]) == (FRAMES - 1, 1)
    assert report["frames"]["number"] == [0, 1, 3, 4, 5]
    (problem,) = report["problems"]
    assert CAMERA in problem and "0.200 s" in problem and sentence in problem and "\n" not in problem


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "jpeg"),
        (b"\x00\x00\x00\x01\x67\x42\x00\x1e", "h264"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "webp"),
        (coded(".jpg", np.zeros((*SIZE, 3), np.uint8))[:-40], "jpeg"),
    ],
)
def test_a_broken_or_foreign_compressed_image_is_located(pictures, write_bag, evaluated, data, kind):
    messages = [compressed(index, coded(".jpg", image), "jpeg") for index, (image, _) in enumerate(pictures)]
    messages[2] = compressed(2, data, kind)
    report = evaluated(write_bag(messages))
    (problem,) = report["problems"]
    assert f"{CAMERA}/compressed at 0.200 s: " in problem
    assert ("do not begin as a JPEG or PNG picture" in problem) or ("without its end marker" in problem)


def test_a_bag_of_nothing_usable_says_what_the_first_trouble_was(pictures, write_bag, evaluated):
    messages = [compressed(index, b"\x00\x00\x00\x01\x67", "h264") for index in range(3)]
    with pytest.raises(BagError, match=r"no usable image on /front/image/compressed \(3 unusable; the first: .*'h264'"):
        evaluated(write_bag(messages))
