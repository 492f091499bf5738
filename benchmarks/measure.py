"""How things are measured: interleaved rounds, peak memory of one call, operations counted, the device named."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# The profiler's own log would run through the tables.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

#: A sample is of at least this long: shorter calls are repeated within it, as clocks and interrupts blur them.
_SHORTEST_SAMPLE_S = 0.002
_LONGEST_S = 45.0
_FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Effort:
    """How much is measured, and where."""

    device: torch.device
    rounds: int  #: how often everything that is compared runs, in turn
    quick: bool  #: small sizes, to see that it works

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one thing, a number for each round."""

    samples_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.samples_ms)

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.samples_ms, percent))

    def ratio_to(self, peer: Timing) -> tuple[float, float, float]:
        """Median, 10th and 90th percentile over rounds of this / peer, each within its round: what slows a round down,
        a neighbour's work or a warm processor, slows both."""
        ratios = [ours / theirs for ours, theirs in zip(self.samples_ms, peer.samples_ms)]
        return statistics.median(ratios), float(np.percentile(ratios, 10)), float(np.percentile(ratios, 90))

    def compared_to(self, peer: Timing) -> dict[str, Any]:
        """The fields of a `Row`."""
        ratio, low, high = self.ratio_to(peer)
        return {"ours_ms": self.median_ms, "peer_ms": peer.median_ms, "ratio": ratio, "low": low, "high": high}


def interleaved(calls: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, Timing]:
    """Time calls against each other: in each round every one in turn, after a warm-up. As many rounds as are asked for,
    or as fit _LONGEST_S, but no fewer than five of them."""
    repeats: dict[str, int] = {}
    for name, call in calls.items():
        call()  # compiles, allocates
        repeats[name] = max(1, round(_SHORTEST_SAMPLE_S / _seconds(call, 1, effort)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    for number in range(effort.rounds):
        if number >= _FEWEST_ROUNDS and time.perf_counter() - started > _LONGEST_S:
            break
        for name, call in calls.items():
            samples[name].append(1e3 * _seconds(call, repeats[name], effort))
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def _seconds(call: Callable[[], object], repeats: int, effort: Effort) -> float:
    """Of one call, the mean of `repeats`."""
    effort.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    effort.synchronize()
    return (time.perf_counter() - started) / repeats


def peak_mib(call: Callable[[], object], effort: Effort) -> float:
    """What one warm call takes of PyTorch's allocator beyond what was there, results included, at its peak, MiB.

    On a CPU the profiler's record of every allocation, operators' temporary buffers among them. Resident memory would
    say less: it depends on what the process had freed before, by more than a small call takes.
    """
    call()
    gc.collect()
    if effort.on_gpu:
        effort.synchronize()
        before = torch.cuda.memory_allocated(effort.device)
        torch.cuda.reset_peak_memory_stats(effort.device)
        call()
        effort.synchronize()
        return (torch.cuda.max_memory_allocated(effort.device) - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    records = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((record.start_ns(), record.nbytes()) for record in records if record.name() == "[memory]")
    return max(np.cumsum([0, *(change for _, change in changes)])) / 2**20


def gflop(call: Callable[[], object]) -> float:
    """Operations of matrix products, convolutions and attention in a call, 10^9, a multiply-add being two.

    Run it on meta tensors: there the counter sees attention, which on a CPU it does not.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 1e9


def megabytes(*things: Any) -> float:
    """The bytes of tensors, of modules' parameters and of what holds tensors, 10^6."""
    total = 0.0
    for thing in things:
        if isinstance(thing, torch.Tensor):
            total += thing.numel() * thing.element_size() / 1e6
        elif isinstance(thing, nn.Module):
            total += megabytes(*thing.parameters(), *thing.buffers())
        elif isinstance(thing, (tuple, list)):
            total += megabytes(*thing)
    return total


def device_name(device: torch.device) -> str:
    """The processor that is measured, with what runs on it."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    model = platform.processor() or platform.machine()
    try:
        cpu_info = Path("/proc/cpuinfo").read_text()
        model = next(line.split(":")[1].strip() for line in cpu_info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or a processor without a name
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model} ({capability}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def busy_share() -> float:
    """The machine's load beside this process, of its cores: above about 0.2, times say little."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)
