"""Question g: a GPU in one run: whole networks, window attention, layouts and the node's path.

Everything but the node's path runs as CUDA graphs, so that kernels are timed and not the calls that launch them.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from logging.handlers import BufferingHandler

import torch

from benchmarks import batches, segformer, window_attention
from benchmarks.measure import Effort, interleaved
from benchmarks.networks import make_config, make_step, normalised
from benchmarks.rows import Row
from benchmarks.window_attention import Problem
from sdcpc_ros.inference.precision import precision_name
from sdcpc_ros.streaming.frame_runner import capture_graph

TITLE = "g. On a GPU, under CUDA graphs: networks, window attention, layouts, and the node's path of a frame"
#: No part begins later than this. The aim is a run of six minutes, which no GPU has confirmed yet.
_DEADLINE_S = 270.0
#: Encoders, and the SegFormer that each is compared with: of the same encoder, or of about the same cost.
_NETWORKS = {"mit_b0": "b0", "efficientnet_lite0": "b0", "mit_b2": "b2", "resnet101": "b2"}
_HALVES = (torch.float16, torch.bfloat16)


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    if not effort.on_gpu and not effort.quick:
        yield Row("all of it", note="no GPU here; `python -m benchmarks --gpu` then runs tiny sizes on the CPU")
        return
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(os.cpu_count()))  # no robot drives meanwhile
    networks = {"mit_b0": "b0"} if effort.quick else _NETWORKS
    size = (64, 96) if effort.quick else (512, 1024)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "the node's path": partial(batches.rows, effort),
        "window attention": partial(_attention, effort),
    }
    for dtype in (torch.float16, torch.float32):
        for encoder, peer in networks.items():
            name = f"{encoder} {precision_name(dtype)}"
            parts[f"layouts of {name}"] = partial(_layouts, encoder, size, effort, dtype)
            parts[f"{name} / SegFormer"] = partial(segformer.compare, encoder, peer, size, effort, dtype)
    warnings = BufferingHandler(capacity=1000)  # what ran without a graph or its kernel was slow for that reason
    warnings.setLevel(logging.WARNING)
    logging.getLogger("sdcpc_ros").addHandler(warnings)
    deadline_s = time.monotonic() + _DEADLINE_S
    for name, part in parts.items():
        if time.monotonic() > deadline_s:
            yield Row(name, note=f"not measured: the run had taken {_DEADLINE_S:.0f} s")
            continue
        try:
            yield from part()
        except Exception as error:  # the other parts can still be measured, on a machine that is lent for minutes
            yield Row(name, note=f"failed: {type(error).__name__}: {error}".splitlines()[0][:200])
        for warning in dict.fromkeys(record.getMessage() for record in warnings.buffer):
            yield Row(name, note=f"warned: {warning}".splitlines()[0][:200])
        warnings.flush()


@torch.inference_mode()
def _attention(effort: Effort) -> Iterator[Row]:
    shapes = (Problem(12, 15, 16, 2),) if effort.quick else (*window_attention.NETWORK, Problem(128, 256, 128, 4, 3))
    peers = [window_attention.DENSE] if effort.quick else [window_attention.DENSE, window_attention.FLEX]
    for shape in shapes:
        for dtype in _HALVES:
            yield from window_attention.against_peers(replace(shape, dtype=dtype), effort, peers)


@torch.inference_mode()
def _layouts(encoder: str, size: tuple[int, int], effort: Effort, dtype: torch.dtype) -> Iterator[Row]:
    """The encoding of a frame with channels last in memory, as the step has it on every device, and with NCHW."""
    step = make_step(make_config(encoder), effort.device, dtype)
    image = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8, device=effort.device)
    pixels = normalised(step, image).to(dtype)
    contiguous = copy.deepcopy(step.model).to(memory_format=torch.contiguous_format)
    planes = pixels.contiguous()
    calls: dict[str, Callable[[], object]] = {
        "last": capture_graph(lambda: step.model.encode(pixels), effort.device),
        "first": capture_graph(lambda: contiguous.encode(planes), effort.device),
    }
    timings = interleaved(calls, effort)
    name = f"{encoder} {size[1]}x{size[0]} {precision_name(dtype)}, eager: encoding channels-last / NCHW"
    yield Row(name, **timings["last"].compared_to(timings["first"]))
