from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.live_timing import LiveQuality, LiveTiming, timing_summary
from sdcpc_ros.label_set import CAMVID_11

MS = 1_000_000


def test_timing_counts_answers_and_measures_them():
    # Five frames at 10 Hz; the second gets no mask, and a mask of an unknown stamp does not count.
    timing = LiveTiming({stamp: stamp * 100 * MS for stamp in range(1, 6)})
    timing.arrived_ns = {1: 130 * MS, 3: 340 * MS, 4: 450 * MS, 5: 560 * MS, 99: 570 * MS}
    summary = timing_summary(timing)
    assert (summary["frames_published"], summary["frames_labelled"], summary["frames_dropped"]) == (5, 4, 1)
    assert summary["input_rate_hz"] == pytest.approx(10)
    assert summary["frame_rate_hz"] == pytest.approx(3 / 0.43)
    assert summary["latency_ms"] == {"p50": 45, "p95": pytest.approx(58.5), "max": 60}


def test_timing_of_a_run_without_answers_has_no_numbers_but_is_json():
    summary = timing_summary(LiveTiming({1: 1}))
    assert summary["frames_dropped"] == 1
    assert summary["frame_rate_hz"] is None
    assert summary["latency_ms"] == {"p50": None, "p95": None, "max": None}
    json.dumps(summary, allow_nan=False)


def test_quality_is_that_of_the_metrics():
    quality = LiveQuality(CAMVID_11)
    truth = np.zeros((4, 4), np.uint8)
    truth[:, 2:] = 3
    for frame in range(9):
        labels = truth.copy()
        labels[0, 0] = frame % 2  # flickers: right in every second frame
        quality.update(labels, truth, np.full((4, 4), 204, np.uint8))
    summary = quality.summary()
    assert summary["judged_frames"] == 9
    assert summary["mvc8"] == pytest.approx(15 / 16)
    assert summary["mvc16"] is None  # no window is that long
    sky = (9 * 7 + 5) / (9 * 8)
    assert summary["iou"]["sky"] == pytest.approx(sky)
    assert summary["iou"]["car"] is None
    assert summary["miou"] == pytest.approx((sky + 1) / 2)
    assert summary["mean_confidence"] == pytest.approx(0.8)


def test_without_ground_truth_only_the_confidence_is_known():
    quality = LiveQuality(CAMVID_11)
    quality.update(np.zeros((2, 2), np.uint8), None, np.full((2, 2), 255, np.uint8))
    summary = quality.summary()
    assert (summary["judged_frames"], summary["miou"], summary["mean_confidence"]) == (0, None, 1.0)
    assert not any(isinstance(value, float) and math.isnan(value) for value in summary.values())


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [(np.zeros((3, 2), np.uint8), "differ in size"), (np.full((2, 2), 11, np.uint8), "the truth holds id 11")],
)
def test_a_ground_truth_that_does_not_go_with_the_masks_is_refused(truth, sentence):
    with pytest.raises(BagError, match=f"ground truth does not go with the masks of the node: .*{sentence}"):
        LiveQuality(CAMVID_11).update(np.zeros((2, 2), np.uint8), truth, None)
