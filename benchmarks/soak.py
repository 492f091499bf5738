"""Does the node stay as it is for hours? python -m benchmarks.soak --minutes 30

Two cameras at 30 Hz whose stamps loop and jump, as bags do. Held, after a warm-up: memory grows by less than 2 %,
threads and file descriptors not at all, and the 99th percentile of the latency grows by less than 20 %.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmarks.node_load import Bench, Resources, percentile, running_bench
from benchmarks.pages import Verdict, provenance, verdict_table, write_line_charts
from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.runtime.progress import ProgressBar

CAMERAS = ("left", "right")
_BAG_S = 20.0  # a loop of the stamps
_SEEK_EVERY_S = 7.0
_WARM_UP = 0.2  # share of the run
_RSS_GROWTH, _P99_GROWTH = 0.02, 0.20


@dataclass(frozen=True)
class Sample:
    """The node at one moment, and its latencies since the last."""

    seconds: float
    rss_mib: float
    threads: int
    files: int
    p50_ms: float
    p99_ms: float
    masks: int
    resets: int


class BagStamps:
    """The stamps of a bag that loops, with a seek now and then."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._offset_s, self._next_seek_s = 0.0, _SEEK_EVERY_S

    def at(self, elapsed_s: float) -> float:
        if elapsed_s >= self._next_seek_s:
            self._next_seek_s += _SEEK_EVERY_S
            self._offset_s = self._random.uniform(0, _BAG_S)
        return 100 + (elapsed_s + self._offset_s) % _BAG_S


def soak(bench: Bench, seconds: float, rate_hz: float, every_s: float) -> list[Sample]:
    """Samples every `every_s`; those taken so far after Ctrl-C."""
    pid, samples, number = bench.process.pid, [], 0
    stamps = {camera: BagStamps(seed) for seed, camera in enumerate(CAMERAS)}
    bench.answers.take()
    begun_s = time.monotonic()
    with ProgressBar(round(seconds), "soak, seconds") as bar:
        try:
            while (elapsed_s := time.monotonic() - begun_s) < seconds:
                for camera in CAMERAS:
                    bench.publish(camera, number, stamps[camera].at(elapsed_s))
                number += 1
                if elapsed_s >= every_s * (len(samples) + 1):
                    bench.process.require_running()
                    samples.append(_sample(bench, pid, elapsed_s))
                    bar.update(completed=round(elapsed_s))
                time.sleep(max(0.0, begun_s + number / rate_hz - time.monotonic()))
        except KeyboardInterrupt:
            print("soak: interrupted; what was measured so far:", file=sys.stderr)
    return samples


def _sample(bench: Bench, pid: int, elapsed_s: float) -> Sample:
    latencies, now = bench.answers.take(), Resources.of(pid)
    return Sample(
        seconds=elapsed_s,
        rss_mib=now.rss_mib,
        threads=now.threads,
        files=now.files,
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
        masks=len(latencies),
        resets=bench.counts().get("resets", 0),
    )


def judge(samples: Sequence[Sample]) -> list[Verdict]:
    """The rules, over what came after the warm-up. Raises ValueError with too few samples to compare."""
    settled = samples[int(len(samples) * _WARM_UP) :]
    third = len(settled) // 3
    if third == 0:
        raise ValueError(f"{len(samples)} samples are too few to judge; run for longer, or sample more often")
    first, last = settled[:third], settled[-third:]

    def typical(part: Sequence[Sample], name: str) -> float:
        """The median: one sample in which the machine was busy with something else is no drift."""
        return statistics.median(getattr(sample, name) for sample in part)

    growth = typical(last, "rss_mib") / typical(first, "rss_mib") - 1
    drift = typical(last, "p99_ms") / typical(first, "p99_ms") - 1
    threads, files = (
        max(getattr(s, n) for s in last) - max(getattr(s, n) for s in first) for n in ("threads", "files")
    )
    masks = min(sample.masks for sample in settled)
    return [
        Verdict(f"memory grows by less than {_RSS_GROWTH:.0%}", f"{growth:+.2%}", growth < _RSS_GROWTH),
        Verdict("no more threads", f"{threads:+d}", threads <= 0),
        Verdict("no more file descriptors", f"{files:+d}", files <= 0),
        Verdict(f"p99 latency grows by less than {_P99_GROWTH:.0%}", f"{drift:+.1%}", drift < _P99_GROWTH),
        Verdict("masks in every sample", f"{masks} at least", masks > 0),
    ]


def write_results(samples: Sequence[Sample], output: Path) -> None:
    """soak.csv and soak.svg."""
    with (output / "soak.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in samples)
    minutes = [sample.seconds / 60 for sample in samples]
    charts = {
        "memory, MiB": [sample.rss_mib for sample in samples],
        "threads": [float(sample.threads) for sample in samples],
        "file descriptors": [float(sample.files) for sample in samples],
        "latency p99, ms": [sample.p99_ms for sample in samples],
    }
    write_line_charts(output / "soak.svg", minutes, charts, "minutes")


def page(samples: Sequence[Sample], verdicts: Sequence[Verdict], what: str, command: str) -> str:
    """The verdicts as Markdown. what: model, rate and size."""
    last = samples[-1]
    p50 = statistics.median(sample.p50_ms for sample in samples)
    p99 = statistics.median(sample.p99_ms for sample in samples)
    lines = [
        "# Soak",
        provenance(command),
        "",
        f"{what}, whose stamps loop and jump: {last.seconds / 60:.1f} minutes, {sum(s.masks for s in samples)} masks, "
        f"{last.resets} resets; latency p50 {p50:.0f} ms and p99 {p99:.0f} ms, medians of the samples. At the end "
        f"{last.rss_mib:.0f} MiB, {last.threads} threads, {last.files} file descriptors.",
        "",
        *verdict_table(verdicts),
        "",
        "[Every sample](soak.csv), and the plot:",
        "",
        "![Memory, threads, file descriptors and latency over time](soak.svg)",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="default %(default)s")
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="of each camera, default %(default)s")
    parser.add_argument("--every", type=float, default=10.0, metavar="S", help="between samples, default %(default)s")
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="default %(default)s")
    parser.add_argument("--height", type=int, default=480, help="of the images, px, default %(default)s")
    parser.add_argument("--width", type=int, default=640, help="of the images, px, default %(default)s")
    parser.add_argument("--output", type=Path, default=Path("soak_output"), metavar="DIR")
    arguments = parser.parse_args()
    size = (arguments.height, arguments.width)
    with running_bench(arguments.model, CAMERAS, size, arguments.output) as bench:
        samples = soak(bench, arguments.minutes * 60, arguments.rate, arguments.every)
    write_results(samples, arguments.output)
    try:
        verdicts = judge(samples)
    except ValueError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    what = f"{arguments.model}, {len(CAMERAS)} cameras of {size[1]} x {size[0]} at {arguments.rate:g} Hz"
    command = " ".join(["python -m benchmarks.soak", *sys.argv[1:]])
    text = page(samples, verdicts, what, command)
    (arguments.output / "soak.md").write_text(text, encoding="utf-8")
    print(f"{text}written: {arguments.output}/soak.md, .csv and .svg")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlaybackError as error:
        sys.exit(f"soak: {error}")
