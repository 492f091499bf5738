"""What happens when cameras send more than the network manages: python -m benchmarks.overload --model NAME

First the rate that the node manages is measured, then it gets 1, 3 and 10 times that. The rule that is checked: the
latency stays below two inference times at any rate (the time of a frame, as measured one at a time).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.node_load import Bench, percentile, running_bench
from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.bags.errors import PlaybackError

CAMERA = "camera"
_LATENCY_RULE = 2.0  # inference times
_SETTLE_S = 2.5  # until /diagnostics counts what was sent


@dataclass(frozen=True)
class Load:
    """One input rate and what came of it."""

    factor: float
    input_hz: float
    published_hz: float
    p50_ms: float
    p99_ms: float
    received: int
    processed: int
    dropped: int


def one_at_a_time(bench: Bench, seconds: float) -> list[float]:
    """Latencies, ms, when each frame is sent after the last was answered."""
    latencies: list[float] = []
    number, end_s = 1000, time.monotonic() + seconds
    while time.monotonic() < end_s:
        number += 1
        bench.publish(CAMERA, number, number / 10)
        give_up_s = time.monotonic() + 10
        while not (came := bench.answers.take()) and time.monotonic() < give_up_s:
            bench.process.require_running()
            time.sleep(0.001)
        latencies += came
    if not latencies:
        raise PlaybackError(f"the node answered nothing in {seconds:g} s")
    return latencies


def load(bench: Bench, factor: float, rate_hz: float, seconds: float) -> Load:
    """Sends `factor` * `rate_hz` frames a second, and as many as can be where this process can't send so many."""
    time.sleep(_SETTLE_S)
    before, sent = bench.counts(), 0
    bench.answers.take()
    begun_s = time.monotonic()
    while (elapsed_s := time.monotonic() - begun_s) < seconds:
        bench.process.require_running()
        if elapsed_s < sent / (factor * rate_hz):
            time.sleep(min(0.001, sent / (factor * rate_hz) - elapsed_s))
            continue
        sent += 1
        bench.publish(CAMERA, 2000 + sent, 10_000 * factor + elapsed_s)
    latencies = bench.answers.take()
    time.sleep(_SETTLE_S)
    after = bench.counts()
    counts = {key: after.get(key, 0) - before.get(key, 0) for key in ("received", "processed", "dropped")}
    return Load(
        factor=factor,
        input_hz=sent / seconds,
        published_hz=len(latencies) / seconds,
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
        **counts,
    )


def table(loads: list[Load], inference_ms: float) -> Table:
    title = f"one frame at a time: {inference_ms:.0f} ms (p50)"
    shown = Table("input", "Hz in", "Hz out", "latency p50, ms", "p99, ms", "p50 / one frame", "dropped", title=title)
    for row in loads:
        shown.add_row(
            f"x{row.factor:g}",
            f"{row.input_hz:.1f}",
            f"{row.published_hz:.1f}",
            f"{row.p50_ms:.0f}",
            f"{row.p99_ms:.0f}",
            f"{row.p50_ms / inference_ms:.2f}",
            f"{row.dropped} of {row.received}",
        )
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="at each rate, default %(default)s")
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 3.0, 10.0], metavar="X")
    parser.add_argument("--height", type=int, default=480, help="of the images, px, default %(default)s")
    parser.add_argument("--width", type=int, default=640, help="of the images, px, default %(default)s")
    parser.add_argument("--output", type=Path, default=Path("overload_output"), metavar="DIR")
    arguments = parser.parse_args()
    with running_bench(arguments.model, [CAMERA], (arguments.height, arguments.width), arguments.output) as bench:
        alone = one_at_a_time(bench, arguments.seconds)
        inference_ms = percentile(alone, 50)
        rate_hz = 1e3 / (sum(alone) / len(alone))
        loads = [load(bench, factor, rate_hz, arguments.seconds) for factor in arguments.factors]
    Console().print(table(loads, inference_ms))
    result = {"model": arguments.model, "inference_ms": inference_ms, "loads": [asdict(row) for row in loads]}
    (arguments.output / "overload.json").write_text(json.dumps(result, indent=2) + "\n")
    late = [row for row in loads if not row.p50_ms <= _LATENCY_RULE * inference_ms]
    for row in late:
        print(f"overload: at x{row.factor:g} a mask took {row.p50_ms:.0f} ms (p50), more than two inference times")
    return 1 if late else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlaybackError as error:
        sys.exit(f"overload: {error}")
