"""From pixels to labels: frames of one network size through one backend, on the CPU or as one CUDA graph."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.inference import Backend, Step
from sdcpc_ros.inference.step import example_inputs
from sdcpc_ros.network import FrameMemory
from sdcpc_ros.streaming.label_upsampling import DeviceLabels, labels_from_logits

#: Runs before a graph is captured: libraries choose algorithms and allocate in the first ones.
_WARM_UP = 3

#: (H, W) uint8 labels of each frame; (B, h, w) float32 in 0..1, the probability of the best class or its group at the
#: size of the logits, or None; memories of all frames, (B, ...) each, valid until the next run; `time.perf_counter` at
#: the end of the network.
RunnerOutput = tuple[list[np.ndarray], np.ndarray | None, FrameMemory, float]


class CpuRunner:
    """Runs frames of one network size through a backend, as many and of the image sizes it was made for."""

    def __init__(self, backend: Backend, image_sizes: Sequence[tuple[int, int]], groups: Tensor | None = None) -> None:
        """image_sizes: (height, width) of the labels of each frame. groups: (C,) int64, see `_probability`."""
        self.backend, self._groups = backend, groups
        self._image_sizes = image_sizes

    def __call__(
        self, images: Sequence[np.ndarray], references: Sequence[tuple[FrameMemory, Tensor]], probability: bool
    ) -> RunnerOutput:
        """images: (h, w, 3) uint8 each, at network size, of different streams. references: of each frame, as
        `FrameBuffer.references` returns them. probability: whether it is wanted."""
        if len(images) == 1:  # without a copy
            pixels, (memories, age_s) = torch.from_numpy(images[0])[None], references[0]
        else:
            pixels = torch.from_numpy(np.stack(images))
            memories = FrameMemory(*(torch.cat(parts) for parts in zip(*(memory for memory, _ in references))))
            age_s = torch.cat([age_s for _, age_s in references])
        output, memory = self.backend.step(pixels, memories, age_s)
        inferred_s = time.perf_counter()
        labels = [labels_from_logits(logits.float().numpy(), size) for logits, size in zip(output, self._image_sizes)]
        return labels, _probability(output, self._groups).numpy() if probability else None, memory, inferred_s


class CudaGraphRunner:
    """As CpuRunner, on a GPU: an asynchronous copy in, one graph from pixels to labels, a copy out; the CPU waits once.

    The graph reads and writes fixed addresses, so inputs are copied to them. Logits never leave the device. (It runs on
    a CPU too, without a graph, for tests.)
    """

    def __init__(
        self,
        backend: Backend,
        step: Step,
        size: tuple[int, int],
        image_sizes: Sequence[tuple[int, int]],
        groups: Tensor | None = None,
    ) -> None:
        """size: the (height, width) that the network sees; image_sizes: those of the labels of each frame. groups: (C,)
        int64 on the device, see `_probability`."""
        self.backend, self._groups = backend, groups
        self._device = step.mean.device
        is_cuda = self._device.type == "cuda"
        self._image, *references, self._age_s = example_inputs(step, size, len(image_sizes))
        self._references = FrameMemory(*references)
        with torch.inference_mode():
            logits, _ = backend.step(self._image, self._references, self._age_s)
        shape = (logits.shape[2], logits.shape[3])
        upsample = {image_size: DeviceLabels(shape, image_size, self._device) for image_size in set(image_sizes)}
        self._upsample = [upsample[image_size] for image_size in image_sizes]
        self._pixels = torch.empty(self._image.shape, dtype=torch.uint8, pin_memory=is_cuda)
        self._labels = [torch.empty(size, dtype=torch.uint8, pin_memory=is_cuda) for size in image_sizes]
        self._probability = torch.empty((len(image_sizes), *shape), pin_memory=is_cuda)
        self._run = _captured(self._compute, self._device) if is_cuda else self._compute

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], references: Sequence[tuple[FrameMemory, Tensor]], probability: bool
    ) -> RunnerOutput:
        for index, (image, (memories, age_s)) in enumerate(zip(images, references)):
            np.copyto(self._pixels[index].numpy(), image)
            for own, part in zip(self._references, memories):
                own[index].copy_(part[0])
            self._age_s[index].copy_(age_s[0])
        self._image.copy_(self._pixels, non_blocking=True)
        labels, probabilities, memory = self._run()
        for own, found in zip(self._labels, labels):
            own.copy_(found, non_blocking=True)
        if probability:
            self._probability.copy_(probabilities, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        inferred_s = time.perf_counter()
        # Copies: the next run overwrites the originals.
        copied = [own.numpy().copy() for own in self._labels]
        return copied, self._probability.numpy().copy() if probability else None, memory, inferred_s

    def _compute(self) -> _Outputs:
        output, memory = self.backend.step(self._image, self._references, self._age_s)
        labels = [upsample(logits) for upsample, logits in zip(self._upsample, output)]
        return labels, _probability(output, self._groups), memory


FrameRunner = CpuRunner | CudaGraphRunner

#: Labels (H, W) uint8 of each frame, probabilities (B, h, w) and memories, all on the device.
_Outputs = tuple[list[Tensor], Tensor, FrameMemory]
_Compute = Callable[[], _Outputs]


def _captured(compute: _Compute, device: torch.device) -> _Compute:
    """`compute` as a CUDA graph, or unchanged if the backend cannot be captured."""
    with torch.cuda.device(device), torch.inference_mode():
        # PyTorch requires a warm-up on another stream than the default one.
        warm_up = torch.cuda.Stream()
        warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up):
            for _ in range(_WARM_UP):
                compute()
        torch.cuda.current_stream().wait_stream(warm_up)
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: other threads may be building a backend.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = compute()
        except RuntimeError as error:
            torch.cuda.synchronize()
            reason = str(error).splitlines()[0]
            logging.getLogger(__name__).warning("this backend runs without a CUDA graph: %s", reason)
            return compute

    def replay() -> _Outputs:
        graph.replay()
        return outputs

    return replay


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
