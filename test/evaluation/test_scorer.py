from __future__ import annotations

import hashlib
import json
import tracemalloc

import numpy as np
import pytest

from sdcpc_ros.evaluation.metrics import ConfusionMatrix, VideoConsistency
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE


def frames(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Labels, truth with void in it, and confidence."""
    random = np.random.default_rng(seed)
    truth = random.choice([0, 3, 7, IGNORE], (6, 8)).astype(np.uint8)
    made = []
    for _ in range(count):
        labels = np.where(random.random((6, 8)) < 0.9, np.minimum(truth, 10), 4).astype(np.uint8)
        made.append((labels, truth, random.integers(0, 256, (6, 8), np.uint8)))
    return made


def update(scores: Scorer, number: int, labels, truth, confidence, reset: str | None = None) -> None:
    scores.update(labels, truth, confidence, number=number, stamp_ns=number, references=0, reset=reset)


def test_totals_are_those_of_the_metrics_and_rows_those_of_the_frames():
    scores, confusion = Scorer(CAMVID_11), ConfusionMatrix(11)
    consistency = {n: VideoConsistency(n) for n in (8, 16)}
    digest = hashlib.sha256().digest()
    made = frames(20)
    for number, (labels, truth, confidence) in enumerate(made):
        update(scores, number, labels, truth, confidence)
        confusion.update(truth, labels)
        digest = hashlib.sha256(digest + labels.tobytes()).digest()
        for metric in consistency.values():
            metric.update(truth, labels)
    summary = scores.scores()
    assert (summary["frames"], summary["judged_frames"]) == (20, 20)
    assert summary["miou"] == pytest.approx(confusion.miou(), abs=1e-6)
    assert summary["mvc8"] == pytest.approx(consistency[8].value(), abs=1e-6)
    assert summary["mvc16"] == pytest.approx(consistency[16].value(), abs=1e-6)
    assert summary["confidence"] == pytest.approx(np.mean([c.mean() / 255 for _, _, c in made]), abs=1e-6)
    assert scores.labels_sha256() == digest.hex()

    log = scores.log
    assert [value is not None for value in log.mvc16] == [False] * 15 + [True] * 5
    intersection, truth_pixels, predicted = (
        np.array(column).reshape(20, 11) for column in (log.intersection, log.truth, log.predicted)
    )
    assert intersection.shape == (20, 11)
    # Any choice of frames can be scored from its rows: of all, the totals.
    iou = (
        intersection.sum(0)[truth_pixels.sum(0) > 0]
        / (truth_pixels + predicted - intersection).sum(0)[truth_pixels.sum(0) > 0]
    )
    assert iou.mean() == pytest.approx(confusion.miou())
    json.dumps(log.to_dict(), allow_nan=False)


def test_classes_have_their_shares_and_confidence():
    scores = Scorer(CAMVID_11)
    labels = np.array([[0, 0, 3, 3]], np.uint8)
    update(scores, 0, labels, np.array([[0, 0, 0, IGNORE]], np.uint8), np.array([[255, 0, 51, 51]], np.uint8))
    by_name = {entry["name"]: entry for entry in scores.classes()}
    assert by_name["sky"] | {"colour": None} == {
        **{"name": "sky", "colour": None, "iou": pytest.approx(2 / 3, abs=1e-6), "truth_share": 1.0},
        **{"predicted_share": 0.5, "confidence": 0.5},
    }
    assert (by_name["road"]["iou"], by_name["road"]["truth_share"], by_name["road"]["confidence"]) == (None, 0.0, 0.2)
    assert by_name["car"]["confidence"] is None


def test_a_reset_begins_windows_and_flicker_anew():
    scores = Scorer(CAMVID_11)
    for number in range(16):
        labels = np.full((2, 2), number // 8, np.uint8)  # changes at the reset, and only there
        update(scores, number, labels, np.zeros((2, 2), np.uint8), None, "gap" if number == 8 else None)
    assert scores.scores()["mvc8"] == 1.0 and scores.scores()["steady"] == 1.0
    assert [number for number, value in enumerate(scores.log.mvc8) if value is not None] == [7, 15]
    assert scores.log.reset[8] == "gap" and scores.log.confidence == [None] * 16


def test_frames_without_truth_are_not_judged_and_hold_no_window():
    scores = Scorer(CAMVID_11)
    zeros = np.zeros((2, 2), np.uint8)
    for number in range(17):
        update(scores, number, zeros, None if number == 8 else zeros, None)
    assert scores.judged == 16
    assert [number for number, value in enumerate(scores.log.mvc8) if value is not None] == [7, 16]
    empty = Scorer(CAMVID_11)
    update(empty, 0, zeros, None, None)
    assert empty.scores()["miou"] is None and empty.scores()["mvc8"] is None


def test_a_truth_that_does_not_fit_counts_nothing():
    scores = Scorer(CAMVID_11)
    with pytest.raises(ValueError, match="differ in size"):
        update(scores, 0, np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), None)
    assert len(scores.log) == 0 and scores.labels_sha256() == hashlib.sha256().hexdigest()


def test_a_frame_leaves_half_a_kilobyte():
    """All that grows with a bag, with eleven classes: a million frames are half a gigabyte."""
    made = frames(16)
    scores = Scorer(CAMVID_11)
    sizes = []
    tracemalloc.start()
    try:
        for number in range(2400):
            scores.update(*made[number % 16], number=number, stamp_ns=10**18 + number, references=3, reset=None)
            if number in (399, 2399):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert (sizes[1] - sizes[0]) / 2000 < 600
