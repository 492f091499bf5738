from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image, standard_types
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.replay.bag_evaluation import evaluate_bag
from sdcpc_ros.replay.bag_source import BagSettings, BagSource
from sdcpc_ros.replay.image_bags import FRAME_ID, IMAGE_TOPIC
from sdcpc_ros.replay.labelled_bag import labelled_bag_sink, write_labelled_bag
from sdcpc_ros.replay.live_run import LiveRun
from sdcpc_ros.replay.node_process import (
    CLASS_STATISTICS_TOPIC,
    CONFIDENCE_TOPIC,
    LABEL_INFO_TOPIC,
    LABEL_TOPIC,
    NodeTopics,
)
from sdcpc_ros.replay.segmented_frames import SegmentedFrame
from sdcpc_ros.streaming.class_statistics import class_statistics

LABEL = "/node/camera/label/image_raw"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_masks_lie_beside_the_images_they_were_made_of(write_bag, camera_messages, tmp_path, storage):
    drive = [replace(message, time_ns=message.time_ns + 5_000) for message in camera_messages(4)]
    images = [message for message in drive if message.topic == "/camera/image_raw"]
    answered = [images[0], images[2]]  # the second and fourth frame were dropped
    foreign_stamp = 77
    arrivals = [
        RawMessage(LABEL, IMAGE, 10**9 + index, serialise_image(np.full((6, 8), index, np.uint8), "mono8", stamp, ""))
        for index, stamp in enumerate([image.stamp_ns for image in answered] + [foreign_stamp])
    ]
    frame_times = {image.stamp_ns: image.time_ns for image in images}
    source = write_bag(drive, "drive", storage)
    run = LiveRun(NodeTopics("/node", "camera"), bag_times_ns=frame_times)  # no confidence was published
    with BagReader(write_bag(arrivals, "recording", storage)) as recording, BagReader(source) as bag:
        write_labelled_bag(tmp_path / "labelled", BagSource(bag), run, recording)

    with BagReader(tmp_path / "labelled") as labelled:
        assert set(labelled.topics) == {*(message.topic for message in drive), LABEL}
        assert labelled.camera_topic() == "/camera/image_raw"
        copied = [message for message in labelled.messages() if message.topic != LABEL]
        assert copied == drive
        labels = list(labelled.messages(LABEL))
        assert [m.time_ns for m in labels] == [image.time_ns for image in answered]
        assert [m.data for m in labels] == [arrival.data for arrival in arrivals[:2]]
        masks = [frame.labels(LABEL) for frame in labelled.frames("/camera/image_raw", LABEL)]
        assert [None if mask is None else int(mask[0, 0]) for mask in masks] == [0, None, 1, None]


def labelled(bag, path, model, *, break_after: int | None = None, **part) -> list[SegmentedFrame]:
    """Evaluate `bag` with a labelled bag at `path`; the frames that went into it."""
    frames: list[SegmentedFrame] = []

    def watch(frame):
        frames.append(frame)
        if len(frames) == break_after:
            raise KeyboardInterrupt

    settings = BagSettings(**part)
    with labelled_bag_sink(path, bag, model.segmenter.label_set, settings) as write:
        evaluate_bag(bag, model, settings, sinks=[write, watch])
    return frames


def test_an_evaluation_leaves_what_the_node_would_publish(street, tiny_model, tmp_path):
    frames = labelled(street, tmp_path / "labelled", tiny_model)
    with BagReader(tmp_path / "labelled") as bag, BagReader(street) as source:
        for topic in source.topics:
            assert list(bag.messages(topic)) == list(source.messages(topic))
        assert set(bag.topics) - set(source.topics) == {
            *(LABEL_TOPIC, CONFIDENCE_TOPIC, LABEL_INFO_TOPIC, CLASS_STATISTICS_TOPIC)
        }
        times = [message.time_ns for message in bag.messages()]
        assert times == sorted(times)
        assert bag.camera_topic() == IMAGE_TOPIC and bag.topics[LABEL_INFO_TOPIC].latched

        outputs = (LABEL_TOPIC, CONFIDENCE_TOPIC, CLASS_STATISTICS_TOPIC)
        for frame, stored in zip(frames, bag.frames(IMAGE_TOPIC, *outputs), strict=True):
            np.testing.assert_array_equal(stored.labels(LABEL_TOPIC), frame.segmentation.labels)
            messages = {topic: bag.deserialise(stored.companions[topic]) for topic in outputs}
            mask = messages[LABEL_TOPIC]
            assert (mask.encoding, mask.step, mask.header.frame_id) == ("mono8", mask.width, FRAME_ID)
            confidence = np.asarray(messages[CONFIDENCE_TOPIC].data).reshape(64, 96)
            np.testing.assert_array_equal(confidence, frame.segmentation.confidence)
            statistics, expected = (
                messages[CLASS_STATISTICS_TOPIC],
                class_statistics(frame.segmentation.labels, frame.segmentation.confidence),
            )
            assert statistics.class_ids.tolist() == expected["class_ids"]
            np.testing.assert_allclose(statistics.pixel_share, expected["pixel_share"], rtol=1e-6)
            np.testing.assert_allclose(statistics.mean_confidence, expected["mean_confidence"], rtol=1e-6)

        (info,) = [bag.deserialise(message) for message in bag.messages(LABEL_INFO_TOPIC)]
        assert [(one.class_id, one.class_name) for one in info.class_map] == list(enumerate(CAMVID_11.class_names))
        order = [message.topic for message in bag.messages(LABEL_TOPIC, LABEL_INFO_TOPIC)]
        assert order[0] == LABEL_INFO_TOPIC  # consumers need the names before the first mask


def test_a_labelled_bag_can_be_evaluated_again(street, tiny_model, tmp_path):
    labelled(street, tmp_path / "labelled", tiny_model)
    reports = [evaluate_bag(bag, tiny_model).report for bag in (street, tmp_path / "labelled")]
    assert reports[0]["labels_sha256"] == reports[1]["labels_sha256"] and reports[0]["scores"] == reports[1]["scores"]
    # What was labelled as its own truth is right everywhere; but it cannot be written beside itself.
    truth = BagSettings(truth=LABEL_TOPIC)
    assert evaluate_bag(tmp_path / "labelled", tiny_model, truth).report["scores"]["miou"] == 1
    with pytest.raises(BagError, match="has /segmentation_node/camera/label/image_raw already"):
        labelled(tmp_path / "labelled", tmp_path / "twice", tiny_model, truth=LABEL_TOPIC)


def test_transforms_come_along_and_latched_ones_from_before_the_start(street, tiny_model, tmp_path):
    tf = standard_types().types["tf2_msgs/msg/TFMessage"](transforms=[])
    data = bytes(standard_types().serialize_cdr(tf, "tf2_msgs/msg/TFMessage"))
    with BagReader(street) as source, BagWriter(tmp_path / "drive", latched=["/tf_static"]) as writer:
        for number, message in enumerate(source.messages()):
            if number % 9 == 0:
                for topic in ("/tf", "/imu_like") + (("/tf_static",) if number == 0 else ()):
                    writer.write(RawMessage(topic, "tf2_msgs/msg/TFMessage", message.time_ns, data))
            writer.write(message)
    frames = labelled(tmp_path / "drive", tmp_path / "labelled", tiny_model, start_s=0.5, duration_s=0.3)
    with BagReader(tmp_path / "labelled") as bag:
        assert "/imu_like" not in bag.topics and 0 < bag.topics["/tf"].message_count < 6
        assert bag.topics["/tf_static"].message_count == 1 and bag.topics["/tf_static"].latched
        (static,) = bag.messages("/tf_static")
        assert static.time_ns == bag.start_ns
        assert bag.topics[IMAGE_TOPIC].message_count == len(frames) == 4


def test_images_that_cannot_be_used_are_copied_without_labels(street, tiny_model, tmp_path):
    with BagReader(street) as source, BagWriter(tmp_path / "drive") as writer:
        for message in source.messages(IMAGE_TOPIC):
            writer.write(message)
            broken = replace(message, time_ns=message.time_ns + 1, data=message.data[:100])
            writer.write(broken)
    labelled(tmp_path / "drive", tmp_path / "labelled", tiny_model)
    with BagReader(tmp_path / "labelled") as bag:
        assert (bag.topics[IMAGE_TOPIC].message_count, bag.topics[LABEL_TOPIC].message_count) == (36, 18)


def test_a_run_that_is_stopped_leaves_no_half_bag(street, tiny_model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        labelled(street, tmp_path / "labelled", tiny_model, break_after=3)
    assert list(tmp_path.iterdir()) == []
