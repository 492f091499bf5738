"""The way through cv_bridge, and messages written; what is read without cv_bridge is in test/images."""

from __future__ import annotations

import array
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs", reason="no ROS 2 in this environment")

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.nodes import image_messages
from sdcpc_ros.nodes.image_messages import ImageWriter, decode, image_format

MAX = 1 << 22
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**32 - 1)


def random_bytes(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def rare_image() -> Image:
    data = array.array("B", random_bytes(0, 60).tobytes())
    return Image(height=4, width=5, encoding="rare", step=15, data=data)


def to_rgb(message) -> np.ndarray:
    return decode(message, image_format(message, MAX))


def refusal(message) -> BadImage:
    with pytest.raises(BadImage) as caught:
        to_rgb(message)
    return caught.value


def test_ros_messages_are_read():
    pixels = random_bytes(1, 4, 5, 3)
    message = Image(height=4, width=5, encoding="rgb8", step=15, data=array.array("B", pixels.tobytes()))
    assert np.array_equal(to_rgb(message), pixels)
    assert image_format(message, MAX).encoding == "rgb8"
    assert refusal(CompressedImage(format="jpeg", data=array.array("B", b"nothing"))).cause == "unknown_encoding"


@pytest.fixture
def cv_bridge(monkeypatch):
    """A stand-in for cv_bridge, which the wheels of ROS don't have: knows one encoding."""

    class CvBridge:
        def imgmsg_to_cv2(self, message, desired_encoding):
            if message.encoding != "rare" or desired_encoding != "rgb8":
                raise RuntimeError("not a colour format")
            return np.full((message.height, message.width, 3), 7, np.uint8)

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=CvBridge))
    image_messages.find_cv_bridge.cache_clear()
    yield
    image_messages.find_cv_bridge.cache_clear()


def test_rare_encodings_go_through_cv_bridge(cv_bridge):
    message = rare_image()
    assert np.array_equal(to_rgb(message), np.full((4, 5, 3), 7))
    message.encoding = "rarer"
    assert refusal(message).cause == "unknown_encoding"
    message.step = 99
    assert refusal(message).cause == "truncated"


def test_a_cv_bridge_that_does_not_fit_numpy_is_as_none(monkeypatch):
    broken = ModuleType("cv_bridge")  # importable, but without CvBridge
    monkeypatch.setitem(sys.modules, "cv_bridge", broken)
    image_messages.find_cv_bridge.cache_clear()
    assert "'rare' is not known" in str(refusal(rare_image()))
    image_messages.find_cv_bridge.cache_clear()


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "rgb8"])
@given(size=sizes, seed=seeds)
def test_what_is_written_can_be_read(encoding, size, seed):
    writer, header = ImageWriter(encoding), Header(frame_id="eye")
    pixels = random_bytes(seed, *size, 3) if encoding == "rgb8" else random_bytes(seed, *size)
    message = writer.write(header, pixels)
    assert message.header is header
    assert (message.height, message.width, message.step) == (*size, size[1] * (3 if encoding == "rgb8" else 1))
    assert np.array_equal(to_rgb(message), pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1))


def test_sixteen_bits_are_written_little_endian():
    message = ImageWriter("16UC1").write(Header(), np.array([[1, 0x0203], [65535, 0]], np.uint16))
    assert bytes(message.data) == bytes([1, 0, 3, 2, 255, 255, 0, 0])
    assert (message.step, message.is_bigendian) == (4, 0)


def test_negative_ids_are_written():
    message = ImageWriter("16SC1").write(Header(), np.array([[1, -1]], np.int16))
    assert bytes(message.data) == bytes([1, 0, 255, 255]) and message.encoding == "16SC1"


def test_a_writer_uses_its_memory_again_until_the_size_changes():
    writer = ImageWriter("mono8")
    first = writer.write(Header(), np.zeros((2, 3), np.uint8)).data
    message = writer.write(Header(), np.ones((2, 3), np.uint8))
    assert message.data is first and set(message.data) == {1}
    message = writer.write(Header(), np.full((4, 4), 9, np.uint8))
    assert bytes(message.data) == bytes([9] * 16)
