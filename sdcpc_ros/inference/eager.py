"""The network run by PyTorch as it is: always available, and the reference for every other backend."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from sdcpc_ros.inference.step import Step
from sdcpc_ros.network import FrameMemory

#: While torch.fx traces in one thread, as compilers do, it replaces `nn.Module.__call__` for all threads and refuses
#: their modules with this NameError. A trace takes milliseconds, so the step is tried again until this deadline.
_REFUSED_BY_TRACER = "module is not installed as a submodule"
_TRACE_DEADLINE_S = 20.0
_RETRY_S = 0.005


class EagerBackend:
    """Runs the step's modules as they are, for any number of frames, also while another thread builds a backend."""

    def __init__(self, step: Step) -> None:
        self._step = step

    @torch.inference_mode()
    def step(self, image: Tensor, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        deadline_s = time.monotonic() + _TRACE_DEADLINE_S
        while True:
            try:
                logits, *memory = self._step(image, *references, age_s)
                return logits, FrameMemory(*memory)
            except NameError as error:
                if _REFUSED_BY_TRACER not in str(error) or time.monotonic() > deadline_s:
                    raise
            time.sleep(_RETRY_S)
