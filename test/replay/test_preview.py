from __future__ import annotations

import av
import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.replay.demo import render_preview
from sdcpc_ros.replay.node_process import CONFIDENCE_TOPIC, LABEL_TOPIC


def test_a_preview_has_the_scores_of_its_masks_and_a_frame_for_every_image(write_bag, camera_messages, tmp_path):
    """Twelve frames of 32 x 48; the node answered all but two, and the corner flickers."""
    truth = np.zeros((32, 48), np.uint8)
    truth[:, 24:] = 3
    messages = []
    for number in range(12):
        time_ns = 1 + number * 100_000_000
        labels = truth.copy()
        labels[:8, :8] = number % 2
        image = np.full((32, 48, 3), 90, np.uint8)
        pictures = {"/camera/image_raw": image, "/camera/ground_truth": truth}
        if number not in (4, 5):
            pictures |= {LABEL_TOPIC: labels, CONFIDENCE_TOPIC: np.full((32, 48), 204, np.uint8)}
        for topic, pixels in pictures.items():
            encoding = "rgb8" if pixels.ndim == 3 else "mono8"
            messages.append(RawMessage(topic, IMAGE, time_ns, serialise_image(pixels, encoding, time_ns, "optical")))
    topics, shown = ("/camera/image_raw", "/camera/ground_truth"), []
    with BagReader(write_bag(messages)) as bag:
        quality, rows = render_preview(
            bag, *topics, CAMVID_11, tmp_path / "video.mp4", on_frame=lambda: shown.append(1)
        )
    assert (len(shown), quality["judged_frames"], quality["mvc16"]) == (12, 10, None)
    assert quality["mvc8"] == pytest.approx(1 - 64 / (32 * 48), abs=1e-6)
    iou = {entry["name"]: entry["iou"] for entry in quality["classes"]}
    sky = 1 - 5 * 64 / (10 * 32 * 24)
    assert iou["sky"] == pytest.approx(sky, abs=1e-6) and iou["car"] is None
    assert quality["miou"] == pytest.approx((sky + 1) / 2, abs=1e-6)
    assert quality["confidence"] == pytest.approx(0.8)
    assert [row.shape for row in rows] == [(32, 3 * 48, 3)] * 3  # camera, masks, truth
    with av.open(str(tmp_path / "video.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 12 and frames[0].shape[1] == 2 * 48


def test_without_ground_truth_only_the_confidence_is_known(write_bag, camera_messages, tmp_path):
    drive = camera_messages(1)
    time_ns, pixels = drive[0].time_ns, np.zeros((6, 8), np.uint8)
    masks = [
        RawMessage(topic, IMAGE, time_ns, serialise_image(pixels + full, "mono8", time_ns, "optical"))
        for topic, full in ((LABEL_TOPIC, np.uint8(0)), (CONFIDENCE_TOPIC, np.uint8(255)))
    ]
    with BagReader(write_bag([*drive[:2], *masks])) as bag:
        quality, (row,) = render_preview(bag, "/camera/image_raw", None, CAMVID_11, tmp_path / "video.mp4")
    assert (quality["judged_frames"], quality["miou"], quality["confidence"]) == (0, None, 1.0)
    assert row.shape == (6, 16, 3)


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [(np.zeros((9, 8), np.uint8), "differ in size"), (np.full((6, 8), 11, np.uint8), "the truth holds id 11")],
)
def test_a_ground_truth_that_does_not_go_with_the_masks_is_refused(
    write_bag, camera_messages, tmp_path, truth, sentence
):
    drive = camera_messages(1)
    time_ns, zeros = drive[0].time_ns, np.zeros((6, 8), np.uint8)
    masks = [
        RawMessage(topic, IMAGE, time_ns, serialise_image(pixels, "mono8", time_ns, "optical"))
        for topic, pixels in ((LABEL_TOPIC, zeros), (CONFIDENCE_TOPIC, zeros), ("/camera/ground_truth", truth))
    ]
    told = f"ground truth does not go with the masks of the node: .*{sentence}"
    with BagReader(write_bag([*drive[:2], *masks])) as bag, pytest.raises(BagError, match=told):
        render_preview(bag, "/camera/image_raw", "/camera/ground_truth", CAMVID_11, tmp_path / "video.mp4")
