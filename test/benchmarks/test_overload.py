"""The overload measurement against a node made of a thread, whose time a frame takes is known."""

from __future__ import annotations

import threading
import time

import pytest

from benchmarks import overload
from benchmarks.node_load import Answers

FRAME_S = 0.02


class Bench:
    """Answers the newest frame after FRAME_S, and drops those that came meanwhile."""

    def __init__(self) -> None:
        self.answers, self.process = Answers(), self
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
        return {"received": self._received, "processed": self._processed, "dropped": self._dropped}

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
            self.answers.came(overload.CAMERA, number)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(overload, "_SETTLE_S", 2 * FRAME_S)
    bench = Bench()
    yield bench
    bench.close()


def test_a_frame_at_a_time_takes_as_long_as_a_frame(bench):
    latencies = overload.one_at_a_time(bench, 0.5)
    assert FRAME_S * 1e3 <= sorted(latencies)[len(latencies) // 2] < 3 * FRAME_S * 1e3


def test_three_times_too_much_is_dropped_and_nothing_is_late(bench):
    row = overload.load(bench, 3.0, 1 / FRAME_S, 1.0)
    assert row.input_hz <= 151
    assert row.received == row.processed + row.dropped and row.dropped > 0
    assert row.published_hz < 1.1 / FRAME_S < 1.5 * row.input_hz
    assert FRAME_S * 1e3 <= row.p50_ms < 4 * FRAME_S * 1e3 and row.p50_ms <= row.p99_ms
