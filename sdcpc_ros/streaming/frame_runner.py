"""From pixels to labels: frames of one network size through one backend, on the CPU or as one CUDA graph."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.inference import Backend, holding_builds
from sdcpc_ros.network import FrameMemory
from sdcpc_ros.streaming.frame_buffer import FrameBuffer, MemoryPool
from sdcpc_ros.streaming.label_upsampling import DeviceLabels, labels_from_logits

#: Runs before a graph is captured: libraries choose algorithms and allocate in the first ones.
_WARM_UP = 3
#: Tensors that share a buffer start at multiples of this, bytes: compiled kernels load vectors.
_ALIGNMENT = 64


class RunnerOutput(NamedTuple):
    """What a runner makes of the next frames of some streams. Their memories are in the buffers' next slots."""

    labels: list[np.ndarray]  #: (H, W) uint8 of each frame
    #: (B, h, w) float32 in 0..1, the probability of the best class or its group at the size of the logits, or None.
    probability: np.ndarray | None
    inferred_s: float  #: `time.perf_counter` at the end of the network


class CpuRunner:
    """Runs frames of one network size through a backend, as many and of the image sizes it was made for."""

    def __init__(
        self,
        backend: Backend,
        pool: MemoryPool,
        image_sizes: Sequence[tuple[int, int]],
        groups: Tensor | None = None,
    ) -> None:
        """pool: of the frame buffers. image_sizes: (height, width) of the labels of each frame. groups: (C,) int64 on
        the device, see `_probability`."""
        self.backend, self._pool, self._image_sizes, self._groups = backend, pool, image_sizes, groups

    @torch.no_grad()
    def __call__(
        self,
        images: Sequence[np.ndarray],
        buffers: Sequence[FrameBuffer],
        stamps_s: Sequence[float],
        probability: bool,
    ) -> RunnerOutput:
        """images: (h, w, 3) uint8 each, at network size. buffers: of their streams, whose next slots get the frames'
        memories. stamps_s: of the frames. probability: whether it is wanted."""
        slots, ages_s = zip(*(buffer.references(stamp_s) for buffer, stamp_s in zip(buffers, stamps_s)))
        references = self._pool.gather(torch.tensor(slots))
        output, memory = self.backend.step(torch.from_numpy(np.stack(images)), references, torch.tensor(ages_s))
        inferred_s = time.perf_counter()
        self._pool.store(torch.tensor([buffer.next_slot for buffer in buffers]), memory)
        labels = [labels_from_logits(logits.float().numpy(), size) for logits, size in zip(output, self._image_sizes)]
        return RunnerOutput(labels, _probability(output, self._groups).numpy() if probability else None, inferred_s)


class CudaGraphRunner:
    """As CpuRunner, on a GPU: an asynchronous copy in, one graph from pixels to labels, a copy out; the CPU waits once.

    The copy in holds the pixels, and for each frame the slots and ages of its references and the slot of its memory.
    The graph reads and writes these slots of the pool itself, so it serves any streams. Logits and memories never leave
    the device. (It runs on a CPU too, without a graph, for tests.)
    """

    def __init__(
        self,
        backend: Backend,
        pool: MemoryPool,
        reference_count: int,
        size: tuple[int, int],
        image_sizes: Sequence[tuple[int, int]],
        groups: Tensor | None = None,
    ) -> None:
        """size: the (height, width) that the network sees. The others as for CpuRunner."""
        self.backend, self._pool, self._groups = backend, pool, groups
        self._memory = pool.memory
        self._device = pool.memory.fine.device
        self._is_cuda = self._device.type == "cuda"
        batch = len(image_sizes)
        inputs = [
            ((batch, *size, 3), torch.uint8),
            ((batch, reference_count), torch.float32),
            ((batch, reference_count), torch.int64),
            ((batch,), torch.int64),
        ]
        self._input, (self._image, self._age_s, self._references, self._next) = self._buffer(inputs)
        self._host_input, host = self._buffer(inputs, on_host=True)
        self._host_image, self._host_age_s, self._host_references, self._host_next = (part.numpy() for part in host)
        self._uploaded = torch.cuda.Event() if self._is_cuda else None
        logits, _ = self._step()
        shape = (logits.shape[2], logits.shape[3])
        upsample = {image_size: DeviceLabels(shape, image_size, self._device) for image_size in set(image_sizes)}
        self._upsample = [upsample[image_size] for image_size in image_sizes]
        outputs = [*((image_size, torch.uint8) for image_size in image_sizes), ((batch, *shape), torch.float32)]
        self._output, (*self._labels, self._probability) = self._buffer(outputs)
        self._host_output, host = self._buffer(outputs, on_host=True)
        *self._host_labels, self._host_probability = (part.numpy() for part in host)
        self._label_bytes = self._probability.storage_offset() * self._probability.element_size()
        self._run: Callable[[], object] | None = None

    @torch.no_grad()  # not inference_mode: torch.compile would compile once more for the tensors that it makes
    def __call__(
        self,
        images: Sequence[np.ndarray],
        buffers: Sequence[FrameBuffer],
        stamps_s: Sequence[float],
        probability: bool,
    ) -> RunnerOutput:
        if self._uploaded is not None:
            self._uploaded.synchronize()  # a frame that failed may still be on its way to the device
        for index, (image, buffer, stamp_s) in enumerate(zip(images, buffers, stamps_s)):
            np.copyto(self._host_image[index], image)
            self._host_references[index], self._host_age_s[index] = buffer.references(stamp_s)
            self._host_next[index] = buffer.next_slot
        self._input.copy_(self._host_input, non_blocking=True)
        if self._uploaded is not None:
            self._uploaded.record(torch.cuda.current_stream(self._device))
        if self._run is None or self._memory is not self._pool.memory:
            # Where the pool has grown, its memory has other addresses. None first: capturing may fail.
            self._run, self._memory = None, self._pool.memory
            if self.backend.capturable:
                with holding_builds() as held:
                    if held:  # else the next frame tries again
                        # With the frames' own inputs: what the warm-up writes, the frames write again.
                        self._run = capture_graph(self._compute, self._device)
        (self._run or self._compute)()
        used = len(self._output) if probability else self._label_bytes
        self._host_output[:used].copy_(self._output[:used], non_blocking=True)
        if self._is_cuda:
            torch.cuda.current_stream(self._device).synchronize()
        inferred_s = time.perf_counter()
        # Copies: the next run overwrites the originals.
        labels = [own.copy() for own in self._host_labels]
        return RunnerOutput(labels, self._host_probability.copy() if probability else None, inferred_s)

    def _compute(self) -> None:
        logits, memory = self._step()
        self._pool.store(self._next, memory)
        for labels, upsample, own in zip(self._labels, self._upsample, logits):
            labels.copy_(upsample(own))
        self._probability.copy_(_probability(logits, self._groups))

    @torch.no_grad()
    def _step(self) -> tuple[Tensor, FrameMemory]:
        return self.backend.step(self._image, self._pool.gather(self._references), self._age_s)

    def _buffer(
        self, parts: Sequence[tuple[tuple[int, ...], torch.dtype]], *, on_host: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Bytes for tensors of these shapes and types, zeros, and the tensors: one copy moves them all."""
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in parts]
        padded = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]
        device = torch.device("cpu") if on_host else self._device
        data = torch.zeros(sum(padded), dtype=torch.uint8, device=device, pin_memory=on_host and self._is_cuda)
        views = [
            own[:size].view(dtype).view(shape) for own, size, (shape, dtype) in zip(data.split(padded), sizes, parts)
        ]
        return data, views


def capture_graph(compute: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """`compute` as a CUDA graph; `compute` itself on a CPU, and if the backend cannot be captured."""
    if device.type != "cuda":
        return compute
    with torch.cuda.device(device):
        before, stream = torch.cuda.current_stream(), _side_stream(torch.cuda.current_device())
        stream.wait_stream(before)
        try:
            # PyTorch requires a warm-up on another stream than the default one. The capture has this stream too: by
            # default it would be on the first GPU that captured anything, and a failed one would leave it current.
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    compute()
                return _captured(compute, stream)
        finally:
            before.wait_stream(stream)


def _captured(compute: Callable[[], object], stream: torch.cuda.Stream) -> Callable[[], object]:
    graph = torch.cuda.CUDAGraph()
    try:
        # thread_local: other threads may allocate memory meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            compute()
    except RuntimeError as error:
        torch.cuda.synchronize()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logging.getLogger(__name__).warning("this backend runs without a CUDA graph: %s", reason)
        return compute
    return graph.replay


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """One for all graphs of a GPU: cuBLAS keeps a workspace of megabytes for each stream that it has worked on."""
    return torch.cuda.Stream(device)


def _probability(logits: Tensor, groups: Tensor | None) -> Tensor:
    """(..., C, h, w) -> (..., h, w) float32: the probability of the most probable class, or of the group that it is in.

    groups: (C,) int64, the group of each class.
    """
    probabilities = logits.float().softmax(-3)
    if groups is None:
        return probabilities.amax(-3)
    # As many groups as classes: the shape must not depend on values, as a CUDA graph cannot wait for them.
    sums = torch.zeros_like(probabilities).index_add_(-3, groups, probabilities)
    group = groups[probabilities.argmax(-3)]
    return sums.gather(-3, group.unsqueeze(-3)).squeeze(-3).clamp(max=1)
