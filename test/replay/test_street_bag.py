from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import CAMERA_INFO
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.replay.street_bag import (
    CAMERA_INFO_TOPIC,
    GROUND_TRUTH_TOPIC,
    IMAGE_TOPIC,
    StreetBag,
    is_street_bag,
    write_street_bag,
)

SMALL = StreetBag(seed=3, size=(48, 64), length=4)


@pytest.fixture(scope="module")
def small_street(tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "street"
    counts: list[int] = []
    write_street_bag(path, SMALL, on_frame=lambda: counts.append(1))
    assert len(counts) == 4
    return path


def test_the_bag_holds_the_street_at_its_rate(small_street):
    street = SMALL.street()
    with BagReader(small_street) as bag:
        camera = bag.camera_topic()
        assert camera == IMAGE_TOPIC
        assert bag.ground_truth_topic(camera) == GROUND_TRUTH_TOPIC
        assert bag.camera_info_topic(camera) == CAMERA_INFO_TOPIC
        frames = list(bag.frames(camera, GROUND_TRUTH_TOPIC))
        for index, frame in enumerate(frames):
            image, labels = street[index]
            np.testing.assert_array_equal(frame.image(), image)
            np.testing.assert_array_equal(frame.labels(GROUND_TRUTH_TOPIC), labels)
            assert frame.stamp_ns == frame.camera.time_ns
        stamps_s = np.array([frame.stamp_ns - frames[0].stamp_ns for frame in frames]) / 1e9
        np.testing.assert_allclose(stamps_s, np.arange(4) / 15, atol=1e-8)


def test_its_camera_info_describes_the_camera(small_street):
    with BagReader(small_street) as bag:
        message = next(bag.messages(CAMERA_INFO_TOPIC))
        assert message.type == CAMERA_INFO
        info = bag.deserialise(message)
        assert (info.height, info.width) == SMALL.size
        assert info.k[0] == info.k[4] > 0


@pytest.mark.slow
def test_the_same_street_is_recognised_and_no_other(small_street, drive, tmp_path):
    assert is_street_bag(small_street, SMALL)
    for change in ({"seed": 4}, {"size": (64, 64)}, {"length": 5}, {"rate_hz": 10.0}):
        assert not is_street_bag(small_street, replace(SMALL, **change))
    assert not is_street_bag(drive, SMALL)
    assert not is_street_bag(tmp_path / "nothing", SMALL)


def test_nothing_but_a_bag_is_overwritten(tmp_path):
    (tmp_path / "street").mkdir()
    with pytest.raises(BagError, match="in the way"):
        write_street_bag(tmp_path / "street", SMALL)
