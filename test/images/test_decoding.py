"""Decoding against an oracle that shares no code with the reader: one pixel at a time, from the definitions."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.images import decoding
from sdcpc_ros.images.decoding import RAW_ENCODINGS, BadImage, ImageFormat, image_format, to_rgb

MAX = 1 << 22
SIMPLE = {
    "rgb8": "rgb",
    "bgr8": "bgr",
    "rgba8": "rgba",
    "bgra8": "bgra",
    "mono8": "m",
    "8UC1": "m",
    "8UC3": "bgr",
    "8UC4": "bgra",
}
WIDE = {"rgb16": "rgb", "bgr16": "bgr", "rgba16": "rgba", "bgra16": "bgra", "mono16": "m"}
PACKED_YUV = {"yuv422": "uyvy", "uyvy": "uyvy", "yuv422_yuy2": "yuyv", "yuyv": "yuyv"}
PLANAR_YUV = {"nv12": "uv", "nv21": "vu"}
BAYER = [f"bayer_{pattern}{bits}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)]


# What ROS and rosbags deserialise to differs in class, not in fields.
Image = CompressedImage = SimpleNamespace


def as_bytes(data: bytes) -> array.array:
    return array.array("B", data)


def make(
    encoding: str, height: int, width: int, rows: np.ndarray, padding: int = 0, big: int = 0, tail: int = 0
) -> SimpleNamespace:
    """An Image of rows of bytes (rows, row_bytes), padded with 0xEE on the right and at the end."""
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xEE)
    return Image(
        height=height,
        width=width,
        encoding=encoding,
        step=padded.shape[1],
        is_bigendian=big,
        data=as_bytes(padded.tobytes() + b"\xee" * tail),
    )


def pick(samples: np.ndarray, order: str) -> np.ndarray:
    """(H, W, C) samples, whose channels are named by `order`, as (H, W, 3) RGB."""
    return np.stack([samples[..., 0 if order == "m" else order.index(channel)] for channel in "rgb"], axis=-1)


def yuv_to_rgb(y: float, u: float, v: float) -> list[float]:
    """ITU-R BT.601, studio range, as cameras send it; nothing is blacker than black."""
    y, u, v = 1.164 * max(0, y - 16), u - 128, v - 128
    return [min(255, max(0, value)) for value in (y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u)]


def random_bytes(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
paddings, tails, seeds = st.integers(0, 13), st.integers(0, 50), st.integers(0, 2**32 - 1)


def test_every_raw_encoding_is_tested_here():
    assert set(RAW_ENCODINGS) == {*SIMPLE, *WIDE, *PACKED_YUV, *PLANAR_YUV, *BAYER}


@pytest.mark.parametrize("encoding", SIMPLE)
@given(size=sizes, padding=paddings, tail=tails, seed=seeds)
def test_eight_bit_encodings(encoding, size, padding, tail, seed):
    order = SIMPLE[encoding]
    samples = random_bytes(seed, *size, len(order))
    message = make(encoding, *size, samples.reshape(size[0], -1), padding, tail=tail)
    assert np.array_equal(to_rgb(message, MAX), pick(samples, order))
    assert image_format(message, MAX) == ImageFormat(*size, encoding)


@pytest.mark.parametrize("encoding", WIDE)
@given(size=sizes, padding=paddings, big=st.booleans(), seed=seeds)
def test_sixteen_bit_encodings_give_their_high_byte(encoding, size, padding, big, seed):
    order = WIDE[encoding]
    samples = np.random.default_rng(seed).integers(0, 65536, (*size, len(order)), np.uint16)
    rows = samples.astype(">u2" if big else "<u2").view(np.uint8).reshape(size[0], -1)
    answer = to_rgb(make(encoding, *size, rows, padding, big=int(big)), MAX)
    assert np.array_equal(answer, pick(samples // 256, order))


@pytest.mark.parametrize("encoding", PACKED_YUV)
@given(size=st.tuples(st.integers(1, 6), st.integers(1, 4)), padding=paddings, seed=seeds)
def test_packed_yuv(encoding, size, padding, seed):
    height, pairs = size
    quads = random_bytes(seed, height, pairs, 4)
    answer = to_rgb(make(encoding, height, 2 * pairs, quads.reshape(height, -1), padding), MAX)
    places = {"uyvy": (1, 3, 0, 2), "yuyv": (0, 2, 1, 3)}[PACKED_YUV[encoding]]
    for row, column in np.ndindex(height, 2 * pairs):
        first, second, u, v = (int(quads[row, column // 2, place]) for place in places)
        assert answer[row, column].tolist() == pytest.approx(yuv_to_rgb(second if column % 2 else first, u, v), abs=3)


@pytest.mark.parametrize("encoding", PLANAR_YUV)
@given(size=st.tuples(st.integers(1, 4), st.integers(1, 4)), padding=paddings, seed=seeds)
def test_planar_yuv(encoding, size, padding, seed):
    height, width = 2 * size[0], 2 * size[1]
    planes = random_bytes(seed, height * 3 // 2, width)
    answer = to_rgb(make(encoding, height, width, planes, padding), MAX)
    for row, column in np.ndindex(height, width):
        pair = planes[height + row // 2, column // 2 * 2 :][:2]
        u, v = pair if PLANAR_YUV[encoding] == "uv" else pair[::-1]
        assert answer[row, column].tolist() == pytest.approx(
            yuv_to_rgb(int(planes[row, column]), int(u), int(v)), abs=3
        )


@pytest.mark.parametrize("encoding", BAYER)
@given(colour=st.tuples(*[st.integers(0, 255)] * 3), padding=paddings, big=st.booleans())
def test_bayer(encoding, colour, padding, big):
    height, width = 6, 8
    pattern = encoding[6:10]
    mosaic = np.empty((height, width), np.uint16)
    for row, column in np.ndindex(height, width):
        mosaic[row, column] = colour["rgb".index(pattern[row % 2 * 2 + column % 2])]
    wide = encoding.endswith("16")
    rows = (mosaic * 256).astype(">u2" if big else "<u2").view(np.uint8) if wide else mosaic.astype(np.uint8)
    answer = to_rgb(make(encoding, height, width, rows, padding, big=int(big)), MAX)
    assert np.array_equal(answer, np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)))


def test_rgb8_is_a_view_and_not_a_copy():
    message = make("rgb8", 4, 5, random_bytes(0, 4, 15), padding=3)
    answer = to_rgb(message, MAX)
    message.data[0] ^= 0xFF
    assert answer[0, 0, 0] == message.data[0]


def refusal(message, max_pixels: int = MAX) -> BadImage:
    with pytest.raises(BadImage) as caught:
        to_rgb(message, max_pixels)
    assert caught.value.cause in BadImage.CAUSES
    return caught.value


@pytest.mark.parametrize(
    ("fields", "cause", "words"),
    [
        ({"height": 0}, "zero_size", "at least 1"),
        ({"width": 0}, "zero_size", "at least 1"),
        ({"height": 3000, "width": 3000}, "too_large", str(MAX)),
        ({"step": 0}, "wrong_step", "at least 15"),
        ({"step": 14}, "wrong_step", "at least 15"),
        ({"step": 16}, "truncated", "need 64"),
        ({"height": 5}, "truncated", "need 75"),
        ({"data": as_bytes(b"")}, "truncated", "0 bytes"),
        ({"data": as_bytes(bytes(59))}, "truncated", "59 bytes"),
        ({"encoding": "32FC1"}, "unknown_encoding", "bayer_rggb8"),
        ({"encoding": ""}, "unknown_encoding", "''"),
        ({"encoding": "x" * 5000}, "unknown_encoding", "not known"),
        ({"encoding": "uyvy"}, "odd_size", "multiple of 2"),
        ({"encoding": "nv12"}, "odd_size", "multiple of 2"),
        ({"encoding": "bayer_rggb8", "width": 3}, "odd_size", "at least 4"),
        ({"encoding": "rgb16"}, "wrong_step", "at least 30"),
        ({"encoding": "rgba8"}, "wrong_step", "at least 20"),
    ],
)
def test_a_message_that_lies_is_refused_with_cause_and_sentence(fields, cause, words):
    message = make("rgb8", 4, 5, random_bytes(0, 4, 15))
    for name, value in fields.items():
        setattr(message, name, value)
    error = refusal(message)
    assert error.cause == cause
    assert words in str(error) and len(str(error)) < 500
    with pytest.raises(BadImage):  # all of these can be known without decoding
        image_format(message, MAX)


@settings(max_examples=500)
@given(
    height=st.sampled_from([0, 1, 2, 4, 7, 2**31, 2**32 - 1]),
    width=st.sampled_from([0, 1, 2, 4, 7, 2**31, 2**32 - 1]),
    step=st.sampled_from([0, 1, 3, 8, 21, 2**31, 2**32 - 1]),
    encoding=st.sampled_from([*RAW_ENCODINGS, "32FC1", "RGB8", "rgb8 ", "\x00", "8UC5"]),
    big=st.integers(0, 255),
    data=st.binary(max_size=300),
)
def test_any_image_gives_a_picture_or_a_refusal(height, width, step, encoding, big, data):
    message = Image(height=height, width=width, step=step, encoding=encoding, is_bigendian=big, data=as_bytes(data))
    try:
        picture = to_rgb(message, MAX)
    except BadImage as error:
        assert error.cause in BadImage.CAUSES
    else:
        assert picture.shape == (height, width, 3) and picture.dtype == np.uint8


def compressed(data: bytes, kind: str = "jpeg") -> SimpleNamespace:
    return CompressedImage(format=kind, data=as_bytes(data))


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 4, columns * 3, 255 - columns * 3], -1).astype(np.uint8)


def encode(extension: str, picture: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(extension, picture[..., ::-1] if picture.ndim == 3 else picture, options)[1].tobytes()


@pytest.mark.parametrize("kind", ["jpeg", "bgr8; jpeg compressed bgr8", "", "png"])
def test_jpeg_is_read_whatever_the_format_says(kind):
    picture = smooth()
    answer = to_rgb(compressed(encode(".jpg", picture, cv2.IMWRITE_JPEG_QUALITY, 98), kind), MAX)
    assert np.abs(answer.astype(int) - picture).mean() < 3
    assert image_format(compressed(encode(".jpg", picture)), MAX) == ImageFormat(48, 64, "jpeg")


def test_progressive_and_grey_jpeg_are_read():
    progressive = encode(".jpg", smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert to_rgb(compressed(progressive), MAX).shape == (48, 64, 3)
    assert to_rgb(compressed(encode(".jpg", smooth()[..., 0])), MAX).shape == (48, 64, 3)


@pytest.mark.parametrize("picture", [smooth(), smooth()[..., 0], smooth().astype(np.uint16) * 257])
def test_png_is_read_exactly(picture):
    answer = to_rgb(compressed(encode(".png", picture), "png"), MAX)
    expected = smooth() if picture.ndim == 3 else np.repeat(smooth()[..., :1], 3, -1)
    assert np.abs(answer.astype(int) - expected).max() <= (1 if picture.dtype == np.uint16 else 0)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@given(share=st.floats(0, 0.99))
def test_shortened_data_is_refused(extension, share):
    data = encode(extension, smooth())
    assert refusal(compressed(data[: int(len(data) * share)])).cause in ("truncated", "unknown_encoding")


def test_an_exif_rotation_does_not_turn_the_picture():
    orientation_6 = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = encode(".jpg", smooth())
    segment = b"\xff\xe1" + (len(orientation_6) + 2).to_bytes(2, "big") + orientation_6
    assert to_rgb(compressed(data[:2] + segment + data[2:]), MAX).shape == (48, 64, 3)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch):
    bomb = encode(".png", np.zeros((12_000, 12_000), np.uint8))
    assert len(bomb) < 1 << 20
    monkeypatch.setattr(decoding.cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    assert refusal(compressed(bomb, "png")).cause == "too_large"
    assert refusal(compressed(encode(".jpg", smooth())), max_pixels=48 * 64 - 1).cause == "too_large"


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: data.replace(b"\xff\xdb", b"\xff\xfe"), "corrupt"),  # no quantisation tables
        (
            lambda data: data[: data.index(b"\xff\xc0") + 5] + bytes(4) + data[data.index(b"\xff\xc0") + 9 :],
            "zero_size",
        ),
        (lambda data: b"\xff\xd8" + bytes(500), "unknown_encoding"),
        (lambda data: b"GIF89a" + data, "unknown_encoding"),
        (lambda data: b"", "unknown_encoding"),
    ],
)
def test_damaged_jpeg_is_refused(damage, cause):
    assert refusal(compressed(damage(encode(".jpg", smooth())))).cause == cause


def test_a_png_chunk_that_claims_gigabytes_is_refused_before_it_is_decoded():
    data = bytearray(encode(".png", smooth()))
    place = data.index(b"IDAT") - 4
    data[place : place + 4] = b"\x7f\xff\xff\xff"
    assert refusal(compressed(bytes(data), "png")).cause == "truncated"


def test_damaged_png_is_refused():
    data = bytearray(encode(".png", smooth()))
    place = data.index(b"IDAT") + 30
    data[place : place + 60] = bytes(60)
    assert refusal(compressed(bytes(data), "png")).cause == "corrupt"


@settings(max_examples=300)
@given(data=st.data())
def test_any_damage_gives_a_picture_or_a_refusal(data):
    original = encode(data.draw(st.sampled_from([".jpg", ".png"])), smooth(16, 16))
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = to_rgb(compressed(bytes(damaged)), 1 << 12)
    except BadImage as error:
        assert error.cause in BadImage.CAUSES
    else:
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
