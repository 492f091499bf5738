"""What happens when cameras send more than the network manages: python -m benchmarks.overload --model NAME

First the rate that the node manages is measured, then it gets 1, 3 and 10 times that. The rule that is checked: the
latency stays below two inference times at any rate. An inference time is that of a frame sent when the last was
answered, measured before and after each rate, for a shared machine is not the same all the time; p50 is held against
p50 and p99 against p99. Then, in processes of their own (benchmarks.keep_up), a network that keeps up gets 1280 x 720
pixels at 30 Hz, with the shipped Fast DDS profile and without: with it no image may be lost or dropped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.keep_up import PROFILES
from benchmarks.node_load import CAMERA, Bench, Flow, one_at_a_time, running_bench, steady_flow
from benchmarks.overload_report import Load, Overload, write_results
from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.bags.errors import PlaybackError


def overload(bench: Bench, factors: Sequence[float], seconds: float, alone_s: float) -> list[Load]:
    """The flow at each multiple of the rate that the node manages, between frames sent one at a time."""
    alone = one_at_a_time(bench, alone_s)
    rate_hz = 1e3 / (sum(alone) / len(alone))
    loads: list[Load] = []
    for factor in factors:
        flow = steady_flow(bench, CAMERA, factor * rate_hz, seconds, first_stamp_s=10_000 * factor)
        before, alone = alone, one_at_a_time(bench, alone_s)
        loads.append(Load(factor, before + alone, flow))
    return loads


def keep_up(profile: str, seconds: float, output: Path) -> Flow:
    """`benchmarks.keep_up` with this profile, which Fast DDS reads once in a process. Raises PlaybackError."""
    result = output / f"keep_up_{profile}.json"
    result.unlink(missing_ok=True)
    words = [sys.executable, "-m", "benchmarks.keep_up", "--profile", profile, "--seconds", str(seconds)]
    status = subprocess.run([*words, "--output", str(output), "--json", str(result)]).returncode
    if status != 0:
        raise PlaybackError(f"python -m benchmarks.keep_up --profile {profile} ended with exit status {status}")
    return Flow(**json.loads(result.read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=40.0, metavar="S", help="at each rate, default %(default)s")
    parser.add_argument("--alone", type=float, default=12.0, metavar="S", help="one at a time, default %(default)s")
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 3.0, 10.0], metavar="X")
    parser.add_argument("--height", type=int, default=480, help="of the images, px, default %(default)s")
    parser.add_argument("--width", type=int, default=640, help="of the images, px, default %(default)s")
    parser.add_argument("--output", type=Path, default=Path("overload_output"), metavar="DIR")
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="for overload.md and .svg, default that of --output"
    )
    arguments = parser.parse_args()
    keeping_up: dict[str, Flow] = {}
    for profile in PROFILES:
        print(f"1280 x 720 at 30 Hz for {arguments.seconds:g} s, {PROFILES[profile]}")
        arguments.output.mkdir(parents=True, exist_ok=True)
        keeping_up[profile] = keep_up(profile, arguments.seconds, arguments.output)
    minutes = (len(arguments.factors) * (arguments.seconds + arguments.alone + 5) + arguments.alone) / 60
    print(f"{arguments.model} at {', '.join(f'x{f:g}' for f in arguments.factors)}: {minutes:.1f} minutes")
    with running_bench(arguments.model, [CAMERA], (arguments.height, arguments.width), arguments.output) as bench:
        loads = overload(bench, arguments.factors, arguments.seconds, arguments.alone)
    result = Overload(
        arguments.model, (arguments.height, arguments.width), arguments.seconds, loads, keeping_up, sys.argv[1:]
    )
    paths = write_results(result, arguments.results or arguments.output)
    print(paths[0].read_text(), "written:", *paths)
    broken = [verdict for verdict in result.verdicts if not verdict.holds]
    for verdict in broken:
        print(f"overload: {verdict.rule}: {verdict.measured}")
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlaybackError as error:
        sys.exit(f"overload: {error}")
