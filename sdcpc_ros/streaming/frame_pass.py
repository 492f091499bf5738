"""What happens to the pixels of frames on their way through the network: on the CPU, or as one CUDA graph."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.inference import Backend, Step
from sdcpc_ros.inference.step import example_inputs
from sdcpc_ros.network import FrameMemory
from sdcpc_ros.streaming.label_upsampling import DeviceLabels, labels_from_logits

#: Passes before a graph is captured: libraries choose algorithms and allocate in the first ones.
_WARM_UP = 3


class PassInput(NamedTuple):
    """What one frame brings."""

    pixels: np.ndarray  #: (h, w, 3) uint8, at network size
    references: FrameMemory  #: (1, K, ...) each, as `FrameBuffer.references` gives them
    age_s: Tensor  #: (1, K) float32, on the CPU; of each reference, seconds; negative where one is missing
    confidence: bool = False  #: whether the probability is wanted


class PassResult(NamedTuple):
    """What one frame gave."""

    labels: np.ndarray  #: (H, W) uint8, at image size
    #: (h, w) float32 in 0..1, of the best class or its group, at the size of the logits; None unless wanted
    probability: np.ndarray | None
    memory: FrameMemory  #: on the device; to be read before the next pass
    inferred_s: float  #: `time.perf_counter` when the network was done


class FramePass(Protocol):
    """Runs frames of one network size, as many and of the image sizes it was made for, through one backend at once."""

    backend: Backend

    def __call__(self, frames: Sequence[PassInput]) -> list[PassResult]:
        """What each of the frames gave, which are of different streams."""


class HostPass:
    """On the CPU: labels are looked for only among the classes that can win, which no compiled graph does."""

    def __init__(self, backend: Backend, image_sizes: Sequence[tuple[int, int]], groups: Tensor | None = None) -> None:
        """image_sizes: (height, width) of the labels of each frame. groups: (C,) int64, see `_probability`."""
        self.backend, self._groups = backend, groups
        self._image_sizes = image_sizes

    def __call__(self, frames: Sequence[PassInput]) -> list[PassResult]:
        if len(frames) == 1:  # as it lies in its stream's buffer
            pixels, references, age_s = torch.from_numpy(frames[0].pixels)[None], frames[0].references, frames[0].age_s
        else:
            pixels = torch.from_numpy(np.stack([frame.pixels for frame in frames]))
            references = FrameMemory(*(torch.cat(parts) for parts in zip(*(frame.references for frame in frames))))
            age_s = torch.cat([frame.age_s for frame in frames])
        output, memory = self.backend.step(pixels, references, age_s)
        inferred_s = time.perf_counter()
        return [
            PassResult(
                labels_from_logits(logits.float().numpy(), image_size),
                _probability(logits, self._groups).numpy() if frame.confidence else None,
                _one_of(memory, index),
                inferred_s,
            )
            for index, (frame, logits, image_size) in enumerate(zip(frames, output, self._image_sizes))
        ]


class DevicePass:
    """On a GPU: an asynchronous copy in, one graph from pixels to labels, a copy out; the CPU waits once.

    The graph reads and writes fixed addresses, so inputs are copied to them. Logits never leave the device, and no
    logits of the whole image exist. (On a CPU it works too, without a graph: that is how it is tested.)
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
    def __call__(self, frames: Sequence[PassInput]) -> list[PassResult]:
        for index, frame in enumerate(frames):
            np.copyto(self._pixels[index].numpy(), frame.pixels)
            for own, part in zip(self._references, frame.references):
                own[index].copy_(part[0])
            self._age_s[index].copy_(frame.age_s[0])
        self._image.copy_(self._pixels, non_blocking=True)
        labels, probability, memory = self._run()
        for own, found in zip(self._labels, labels):
            own.copy_(found, non_blocking=True)
        if any(frame.confidence for frame in frames):
            self._probability.copy_(probability, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        inferred_s = time.perf_counter()
        # Copies: what is handed out must outlive the next frame.
        return [
            PassResult(
                self._labels[index].numpy().copy(),
                self._probability[index].numpy().copy() if frame.confidence else None,
                _one_of(memory, index),
                inferred_s,
            )
            for index, frame in enumerate(frames)
        ]

    def _compute(self) -> _Outputs:
        output, memory = self.backend.step(self._image, self._references, self._age_s)
        labels = [upsample(logits) for upsample, logits in zip(self._upsample, output)]
        return labels, _probability(output, self._groups), memory


#: Labels (H, W) uint8 of each frame, probabilities (B, h, w) and memories, all on the device.
_Outputs = tuple[list[Tensor], Tensor, FrameMemory]
_Compute = Callable[[], _Outputs]


def _captured(compute: _Compute, device: torch.device) -> _Compute:
    """`compute` as a CUDA graph, or as it is where the backend does what cannot be captured."""
    with torch.cuda.device(device), torch.inference_mode():
        # As PyTorch asks for: warm up on another stream than the default one, which capturing forbids.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                compute()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may be building a backend: only this one must keep from what cannot be captured.
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
    # As many groups as classes at most: the shape must not depend on values, which a CUDA graph cannot wait for.
    sums = torch.zeros_like(probabilities).index_add_(-3, groups, probabilities)
    group = groups[probabilities.argmax(-3)]
    return sums.gather(-3, group.unsqueeze(-3)).squeeze(-3).clamp(max=1)


def _one_of(memory: FrameMemory, index: int) -> FrameMemory:
    """That of one frame, (1, ...) each, where it lies."""
    return FrameMemory(*(part[index : index + 1] for part in memory))
