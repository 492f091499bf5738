"""The network run by PyTorch as it is: always there, and what every other backend is measured against."""

from __future__ import annotations

import torch
from torch import Tensor

from sdcpc_ros.inference.step import Step
from sdcpc_ros.network import FrameMemory


class EagerBackend:
    """Runs the step's modules as they are, for any number of frames."""

    def __init__(self, step: Step) -> None:
        self._step = step

    @torch.inference_mode()
    def step(self, image: Tensor, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        logits, *memory = self._step(image, *references, age_s)
        return logits, FrameMemory(*memory)
