"""Levels and values of a camera's diagnostics, from statuses made by hand."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("diagnostic_msgs", reason="no ROS 2 in this environment")

from diagnostic_msgs.msg import DiagnosticStatus

from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.nodes.camera_stream import DROP_CAUSES, StreamStatus
from sdcpc_ros.nodes.diagnostics import STALE_AFTER_S, TOLERABLE_AGE_S, CameraReporter
from sdcpc_ros.streaming.continuity import RESET_CAUSES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "node.md"

GOOD = StreamStatus(
    Counter(received=10, processed=10),
    active_since_s=100.0,
    last_received_s=100.0,
    input_age_s=0.0125,
    stage_ms={"network": (8.0, 9.5)},
    batch=(2, 4),
)


def later(counts: dict[str, int] | None = None, **changes) -> StreamStatus:
    """GOOD with these counts, and what else changed."""
    return replace(GOOD, counts=GOOD.counts | Counter(counts or {}), **changes)


class Reports:
    """Reports one second apart."""

    def __init__(self) -> None:
        self._reporter = CameraReporter("segmentation_node", "eye")
        self._now_s = 99.0

    def __call__(self, status: StreamStatus, after_s: float = 1.0) -> DiagnosticStatus:
        self._now_s += after_s
        return self._reporter.report(status, {}, now_s=self._now_s, buffer_fill=2 / 3)


@pytest.fixture
def report() -> Reports:
    return Reports()


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_all_is_well(report):
    status = report(GOOD)
    assert (status.level, status.name, status.hardware_id) == (DiagnosticStatus.OK, "segmentation_node: eye", "eye")
    shown = values(status)
    assert shown["received"] == shown["processed"] == "10"
    assert shown["input age (s)"] == "0.013" and shown["buffer fill"] == "0.67"
    assert shown["network p50/p95 (ms)"] == "8.0 / 9.5"
    assert shown["batch p50/largest (frames)"] == "2 / 4"


def test_rates_are_over_the_time_since_the_last_report(report):
    assert values(report(GOOD))["input rate (Hz)"] == ""
    shown = values(report(later({"received": 40, "processed": 25}, last_received_s=102.0), after_s=2.0))
    assert (shown["input rate (Hz)"], shown["output rate (Hz)"]) == ("15.0", "7.5")


def test_every_cause_has_a_value_whether_it_came_or_not(report):
    shown = values(report(later({"rejected: corrupt": 3, "resets: gap": 2, "resets: backward": 1})))
    assert [shown[f"rejected: {cause}"] for cause in BadImage.CAUSES].count("0") == len(BadImage.CAUSES) - 1
    assert (shown["rejected"], shown["rejected: corrupt"]) == ("3", "3")
    assert (shown["resets"], shown["resets: gap"], shown["resets: backward"]) == ("3", "2", "1")
    assert all(f"resets: {cause}" in shown for cause in RESET_CAUSES)


@pytest.mark.parametrize(
    ("counts", "change", "level", "words"),
    [
        ({"processed": 20}, {}, DiagnosticStatus.OK, "segmenting"),
        ({"dropped: newer": 5}, {}, DiagnosticStatus.OK, "segmenting"),
        ({"dropped: newer": 6}, {}, DiagnosticStatus.WARN, "6 of 10"),
        ({"dropped: deactivated": 6}, {}, DiagnosticStatus.OK, "segmenting"),
        ({}, {"input_age_s": 0.9}, DiagnosticStatus.OK, "segmenting"),
        ({}, {"input_age_s": 1.1}, DiagnosticStatus.WARN, "1.1 s behind"),
        ({}, {"input_age_s": -3600.0}, DiagnosticStatus.WARN, "3600.0 s ahead of"),
        ({"dropped: newer": 6}, {"input_age_s": 9.0}, DiagnosticStatus.WARN, "6 of 10"),
        ({"rejected: truncated": 1}, {}, DiagnosticStatus.WARN, "truncated (1)"),
        ({"rejected: truncated": 9, "rejected: corrupt": 1}, {}, DiagnosticStatus.ERROR, "every image"),
        ({"resets: backward": 1}, {}, DiagnosticStatus.WARN, "backward (1)"),
        ({"resets: requested": 1}, {}, DiagnosticStatus.OK, "segmenting"),
        ({"camera_info refused": 1}, {}, DiagnosticStatus.WARN, "CameraInfo"),
        ({"lost to faults": 2, "rejected: corrupt": 1}, {}, DiagnosticStatus.ERROR, "2 frames"),
        ({"lost to faults": 1}, {}, DiagnosticStatus.ERROR, "1 frame lost"),
    ],
)
def test_levels_follow_from_what_is_new(report, counts, change, level, words):
    report(GOOD)
    counts = {"received": 20, **counts}
    status = report(later(counts, last_received_s=101.0, **change))
    assert status.level == level and words in status.message
    counts |= {"received": 30, "processed": 30}
    status = report(later(counts, last_received_s=102.0, input_age_s=0.01))
    assert status.level == DiagnosticStatus.OK  # the old is forgotten


def test_silence_is_stale_while_active_only(report):
    assert report(GOOD).level == DiagnosticStatus.OK
    status = report(GOOD, after_s=STALE_AFTER_S + 0.1)
    assert status.level == DiagnosticStatus.STALE and "published" in status.message
    status = report(replace(GOOD, active_since_s=None))
    assert (status.level, status.message) == (DiagnosticStatus.OK, "not active")
    again = replace(GOOD, active_since_s=104.0)  # it gets its time
    assert report(again).level == DiagnosticStatus.OK
    assert report(again, after_s=STALE_AFTER_S + 0.1).level == DiagnosticStatus.STALE


def test_a_camera_that_never_sent_is_stale_after_its_time(report):
    never = StreamStatus(active_since_s=100.0)
    assert report(never).level == DiagnosticStatus.OK
    assert report(never, after_s=STALE_AFTER_S + 0.1).level == DiagnosticStatus.STALE


def test_the_guide_explains_every_value_cause_and_limit(report):
    guide = GUIDE.read_text(encoding="utf-8")
    keys = {key.split(":")[0].removesuffix(" (Hz)") for key in values(report(replace(GOOD, stage_ms={})))}
    assert not {key for key in keys if key not in guide}
    causes = re.findall(r"^\| (?:dropped|rejected|resets).*", guide, re.MULTILINE)
    explained = " ".join(causes)
    assert not {cause for cause in (*BadImage.CAUSES, *RESET_CAUSES, *DROP_CAUSES) if cause not in explained}
    assert f"no image for {STALE_AFTER_S:g} s" in guide and f"more than {TOLERABLE_AGE_S:g} s off" in guide


def test_two_nodes_have_statuses_of_different_names():
    names = [
        CameraReporter(node, "eye").report(GOOD, {"image topic": "/eye/image_raw"}, now_s=100.0, buffer_fill=1.0).name
        for node in ("/left/segmentation_node", "/right/segmentation_node", "/segmentation_node")
    ]
    assert names == ["left/segmentation_node: eye", "right/segmentation_node: eye", "segmentation_node: eye"]
