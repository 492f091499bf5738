"""What every backend is, and the first of them: the network run by PyTorch as it is, the reference for all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from sdcpc_ros.inference.step import Step
from sdcpc_ros.network import FrameMemory

#: While torch.fx traces in one thread, as compilers do, it replaces `nn.Module.__call__` for all threads and refuses
#: their modules with this NameError. A trace takes milliseconds, so the step is tried again until this deadline.
_REFUSED_BY_TRACER = "module is not installed as a submodule"
_TRACE_DEADLINE_S = 20.0
_RETRY_S = 0.005


class BackendError(ValueError):
    """A backend or device is unknown, or cannot be had on this machine."""


class Backend:
    """Runs one step of B streams, at the size and for the number of frames it was made for, on one device."""

    def __init__(self, run: Callable[..., Sequence[Tensor]], *, capturable: bool = True) -> None:
        """run: as `Step.forward`. capturable: False if it waits for the GPU, which no CUDA graph can capture."""
        self._run, self.capturable = run, capturable

    @torch.inference_mode()
    def step(self, image: Tensor, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        """image: (B, H, W, 3) uint8 RGB. references: (B, K, h, w, C) each, of the step's dtype. age_s: (B, K)
        float32, seconds, negative for a missing reference. All contiguous and on the device. Returns logits (B,
        classes, H/4, W/4) float32 and the frames' memory, (B, h, w, C) each, of the step's dtype."""
        logits, *memory = self._run(image, *references, age_s)
        return logits, FrameMemory(*memory)


class EagerBackend(Backend):
    """Runs the step's modules as they are, for any number of frames, also while another thread builds a backend."""

    def __init__(self, step: Step) -> None:
        super().__init__(partial(_run, step), capturable=step.model.compiles)


def _run(step: Step, *inputs: Tensor) -> Sequence[Tensor]:
    deadline_s = time.monotonic() + _TRACE_DEADLINE_S
    while True:
        try:
            return step(*inputs)
        except NameError as error:
            if _REFUSED_BY_TRACER not in str(error) or time.monotonic() > deadline_s:
                raise
        time.sleep(_RETRY_S)
