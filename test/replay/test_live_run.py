from __future__ import annotations

import json

import pytest

from sdcpc_ros.replay.live_run import LiveRun
from sdcpc_ros.replay.node_process import NodeTopics

MS = 1_000_000


def test_timing_counts_answers_and_measures_them():
    # Five frames at 10 Hz; the second gets no mask, and a mask of an unknown stamp does not count.
    run = LiveRun(NodeTopics(), published_ns={stamp: stamp * 100 * MS for stamp in range(1, 6)})
    run.arrived_ns = {1: 130 * MS, 3: 340 * MS, 4: 450 * MS, 5: 560 * MS, 99: 570 * MS}
    summary = run.summary()
    assert (summary["frames_published"], summary["frames_labelled"], summary["frames_dropped"]) == (5, 4, 1)
    assert summary["input_rate_hz"] == pytest.approx(10)
    assert summary["frame_rate_hz"] == pytest.approx(3 / 0.43)
    assert summary["latency_ms"] == {"p50": 45, "p95": pytest.approx(58.5), "max": 60}


def test_timing_of_a_run_without_answers_has_no_numbers_but_is_json():
    summary = LiveRun(NodeTopics(), published_ns={1: 1}).summary()
    assert summary["frames_dropped"] == 1
    assert summary["frame_rate_hz"] is None
    assert summary["latency_ms"] == {"p50": None, "p95": None, "max": None}
    json.dumps(summary, allow_nan=False)
