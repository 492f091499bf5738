"""The eager backend while another thread traces a module, as the build of a compiled backend does."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from sdcpc_ros.inference import Step
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.inference.step import example_inputs
from sdcpc_ros.network import FrameMemory


class Traced(nn.Module):
    """Its trace begins, and lasts until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.released = threading.Event(), threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        self.begun.set()
        assert self.released.wait(60)
        return x + 1


def test_frames_run_while_another_thread_traces(step: Step) -> None:
    backend, (image, *references, age_s) = EagerBackend(step), example_inputs(step, (64, 64))
    expected, _ = backend.step(image, FrameMemory(*references), age_s)
    module = Traced()
    tracing = threading.Thread(target=torch.fx.symbolic_trace, args=(module,))
    tracing.start()
    try:
        assert module.begun.wait(60)
        with pytest.raises(NameError):  # the fault that the backend waits out
            step(image, *references, age_s)
        threading.Timer(0.2, module.released.set).start()
        logits, _ = backend.step(image, FrameMemory(*references), age_s)
    finally:
        module.released.set()
        tracing.join()
    assert torch.equal(logits, expected)


def test_another_name_error_is_raised(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Tensor) -> None:
        raise NameError("name 'x' is not defined")

    image, *references, age_s = example_inputs(step, (64, 64))
    monkeypatch.setattr(step, "forward", fail)
    with pytest.raises(NameError, match="'x'"):
        EagerBackend(step).step(image, FrameMemory(*references), age_s)
