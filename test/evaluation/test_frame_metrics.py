from __future__ import annotations

import json

import numpy as np
import pytest

from sdcpc_ros.evaluation.bootstrap import FrameMetrics


def by_name(report):
    """The total of each metric."""
    metrics = FrameMetrics(report)
    return dict(zip([metric.name for metric in metrics.metrics], metrics.totals(), strict=True))


def test_totals_are_those_of_the_report(make_report):
    report, _ = make_report(frames=30, resets={12: "gap"})
    metrics = by_name(report)
    for name in ("miou", "weighted_iou", "mvc8", "mvc16", "steady", "confidence"):
        assert metrics[name] == pytest.approx(100 * report["scores"][name], abs=2e-4)
    for each in report["classes"]:
        assert metrics[f"iou.{each['name']}"] == pytest.approx(100 * each["iou"], abs=2e-4)
    assert metrics["ms"] == pytest.approx(np.mean(report["timing"]["frames_ms"]))


def test_influence_is_what_the_total_loses_without_a_frame(make_report):
    report, _ = make_report(frames=20, wrong=0.4)
    whole, influence = by_name(report), FrameMetrics(report).influence()
    for frame in (0, 9, 19):
        without = json.loads(json.dumps(report))
        for values in (*without["frames"].values(), without["timing"]["frames_ms"]):
            entries = len(values) // 20
            del values[frame * entries : (frame + 1) * entries]
        for index, (name, total) in enumerate(by_name(without).items()):
            assert influence[frame, index] == pytest.approx(whole[name] - total, abs=1e-9), name


def test_what_was_not_judged_is_nan(make_report):
    report, _ = make_report(frames=5, truth=False)
    del report["timing"]
    metrics = by_name(report)
    assert all(np.isnan(metrics[name]) for name in ("miou", "weighted_iou", "mvc8", "ms", "iou.road"))
    assert metrics["confidence"] == pytest.approx(100 * 200 / 255, abs=1e-3)
    assert not np.isnan(metrics["steady"])
    assert np.isfinite(FrameMetrics(report).influence()).all()


def test_a_class_that_the_truth_does_not_hold_is_left_out(make_report):
    report, _ = make_report(frames=6)
    pixels = np.array(report["frames"]["truth"]).reshape(6, -1)
    right = np.array(report["frames"]["intersection"]).reshape(6, -1)
    pixels[:, 3] = right[:, 3] = 0
    report["frames"]["truth"], report["frames"]["intersection"] = pixels.ravel().tolist(), right.ravel().tolist()
    metrics = by_name(report)
    others = [total for name, total in metrics.items() if name.startswith("iou.") and name != "iou.road"]
    assert np.isnan(metrics["iou.road"])
    assert metrics["miou"] == pytest.approx(np.mean(others))
