from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from sdcpc_ros.replay.demo import demo_headline, demo_hint, demo_table


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "model": "camvid_efficientnet_lite0",
        "bag": "synthetic_street",
        "playback_rate": 1.0,
        "timing": {
            "frames_published": 150,
            "frames_labelled": 60,
            "frames_dropped": 90,
            "input_rate_hz": 15.0,
            "frame_rate_hz": 6.0,
            "latency_ms": {"p50": 214.7, "p95": 275.2, "max": 300.0},
        },
        "quality": {"judged_frames": 60, "miou": 0.473, "mvc8": 0.87, "mvc16": 0.858, "confidence": 0.77},
        "node_diagnostics": {
            **{"received": "148", "dropped": "87", "rejected": "1"},
            **{"network p50/p95 (ms)": "163.2 / 197.7", "total p50/p95 (ms)": "206.0 / 262.0"},
        },
    }


def printed(summary: dict[str, Any]) -> list[str]:
    """The table as a terminal of 80 columns shows it."""
    output = StringIO()
    Console(file=output, width=80).print(demo_table(summary))
    return output.getvalue().splitlines()


def row(lines: list[str], measure: str) -> str:
    (found,) = (line for line in lines if line.startswith(f"│ {measure} "))
    return " ".join(found.replace("│", " ").split())


def test_the_table_says_what_every_number_is(summary):
    lines = printed(summary)
    assert "camvid_efficientnet_lite0 on synthetic_street" in lines[0]
    assert row(lines, "frames") == "frames 150 images published, at 15.0 Hz"
    assert row(lines, "dropped") == "dropped 90 (60%) 87 for newer ones, 1 rejected, 2 lost"
    assert row(lines, "latency p50 / p95").startswith("latency p50 / p95 215 / 275 ms image published")
    assert row(lines, "  total") == "total 206.0 / 262.0 ms of it, in the node"
    assert row(lines, "mIoU") == "mIoU 47.3% 60 masks against the ground truth"
    assert row(lines, "mVC8").startswith("mVC8 87.0%")
    assert max(map(len, lines)) <= 80


def test_sentences_stay_on_one_line_beside_the_numbers_of_a_slow_node(summary):
    summary["timing"]["latency_ms"] = {"p50": 13214.7, "p95": 12275.2, "max": 13300.0}
    summary["node_diagnostics"]["total p50/p95 (ms)"] = "1206.0 / 1262.0"
    lines = printed(summary)
    assert max(map(len, lines)) <= 80
    assert row(lines, "mVC8") == "mVC8 87.0% steady labels where the truth is"
    assert row(lines, "latency p50 / p95") == "latency p50 / p95 13215 / 12275 ms image published to mask received"
    summary["quality"]["judged_frames"] = 0
    assert row(printed(summary), "mIoU, mVC8") == "mIoU, mVC8 - no ground truth of its classes"


def test_what_is_not_known_is_a_dash(summary):
    summary["quality"] = {"judged_frames": 0, "miou": None, "mvc8": None, "mvc16": None, "confidence": None}
    summary["timing"] |= {"frame_rate_hz": None, "latency_ms": {"p50": None, "p95": None}}
    summary["node_diagnostics"] = {}
    lines = printed(summary)
    assert row(lines, "frame rate") == "frame rate - masks received a second"
    assert row(lines, "latency p50 / p95").startswith("latency p50 / p95 - / - ")
    assert row(lines, "dropped") == "dropped 90 (60%) frames without a mask"
    assert row(lines, "mIoU, mVC8") == "mIoU, mVC8 - no ground truth of its classes"
    assert demo_headline(summary)[1] == "60 of 150 frames,  - masks a second,  latency -"


def test_the_headline_has_the_main_numbers(summary):
    title, subtitle = demo_headline(summary)
    assert title == "Synthetic street, segmented live by camvid_efficientnet_lite0"
    assert subtitle == "60 of 150 frames,  6.0 masks a second,  latency 215 ms,  mIoU 47.3%,  mVC8 87.0%"


@pytest.mark.parametrize(("playback_rate", "hinted"), [(1.0, "0.36"), (0.5, "0.18")])
def test_many_drops_bring_a_hint_at_a_rate_that_the_machine_follows(summary, playback_rate, hinted):
    summary["playback_rate"] = playback_rate
    assert f"`sdcpc demo --rate {hinted}` plays slowly enough" in demo_hint(summary)


def test_few_drops_bring_none(summary):
    summary["timing"]["frames_dropped"] = 14
    assert demo_hint(summary) is None
