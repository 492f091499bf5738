"""Question d: the backends against each other: steady time, time to the first frame, memory; labels at image size."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks import labels
from benchmarks.measure import Effort, interleaved, megabytes
from benchmarks.networks import make_config, make_inputs, make_step
from benchmarks.rows import Row
from sdcpc_ros.inference import BACKENDS, BackendError, create_backend
from sdcpc_ros.runtime.process_memory import resident_mib

TITLE = "d. Backends: the whole step on each, against eager; labels at image size"
#: What the best compiled backend is to take of eager's time.
_TARGET = 1 / 1.15
_FIRST_FRAME_DEADLINE_S = 1800
_NAMES = [name for name in BACKENDS if name != "auto"]  # which is one of the others


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    size = (64, 96) if effort.quick else (360, 480)
    for encoder in ("a tiny network",) if effort.quick else ("mit_b0", "efficientnet_lite2"):
        yield from _steady(encoder, size, effort)
        yield from _first_frames(encoder, size, effort)
    yield from labels.rows(effort)


def _steady(encoder: str, size: tuple[int, int], effort: Effort) -> Iterator[Row]:
    step = make_step(make_config(encoder, quick=effort.quick), effort.device)
    image, references, age_s = make_inputs(step, size)
    calls: dict[str, Callable[[], object]] = {}
    missing: dict[str, str] = {}
    for name in _NAMES:
        if effort.quick and name != "eager":
            missing[name] = "not with --quick"
            continue
        try:
            backend = create_backend(name, step, size)
        except BackendError as error:
            missing[name] = str(error)
            continue
        calls[name] = lambda backend=backend: backend.step(image, references, age_s)  # type: ignore[misc]
    timings = interleaved(calls, effort)
    eager = timings["eager"]
    compiled = [name for name in timings if name != "eager"]
    best = min(compiled, key=lambda name: timings[name].median_ms, default="")
    least_mb = megabytes(step.model, image, references)
    for name in _NAMES:
        label = f"{encoder} {size[1]}x{size[0]}: {name} / eager"
        if name in missing:
            yield Row(label, note=missing[name])
            continue
        p50, p95 = timings[name].median_ms, timings[name].percentile_ms(95)
        yield Row(
            label,
            **timings[name].compared_to(eager),
            target=_TARGET if name == best else None,
            ours_mb=least_mb,
            peer_mb=least_mb,
            note=f"p50 {p50:.1f} ms, p95 {p95:.1f} ms",
        )


def _first_frames(encoder: str, size: tuple[int, int], effort: Effort) -> Iterator[Row]:
    """Each backend in a process of its own: what a robot waits for after a start, and what it then holds in memory."""
    results: dict[str, dict[str, float]] = {}
    for name in ("eager",) if effort.quick else _NAMES:
        command = [sys.executable, "-m", "benchmarks.backends", name, encoder, *map(str, size), str(effort.device)]
        child = subprocess.run(
            [*command, *(["--quick"] if effort.quick else [])],
            capture_output=True,
            text=True,
            timeout=_FIRST_FRAME_DEADLINE_S,
        )
        if child.returncode == 0:
            results[name] = json.loads(child.stdout.splitlines()[-1])
        elif child.returncode != _CANNOT:
            raise RuntimeError(f"{' '.join(command)} failed:\n{child.stderr}")
    eager = results["eager"]
    for name, result in results.items():
        yield Row(
            f"{encoder} {size[1]}x{size[0]}: {name} / eager, from a built network to its first frame",
            ours_ms=result["first_ms"],
            peer_ms=eager["first_ms"],
            ratio=result["first_ms"] / eager["first_ms"],
            ours_mib=result["mib"],
            peer_mib=eager["mib"],
            note="one process each; what PyTorch and the backend keep on disk is used when it is there",
        )


#: The exit status of a backend that this machine cannot have.
_CANNOT = 3


def main() -> int:
    """One backend's first frame, in this process; prints its figures as a line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("backend", choices=_NAMES)
    parser.add_argument("encoder")
    parser.add_argument("height", type=int)
    parser.add_argument("width", type=int)
    parser.add_argument("device", type=torch.device)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    size = (arguments.height, arguments.width)
    step = make_step(make_config(arguments.encoder, quick=arguments.quick), arguments.device)
    inputs = make_inputs(make_step(step.config, arguments.device), size)
    started = time.perf_counter()
    try:
        backend = create_backend(arguments.backend, step, size)
    except BackendError as error:
        print(error, file=sys.stderr)
        return _CANNOT
    logits, _ = backend.step(*inputs)
    logits.cpu()  # waits for a GPU
    print(json.dumps({"first_ms": 1e3 * (time.perf_counter() - started), "mib": resident_mib()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
