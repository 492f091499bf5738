"""What happens to the pixels of one frame on their way through the network: on the CPU, or as one CUDA graph."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
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


class PassResult(NamedTuple):
    """What one frame gave."""

    labels: np.ndarray  #: (H, W) uint8, at image size
    probability: (
        np.ndarray | None
    )  #: (h, w) float32 in 0..1, of the best class, at the size of the logits; None unless wanted
    memory: FrameMemory  #: on the device; to be read before the next pass
    inferred_s: float  #: `time.perf_counter` when the network was done


class FramePass(Protocol):
    """Runs frames of one network size and one image size through one backend."""

    backend: Backend

    def __call__(self, pixels: np.ndarray, references: FrameMemory, valid: Tensor, wanted: bool) -> PassResult:
        """pixels: (h, w, 3) uint8 at network size; references and valid: as `FrameBuffer.references` gives them.
        wanted: whether the probability is."""


class HostPass:
    """On the CPU: labels are looked for only among the classes that can win, which no compiled graph does."""

    def __init__(self, backend: Backend, image_size: tuple[int, int]) -> None:
        self.backend = backend
        self._image_size = image_size

    def __call__(self, pixels: np.ndarray, references: FrameMemory, valid: Tensor, wanted: bool) -> PassResult:
        output, memory = self.backend.step(torch.from_numpy(pixels)[None], references, valid)
        logits = output[0]
        inferred_s = time.perf_counter()
        labels = labels_from_logits(logits.float().numpy(), self._image_size)
        return PassResult(labels, _probability(logits).numpy() if wanted else None, memory, inferred_s)


class DevicePass:
    """On a GPU: one asynchronous copy in, one graph from pixels to labels, one copy out; the CPU waits once.

    The graph reads and writes fixed addresses, so inputs are copied to them. Logits never leave the device, and no
    logits of the whole image exist. (On a CPU it works too, without a graph: that is how it is tested.)
    """

    def __init__(self, backend: Backend, step: Step, size: tuple[int, int], image_size: tuple[int, int]) -> None:
        """size: the (height, width) that the network sees."""
        self.backend = backend
        self._device = step.mean.device
        is_cuda = self._device.type == "cuda"
        self._image, *references, self._valid = example_inputs(step, size)
        self._references = FrameMemory(*references)
        with torch.inference_mode():
            logits, _ = backend.step(self._image, self._references, self._valid)
        self._upsample = DeviceLabels((logits.shape[2], logits.shape[3]), image_size, self._device)
        self._pixels = torch.empty(self._image.shape[1:], dtype=torch.uint8, pin_memory=is_cuda)
        self._labels = torch.empty(image_size, dtype=torch.uint8, pin_memory=is_cuda)
        self._probability = torch.empty(logits.shape[2:], pin_memory=is_cuda)
        self._run = _captured(self._compute, self._device) if is_cuda else self._compute

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, references: FrameMemory, valid: Tensor, wanted: bool) -> PassResult:
        np.copyto(self._pixels.numpy(), pixels)
        self._image[0].copy_(self._pixels, non_blocking=True)
        for own, part in zip(self._references, references):
            own.copy_(part)
        self._valid.copy_(valid)
        labels, probability, memory = self._run()
        self._labels.copy_(labels, non_blocking=True)
        if wanted:
            self._probability.copy_(probability, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        inferred_s = time.perf_counter()
        # Copies: what is handed out must outlive the next frame.
        return PassResult(
            self._labels.numpy().copy(), self._probability.numpy().copy() if wanted else None, memory, inferred_s
        )

    def _compute(self) -> tuple[Tensor, Tensor, FrameMemory]:
        logits, memory = self.backend.step(self._image, self._references, self._valid)
        return self._upsample(logits[0]), _probability(logits[0]), memory


_Compute = Callable[[], tuple[Tensor, Tensor, FrameMemory]]


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

    def replay() -> tuple[Tensor, Tensor, FrameMemory]:
        graph.replay()
        return outputs

    return replay


def _probability(logits: Tensor) -> Tensor:
    """(C, h, w) -> (h, w) float32: the probability of the most probable class."""
    return logits.float().softmax(0).amax(0)
