"""Topics and times as others record them: odd, but legal. Each bag is evaluated, or what is wrong with it is said."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import (
    CAMERA_INFO,
    IMAGE,
    RawMessage,
    serialise_camera_info,
    serialise_image,
    standard_types,
)

pytestmark = pytest.mark.slow

CAMERA, TRUTH = "/front/image", "/front/ground_truth"
SIZE = (64, 96)
FRAMES = 6
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 100_000_000


def image(
    index: int, pixels: np.ndarray, topic: str = CAMERA, *, stamp_ns: int | None = None, frame_id: str = "optical"
) -> RawMessage:
    """An image in colour, or of labels, recorded at 10 Hz; its stamp is that time unless given."""
    time_ns = START_NS + index * PERIOD_NS
    encoding = (
        "rgb8" if pixels.ndim == 3 else {"uint8": "mono8", "uint16": "16UC1", "int16": "16SC1"}[str(pixels.dtype)]
    )
    stamp_ns = time_ns if stamp_ns is None else stamp_ns
    return RawMessage(topic, IMAGE, time_ns, serialise_image(pixels, encoding, stamp_ns, frame_id))


def by_time(messages: Iterable[RawMessage]) -> list[RawMessage]:
    return sorted(messages, key=lambda message: message.time_ns)


def test_no_camera_info_is_needed(pictures, write_bag, evaluated):
    report = evaluated(write_bag([image(index, picture) for index, (picture, _) in enumerate(pictures)]))
    assert (report["scores"]["frames"], report["bag"]["truth"]) == (FRAMES, "none")


def test_topics_may_start_late(pictures, write_bag, evaluated):
    """The truth with the third image, and the camera itself long after something else."""
    info = serialise_camera_info(SIZE, np.eye(3), START_NS, "optical")
    early = RawMessage("/front/camera_info", CAMERA_INFO, START_NS - 30_000_000_000, info)
    messages = [image(index, picture) for index, (picture, _) in enumerate(pictures)]
    messages += [image(index, labels, TRUTH) for index, (_, labels) in enumerate(pictures) if index >= 3]
    report = evaluated(write_bag([early, *by_time(messages)]))
    assert (report["scores"]["frames"], report["scores"]["judged_frames"]) == (FRAMES, FRAMES - 3)
    assert [miou is None for miou in report["frames"]["miou"]] == [True] * 3 + [False] * 3
    assert report["bag"]["duration_s"] == pytest.approx(30.5)


def test_truth_that_comes_before_its_image_or_after_belongs_to_it(pictures, write_bag, evaluated):
    shifts = (-900_000_000, 700_000_000, 0, 1_500_000_000, -50_000_000, 400_000_000)
    messages = [image(index, picture) for index, (picture, _) in enumerate(pictures)]
    for index, (_, labels) in enumerate(pictures):
        message = image(index, labels, TRUTH)
        messages.append(RawMessage(TRUTH, IMAGE, message.time_ns + shifts[index], message.data))
    assert evaluated(write_bag(by_time(messages)))["scores"]["judged_frames"] == FRAMES


def test_drivers_that_never_set_a_stamp(pictures, write_bag, evaluated):
    messages = [image(index, picture, stamp_ns=0) for index, (picture, _) in enumerate(pictures)]
    report = evaluated(write_bag(messages))
    assert report["scores"]["frames"] == FRAMES
    assert report["frames"]["stamp_ns"] == [0] * FRAMES and report["resets"] == []


def test_a_clock_of_its_own_and_a_jump_in_it(pictures, write_bag, evaluated):
    """Stamps since the camera was switched on, which then was switched off and on again."""
    stamps = [5.0, 5.1, 5.2, 0.4, 0.5, 3.5]
    messages = [
        image(index, picture, stamp_ns=round(stamp * 1e9))
        for index, (stamp, (picture, _)) in enumerate(zip(stamps, pictures))
    ]
    report = evaluated(write_bag(messages))
    assert report["scores"]["frames"] == FRAMES
    assert report["resets"] == [{"number": 3, "cause": "backward"}, {"number": 5, "cause": "gap"}]


def test_another_frame_id_and_another_size_begin_anew(pictures, write_bag, evaluated):
    frame_ids = ("a", "a", "b", "b", "b", "b")
    messages = [
        image(index, picture[: 48 if index > 3 else None], frame_id=frame_id)
        for index, (frame_id, (picture, _)) in enumerate(zip(frame_ids, pictures))
    ]
    report = evaluated(write_bag(messages))
    assert report["scores"]["frames"] == FRAMES
    assert report["resets"] == [{"number": 2, "cause": "frame_id"}, {"number": 4, "cause": "size"}]


def test_of_several_cameras_one_is_chosen_and_its_own_truth_judges_it(pictures, write_bag, evaluated):
    left, right = "/left/image_raw", "/right/image_raw"
    messages = []
    for index, (picture, labels) in enumerate(pictures):
        messages += [image(index, picture, left), image(index, picture[:, ::-1], right)]
        messages.append(image(index, labels[:, ::-1], "/right/ground_truth"))
    path = write_bag(messages)
    with pytest.raises(BagError, match=r"several camera topics.*: /left/image_raw, /right/image_raw"):
        evaluated(path)
    report = evaluated(path, camera=right)
    assert (report["bag"]["camera"], report["bag"]["truth"]) == (right, "topic /right/ground_truth")
    assert report["scores"]["judged_frames"] == FRAMES


@pytest.mark.parametrize(("kind", "no_label"), [(np.uint16, 65535), (np.int16, -1)])
def test_truth_of_sixteen_bits_is_the_same_truth(pictures, write_bag, evaluated, kind, no_label):
    """As the node publishes it with label_encoding 16UC1 or 16SC1."""
    scores = []
    for name, convert in (
        ("narrow", lambda labels: labels),
        ("wide", lambda labels: np.where(labels == 255, no_label, labels.astype(kind)).astype(kind)),
    ):
        messages = [image(index, picture) for index, (picture, _) in enumerate(pictures)]
        messages += [image(index, convert(labels), TRUTH) for index, (_, labels) in enumerate(pictures)]
        scores.append(evaluated(write_bag(by_time(messages), name))["scores"])
    assert scores[0] == scores[1] and scores[0]["judged_frames"] == FRAMES


def test_truth_of_another_size_is_told(pictures, write_bag, evaluated):
    messages = [image(index, picture) for index, (picture, _) in enumerate(pictures)]
    messages += [image(index, labels[::2, ::2], TRUTH) for index, (_, labels) in enumerate(pictures)]
    with pytest.raises(BagError, match=r"drive': the truth of image 0 is 48x32 and the image 96x64; they must be"):
        evaluated(write_bag(by_time(messages)))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_an_empty_bag_and_a_silent_camera_are_told(write_bag, evaluated, storage, tmp_path):
    with pytest.raises(BagError, match="drive' has no camera images; it is empty"):
        evaluated(write_bag([], storage=storage))
    plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[storage]
    with Writer(tmp_path / "silent", version=8, storage_plugin=plugin) as writer:
        writer.add_connection(CAMERA, IMAGE, typestore=standard_types())
    with pytest.raises(BagError, match=r"has no camera images; it has /front/image \(sensor_msgs/msg/Image\)"):
        evaluated(tmp_path / "silent")
    with pytest.raises(BagError, match=r"silent' has no usable image on /front/image \(0 unusable\)"):
        evaluated(tmp_path / "silent", camera=CAMERA)
