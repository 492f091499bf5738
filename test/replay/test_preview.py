from __future__ import annotations

import math

import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.replay.node_process import CONFIDENCE_TOPIC, LABEL_TOPIC
from sdcpc_ros.replay.preview import quality_summary, render_preview


def test_quality_is_that_of_the_metrics():
    scorer = Scorer(CAMVID_11)
    truth = np.zeros((4, 4), np.uint8)
    truth[:, 2:] = 3
    for frame in range(9):
        labels = truth.copy()
        labels[0, 0] = frame % 2  # flickers: right in every second frame
        scorer.update(labels, truth, np.full((4, 4), 204, np.uint8))
    summary = quality_summary(scorer)
    assert summary["judged_frames"] == 9
    assert summary["mvc8"] == pytest.approx(15 / 16)
    assert summary["mvc16"] is None  # no window is that long
    sky = (9 * 7 + 5) / (9 * 8)
    assert summary["iou"]["sky"] == pytest.approx(sky)
    assert summary["iou"]["car"] is None
    assert summary["miou"] == pytest.approx((sky + 1) / 2)
    assert summary["mean_confidence"] == pytest.approx(0.8)


def test_without_ground_truth_only_the_confidence_is_known():
    scorer = Scorer(CAMVID_11)
    scorer.update(np.zeros((2, 2), np.uint8), None, np.full((2, 2), 255, np.uint8))
    summary = quality_summary(scorer)
    assert (summary["judged_frames"], summary["miou"], summary["mean_confidence"]) == (0, None, 1.0)
    assert not any(isinstance(value, float) and math.isnan(value) for value in summary.values())


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
