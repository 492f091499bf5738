"""The runners and frame buffers of a segmenter."""

from __future__ import annotations

from weakref import WeakValueDictionary

import torch
from torch import Tensor

from sdcpc_ros.inference import Backend, Step
from sdcpc_ros.streaming.frame_buffer import FrameBuffer, MemoryPool
from sdcpc_ros.streaming.frame_runner import CpuRunner, CudaGraphRunner

#: Runners that are kept, one for each combination of image sizes: on a GPU each holds a graph and its memory.
MAX_RUNNERS = 16

#: (height, width).
_Size = tuple[int, int]


def uses_graphs(device: torch.device) -> bool:
    """Whether a device runs CUDA graphs."""
    return device.type == "cuda"


class RunnerCache:
    """The frame buffers of a segmenter, and its runners, of the kind that its device needs."""

    def __init__(self, step: Step, offsets: tuple[int, ...], groups: Tensor | None) -> None:
        """offsets: of the references, frames. groups: (C,) int64 on the device, see `CpuRunner`."""
        self._step, self._offsets, self._groups = step, offsets, groups
        self._uses_graphs = uses_graphs(step.mean.device)
        # A pool lives as long as a frame buffer or a runner uses it.
        self._pools: WeakValueDictionary[_Size, MemoryPool] = WeakValueDictionary()
        self._runners: dict[tuple[_Size, tuple[_Size, ...]], CpuRunner | CudaGraphRunner] = {}

    def new_buffer(self, network_size: _Size) -> FrameBuffer:
        """An empty frame buffer for a stream that the network sees at this size."""
        return FrameBuffer(self._offsets, self._pool(network_size))

    def runner(
        self, backend: Backend, network_size: _Size, image_sizes: tuple[_Size, ...]
    ) -> CpuRunner | CudaGraphRunner:
        """The runner for images of these sizes, made anew if its backend was another."""
        runner = self._runners.pop((network_size, image_sizes), None)
        if runner is None or runner.backend is not backend:
            pool, count = self._pool(network_size), len(self._offsets)
            if self._uses_graphs:
                runner = CudaGraphRunner(backend, pool, count, network_size, image_sizes, self._groups)
            else:
                runner = CpuRunner(backend, pool, image_sizes, self._groups)
        self._runners[network_size, image_sizes] = runner  # at the end: the first is the least recently used
        if len(self._runners) > MAX_RUNNERS:
            del self._runners[next(iter(self._runners))]
        return runner

    def _pool(self, network_size: _Size) -> MemoryPool:
        pool = self._pools.get(network_size)
        if pool is None:
            pool = self._pools[network_size] = MemoryPool(self._step.blank(network_size))
        return pool
