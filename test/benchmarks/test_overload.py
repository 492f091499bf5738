"""The overload measurement against a node made of a thread, whose time a frame takes is known."""

from __future__ import annotations

import json
import os
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import keep_up, node_load, overload
from benchmarks.node_load import Answers, Flow
from benchmarks.overload_report import Load, Overload, write_results
from sdcpc_ros.bags.errors import PlaybackError

FRAME_S = 0.02


class Bench:
    """Answers the newest frame after FRAME_S, and drops those that came meanwhile."""

    def __init__(self) -> None:
        self.answers, self.process, self.pid = Answers(), self, os.getpid()
        self._received = self._processed = self._dropped = 0
        self._waiting: int | None = None
        self._wake, self._ended = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def require_running(self) -> None:
        assert self._thread.is_alive()

    def publish(self, camera: str, number: int, stamp_s: float) -> None:
        self.answers.sent(camera, number)
        with self._wake:
            self._received += 1
            self._dropped += self._waiting is not None
            self._waiting = number
            self._wake.notify()

    def counts(self) -> dict[str, int]:
        return {"received": self._received, "processed": self._processed, "dropped: newer": self._dropped}

    def close(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting is not None or self._ended)
                if self._ended:
                    return
                number, self._waiting = self._waiting, None
            time.sleep(FRAME_S)
            self._processed += 1
            self.answers.came(node_load.CAMERA, number)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(node_load, "SETTLE_S", 2 * FRAME_S)
    bench = Bench()
    yield bench
    bench.close()


def test_a_frame_at_a_time_takes_as_long_as_a_frame(bench):
    latencies = node_load.one_at_a_time(bench, 0.5)
    assert FRAME_S * 1e3 <= sorted(latencies)[len(latencies) // 2] < 3 * FRAME_S * 1e3


def test_three_times_too_much_is_dropped_and_nothing_is_late(bench):
    (row,) = overload.overload(bench, [3.0], seconds=1.0, alone_s=0.3)
    flow = row.flow
    assert flow.sent / flow.seconds <= 3 / FRAME_S + 1
    assert flow.counts["received"] == flow.counts["processed"] + flow.counts["dropped: newer"]
    assert flow.counts["dropped: newer"] > 0 and flow.lost == 0
    assert len(flow.latencies_ms) / flow.seconds < 1.1 / FRAME_S
    assert FRAME_S * 1e3 <= flow.latency_ms(50) < 4 * FRAME_S * 1e3 and flow.latency_ms(50) <= flow.latency_ms(99)
    assert len(row.alone_ms) > 0.3 / FRAME_S  # from before and after
    # One process here, whose processor time is read twice: at the start and end a tick may pass in between.
    ticks = 2 / os.sysconf("SC_CLK_TCK") / flow.seconds
    assert flow.node_cores >= 0 and flow.node_cores == pytest.approx(flow.camera_cores, abs=1.01 * ticks)


def flow(sent: int = 300, lost: int = 0, dropped: int = 0, latencies_ms: tuple[float, ...] = (100.0,) * 300) -> Flow:
    counts = dict.fromkeys(node_load.COUNTED, 0)
    counts |= {"received": sent - lost, "processed": sent - lost - dropped, "dropped: newer": dropped}
    return Flow(10.0, sent, list(latencies_ms), counts, 1.2, 0.1)


def result(loads: list[Load], **keeping_up: Flow) -> Overload:
    return Overload("some_model", (480, 640), 10.0, loads, keeping_up, ["--seconds", "10"])


GOOD = Load(3.0, [60.0] * 98 + [90.0] * 2, flow(dropped=200))


def broken(measured: Overload) -> list[str]:
    return [verdict.rule for verdict in measured.verdicts if not verdict.holds]


def test_two_inference_times_are_judged_by_both_percentiles():
    assert broken(result([GOOD], shipped=flow())) == []
    (late,) = broken(result([replace(GOOD, flow=flow(latencies_ms=(100.0,) * 98 + (200.0,) * 2))], shipped=flow()))
    assert late.startswith("x3: p99 ")
    slow = replace(GOOD, flow=flow(latencies_ms=(125.0,) * 100))
    assert [rule[:7] for rule in broken(result([slow], shipped=flow()))] == ["x3: p50"]
    nothing = replace(GOOD, flow=flow(latencies_ms=()))
    assert len(broken(result([nothing], shipped=flow()))) == 2


@pytest.mark.parametrize("trouble", [{"lost": 1}, {"dropped": 1}, {"latencies_ms": (100.0,) * 299}])
def test_with_the_shipped_profile_every_image_has_to_be_served(trouble):
    (rule,) = broken(result([GOOD], shipped=flow(**trouble), default=flow()))
    assert "every image is served" in rule
    assert broken(result([GOOD], shipped=flow(), default=flow(**trouble))) == []


def test_the_results_say_what_was_measured(tmp_path):
    measured = result([GOOD], shipped=flow(), default=flow(lost=200))
    markdown, plot = write_results(measured, tmp_path / "results")
    text = markdown.read_text()
    assert "python -m benchmarks.overload --seconds 10" in text and "some_model, 640 x 480" in text
    assert "| x3 | 30.0 | 30.0 | 60 / 90 | 100 | 100 | 1.67 | 1.11 | 1.67 | 200 of 300 | 0 | 1.20 | 0.10 |" in text
    assert "The latter is over 2 at: none of them." in text and "**broken**" not in text
    assert "x3, latency, ms" in "".join(ElementTree.parse(plot).getroot().itertext())
    assert "| default: Fast DDS as it comes | 30.0 | 30.0 | 300 | 200 | 0 | 300 | 100 | 100 | 1.20 | 0.10 |" in text


def test_each_run_has_its_own_profile(tmp_path):
    shipped, default = (keep_up.profile_variables(profile, tmp_path) for profile in ("shipped", "default"))
    assert shipped.keys() == default.keys() and "FASTRTPS_DEFAULT_PROFILES_FILE" in shipped
    sizes = [
        [
            element.text
            for element in ElementTree.parse(next(iter(variables.values()))).iter()
            if "segment" in element.tag
        ]
        for variables in (shipped, default)
    ]
    assert sizes == [["67108864"], []]


def test_a_flow_of_a_process_of_its_own_is_read_back(tmp_path, monkeypatch):
    def run(words, **_):
        Path(words[words.index("--json") + 1]).write_text(json.dumps(asdict(flow(lost=2))))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(overload.subprocess, "run", run)
    assert overload.keep_up("shipped", 1.0, tmp_path) == flow(lost=2)


def test_a_run_that_fails_is_not_taken_for_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setattr(overload.sys, "executable", "/bin/false")
    earlier = tmp_path / "keep_up_shipped.json"
    earlier.write_text(json.dumps(asdict(flow())))
    with pytest.raises(PlaybackError, match="--profile shipped ended with exit status 1"):
        overload.keep_up("shipped", 1.0, tmp_path)
    assert not earlier.exists()
