"""Question a: window attention against dense attention and what libraries offer for windows; its growth and memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Effort, interleaved, megabytes, peak_mib
from benchmarks.rows import Row
from sdcpc_ros.network.window_attention import window_attention
from sdcpc_ros.streaming.frame_runner import capture_graph

TITLE = "a. Window attention: ours against attention over all keys, and against libraries' windows"


@dataclass(frozen=True)
class Problem:
    """One attention to compute: K references of (C, h, w), windows of 2 * radius + 1, a softmax for each reference.

    That is how the network calls it: references lie along the batch, as K maps of one reference each.
    """

    height: int
    width: int
    channels: int
    radius: int
    references: int = 2
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        side = 2 * self.radius + 1
        precision = "" if self.dtype == torch.float32 else f" {str(self.dtype).removeprefix('torch.')}"
        return f"{self.height}x{self.width}, C {self.channels}, {side}x{side}, {self.references} references{precision}"

    def inputs(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """query, keys and values (K, C, h, w), valid (K,); channels last in memory, as in the frame buffer."""
        generator = torch.Generator().manual_seed(0)
        shape = self.references, self.height, self.width, self.channels
        query, keys, values = (
            torch.randn(shape, generator=generator).to(device, self.dtype).permute(0, 3, 1, 2) for _ in range(3)
        )
        return query, keys, values, torch.ones(self.references, dtype=torch.bool, device=device)

    @property
    def window_gflop(self) -> float:
        """Two products for each key that a query sees, borders left out."""
        seen = [
            sum(min(p + self.radius, length - 1) - max(p - self.radius, 0) + 1 for p in range(length))
            for length in (self.height, self.width)
        ]
        return 4e-9 * seen[0] * seen[1] * self.references * self.channels

    @property
    def dense_gflop(self) -> float:
        return 4e-9 * (self.height * self.width) ** 2 * self.references * self.channels


#: What the network computes for a frame of 576x432 px with two references: stage 1 at stride 16, stage 2 at stride 4.
#: Keys of 60 and 28 channels, and 4 of the position's. Its values have the classes besides: C and 28 + C.
NETWORK = (Problem(27, 36, 64, 4), Problem(108, 144, 32, 2))


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    problems = [Problem(12, 15, 16, 2)] if effort.quick else list(NETWORK)
    if effort.on_gpu and not effort.quick:
        problems += [replace(problem, dtype=half) for half in (torch.bfloat16, torch.float16) for problem in NETWORK]
    with torch.inference_mode():
        for problem in problems:
            yield from against_peers(problem, effort, _PEERS, with_targets=problem is problems[-1])
        if not effort.quick:
            for problem in NETWORK:
                yield _compiled(problem, effort)
        yield from _growth(problems[-1], effort)
        yield from _memory(problems[-1], effort)


def against_peers(
    problem: Problem, effort: Effort, peers: Collection[str], *, with_targets: bool = False
) -> Iterator[Row]:
    """A row for each peer by name; on a GPU all run as CUDA graphs. The targets are about the network's largest map."""
    inputs = problem.inputs(effort.device)
    calls: dict[str, Callable[[], object]] = {"ours": lambda: _ours(problem, inputs)}
    absent: dict[str, str] = {}
    for name in peers:
        try:
            call = _PEERS[name](problem, inputs)
            call()
            calls[name] = call
        except _Absent as error:
            absent[name] = str(error)
        except Exception as error:  # a library that cannot do this here: out of memory, no compiler, not on this device
            absent[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error) else ''}"
    timings = interleaved({name: capture_graph(call, effort.device) for name, call in calls.items()}, effort)
    peaks = {name: peak_mib(call, effort) for name, call in calls.items()}
    least_mb = megabytes(inputs, inputs[0])
    for name in peers:
        if name in absent:
            yield Row(f"{problem}: ours / {name}", note=absent[name])
            continue
        yield Row(
            f"{problem}: ours / {name}",
            **timings["ours"].compared_to(timings[name]),
            target=_TARGETS.get(name) if with_targets else None,
            ours_mib=peaks["ours"],
            peer_mib=peaks[name],
            ours_gflop=problem.window_gflop,
            peer_gflop=problem.dense_gflop if name.startswith("dense") else problem.window_gflop,
            ours_mb=least_mb,
            peer_mb=least_mb,
        )


def _compiled(problem: Problem, effort: Effort) -> Row:
    """What torch.compile makes of it; on a GPU it calls the same kernel."""
    inputs = problem.inputs(effort.device)
    compiled = torch.compile(partial(_ours, problem), dynamic=False)
    timings = interleaved({"eager": lambda: _ours(problem, inputs), "compiled": lambda: compiled(inputs)}, effort)
    return Row(
        f"{problem}: ours compiled / ours eager",
        **timings["compiled"].compared_to(timings["eager"]),
        ours_gflop=problem.window_gflop,
        peer_gflop=problem.window_gflop,
    )


def _growth(problem: Problem, effort: Effort) -> Iterator[Row]:
    """How time grows with pixels, window and references: linear is the target, with a tenth for borders."""
    base = replace(problem, references=1)
    changes = {
        "4x the pixels": replace(base, height=2 * base.height, width=2 * base.width),
        "4x the references": replace(base, references=4),
        "half the radius": replace(base, radius=base.radius // 2),
    }
    problems = {"base": base, **changes}
    calls = {name: partial(_ours, changed, changed.inputs(effort.device)) for name, changed in problems.items()}
    timings = interleaved(calls, effort)
    for name, changed in changes.items():
        yield Row(
            f"growth from {base}: {name}",
            **timings[name].compared_to(timings["base"]),
            target=4.4 if name.startswith("4x") else None,
            ours_gflop=changed.window_gflop,
            peer_gflop=base.window_gflop,
        )


def _memory(problem: Problem, effort: Effort) -> Iterator[Row]:
    """Peak memory, inputs included, against the least there can be: inputs and outputs."""
    inputs = problem.inputs(effort.device)
    peak = peak_mib(lambda: _ours(problem, inputs), effort)
    name = f"{problem}: peak memory / (inputs + outputs)"
    inputs_mib = megabytes(inputs) * 1e6 / 2**20
    least_mib = inputs_mib + megabytes(inputs[0]) * 1e6 / 2**20
    yield Row(name, ratio=(inputs_mib + peak) / least_mib, target=1.5, ours_mib=inputs_mib + peak, peer_mib=least_mib)


def _ours(problem: Problem, inputs: tuple[Tensor, ...]) -> Tensor:
    query, keys, values, valid = inputs
    return window_attention(query, keys, values, radius=problem.radius, valid=valid, with_offset=False).output


class _Absent(Exception):
    """A peer that is not here, and how to get it."""


def _dense(problem: Problem, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """Attention over all keys of each reference: more than is asked, without the mask that would slow it."""
    query, keys, values = _as_rows(inputs)
    return lambda: F.scaled_dot_product_attention(query, keys, values)


def _as_rows(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Queries, keys and values of each reference, (K, 1, h * w, C) each, contiguous."""
    query, keys, values, _ = inputs
    return tuple(part.flatten(2).transpose(1, 2)[:, None].contiguous() for part in (query, keys, values))


def _unfold(problem: Problem, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """The textbook form: the w*w shifted copies of keys and values that F.unfold makes; borders see zeros."""
    query, keys, values, _ = inputs
    side, radius, count = 2 * problem.radius + 1, problem.radius, problem.references

    def call() -> Tensor:
        copies = [
            F.unfold(part, side, padding=radius).view(count, problem.channels, side * side, -1)
            for part in (keys, values)
        ]  # (K, C, w*w, N)
        logits = (query.flatten(2)[:, :, None] * copies[0]).sum(1) * problem.channels**-0.5  # (K, w*w, N)
        return (logits.softmax(1)[:, None] * copies[1]).sum(2)

    return call


def _flex_attention(problem: Problem, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """PyTorch's FlexAttention, compiled, with a block mask of the windows."""
    try:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    except ImportError as error:
        raise _Absent(f"this PyTorch has no FlexAttention: {error}") from error
    query, keys, values = _as_rows(inputs)
    width, radius, positions = problem.width, problem.radius, problem.height * problem.width

    def in_window(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return ((q // width - k // width).abs() <= radius) & ((q % width - k % width).abs() <= radius)

    mask = create_block_mask(
        in_window,
        *(None, None, positions, positions),
        device=query.device.type,
        _compile=query.is_cuda,  # else the whole mask is made first: gigabytes at a GPU's sizes
    )
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(query, keys, values, block_mask=mask)


DENSE, _UNFOLD, FLEX = "dense attention (SDPA)", "F.unfold", "FlexAttention, compiled"
_PEERS: dict[str, Callable[[Problem, tuple[Tensor, ...]], Callable[[], object]]] = {
    DENSE: _dense,
    _UNFOLD: _unfold,
    FLEX: _flex_attention,
}
_TARGETS = {DENSE: 1 / 14, _UNFOLD: 1 / 1.5, FLEX: 1 / 1.5}
