from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sdcpc_ros.bags.labelled_bag import write_labelled_bag
from sdcpc_ros.bags.messages import IMAGE, serialise_image
from sdcpc_ros.bags.reader import BagReader, RawMessage

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
    with (
        BagReader(write_bag(drive, "drive", storage)) as bag,
        BagReader(write_bag(arrivals, "recording", storage)) as recording,
    ):
        inputs = bag.messages("/camera/image_raw", "/camera/ground_truth")
        outputs = (LABEL, "/node/camera/confidence/image_raw")  # the second was never published
        write_labelled_bag(tmp_path / "labelled", inputs, recording, outputs, frame_times, source=bag)

    with BagReader(tmp_path / "labelled") as labelled:
        assert set(labelled.topics) == {"/camera/image_raw", "/camera/ground_truth", LABEL}
        assert labelled.camera_topic() == "/camera/image_raw"
        copied = [message for message in labelled.messages() if message.topic != LABEL]
        assert copied == [m for m in drive if m.topic in ("/camera/image_raw", "/camera/ground_truth")]
        labels = list(labelled.messages(LABEL))
        assert [m.time_ns for m in labels] == [image.time_ns for image in answered]
        assert [m.data for m in labels] == [arrival.data for arrival in arrivals[:2]]
        masks = [frame.labels(LABEL) for frame in labelled.frames("/camera/image_raw", LABEL)]
        assert [None if mask is None else int(mask[0, 0]) for mask in masks] == [0, None, 1, None]
