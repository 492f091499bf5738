"""How long does a frame take by how PyTorch's threads wait for each other? python -m benchmarks.waiting

The shipped model at its own size, in a thread that is not the main one, as in the node: on a quiet machine and beside
as many busy loops as there are processors. Each setting is a process of its own, one after the other, round after
round. What the node does about it: `sdcpc_ros/runtime/openmp.py`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.runtime.openmp import SETTINGS, limit_omp_spin
from sdcpc_ros.runtime.process_memory import configure_malloc

_WARM_UP = 5  # frames
_BUSY_LOOP = "while True: pass"


@dataclass(frozen=True)
class Way:
    """A way to wait."""

    name: str
    environment: dict[str, str]
    as_node: bool = True  # whether the node's own setting is made
    second_team: bool = False  # whether the main thread has used OpenMP too, and so has a team of its own


WAYS = (
    Way("as the node has it", {}),
    Way("OpenMP's default", {}, as_node=False),
    Way("asleep at once", {"OMP_WAIT_POLICY": "passive"}),
    Way("as the node has it, but a second team of threads", {}, second_team=True),
)


def frame_ms(way: Way, model: str, frames: int) -> float:
    """The median time of a frame, in this process, which has not imported PyTorch yet."""
    configure_malloc()
    if way.as_node:
        limit_omp_spin()
    import numpy as np

    from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

    def load() -> tuple[StreamingSegmenter, np.ndarray]:
        segmenter = StreamingSegmenter(load_checkpoint(resolve_model(model)))
        image = np.random.default_rng(0).integers(0, 256, (*segmenter.model_size, 3), dtype=np.uint8)
        segmenter.segment_single(image)
        return segmenter, image

    def run(segmenter: StreamingSegmenter, image: np.ndarray) -> float:
        times_ms = []
        for _ in range(_WARM_UP + frames):
            begun_s = time.perf_counter()
            segmenter.segment(image)
            times_ms.append(1e3 * (time.perf_counter() - begun_s))
        return statistics.median(times_ms[_WARM_UP:])

    if way.second_team:
        loaded = load()
    else:
        with ThreadPoolExecutor(1) as loader:  # it ends, and its team with it
            loaded = loader.submit(load).result()
    with ThreadPoolExecutor(1) as worker:
        return worker.submit(run, *loaded).result()


@contextmanager
def _busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", _BUSY_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _in_process(number: int, arguments: argparse.Namespace) -> float:
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    words = ("-m", "benchmarks.waiting", "--model", arguments.model, "--frames", str(arguments.frames))
    done = subprocess.run(
        [sys.executable, *words, "--way", str(number)],
        env=environment | WAYS[number].environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="default %(default)s")
    parser.add_argument("--frames", type=int, default=40, metavar="N", help="of each process, default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default %(default)s")
    parser.add_argument("--way", type=int, choices=range(len(WAYS)), help=argparse.SUPPRESS)  # of a child
    arguments = parser.parse_args()
    if arguments.way is not None:
        print(frame_ms(WAYS[arguments.way], arguments.model, arguments.frames))
        return
    processors = len(os.sched_getaffinity(0))
    times_ms: dict[tuple[int, int], list[float]] = {}
    runs = [(n, loops) for _ in range(arguments.rounds) for loops in (0, processors) for n in range(len(WAYS))]
    for number, loops in track(runs, "waiting"):
        with _busy_loops(loops):
            times_ms.setdefault((number, loops), []).append(_in_process(number, arguments))
    shown = Table("PyTorch's threads wait", "quiet, ms", "", f"beside {processors} busy loops, ms", "")
    for number, way in enumerate(WAYS):
        cells = []
        for loops in (0, processors):
            ours, node = (statistics.median(times_ms[n, loops]) for n in (number, 0))
            cells += [f"{ours:.0f}", f"{ours / node:.2f}"]
        shown.add_row(way.name, *cells)
    Console().print(shown)


if __name__ == "__main__":
    main()
