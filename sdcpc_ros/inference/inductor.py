"""The network compiled by torch.compile in the process that runs it: nothing to ship, but a compiler on the robot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdcpc_ros.inference.compiler import allow_many_shapes, check_compiler, leave_cores_to_the_stream
from sdcpc_ros.inference.step import Step, example_inputs
from sdcpc_ros.network import FrameMemory


class InductorBackend:
    """Compiles when made, tens of seconds; PyTorch keeps its own cache, so that the next process needs a few.

    For one size and number of frames. With the number left open (`mark_dynamic`) it compiles too, but takes twice as
    long (docs/design_notes.md has the figures), and a CUDA graph is of one number anyway.
    """

    def __init__(self, step: Step, size: tuple[int, int], batch: int = 1) -> None:
        leave_cores_to_the_stream()
        allow_many_shapes()
        # Weights become constants, laid out as the kernels like them.
        options: dict[str, str | int | bool | Callable[..., Any]] = {"freezing": step.mean.device.type == "cpu"}
        self._compiled = torch.compile(step, fullgraph=True, dynamic=False, options=options)
        # Made outside of inference mode, as frames are: torch.compile would compile the first frame once more.
        inputs = example_inputs(step, size, batch)
        with torch.inference_mode():
            self._compiled(*inputs)

    @torch.inference_mode()
    def step(self, image: Tensor, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        logits, *memory = self._compiled(image, *references, age_s)
        return logits, FrameMemory(*memory)


def check(step: Step) -> None:
    """Raises BackendError saying what is missing here."""
    check_compiler("inductor", step.mean.device)
