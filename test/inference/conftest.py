"""The backends compiled for the tiny network whose past counts, once for all tests: that is what takes time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sdcpc_ros.inference import Backend, BackendError, BackendManager, Step, check_backend, create_backend
from sdcpc_ros.inference.exporting import export_step
from sdcpc_ros.network import SDCPC, FrameMemory

MEAN, STD = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)  # as of the fixture `robot_model`
SIZE = (64, 96)
OFFSETS = (1, 2)
METADATA = {"model": "tiny", "reference_offsets": "[1, 2]", "input_size": "[64, 96]"}  # of exported files
PERIOD_S = 1 / 15  # between two frames of `video`
_DEADLINE_S = 600.0  # a compiler takes half a minute, unless the machine is busy


@pytest.fixture(scope="session")
def step(make_network: Callable[[], SDCPC]) -> Step:
    """For reading only."""
    return Step(make_network(), MEAN, STD)


@pytest.fixture(scope="session")
def video() -> Tensor:
    """(8, H, W, 3) uint8: a picture that moves to the right, with noise of its own in every frame."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 8, 12, generator=generator)
    picture = torch.nn.functional.interpolate(picture, SIZE, mode="bicubic")[0].permute(1, 2, 0) * 255
    frames = [picture.roll(3 * shift, 1) + 20 * torch.randn(picture.shape, generator=generator) for shift in range(8)]
    return torch.stack(frames).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="session")
def stream() -> Callable[[Backend, Step, Tensor], tuple[Tensor, list[FrameMemory]]]:
    return _stream


def _stream(backend: Backend, step: Step, video: Tensor) -> tuple[Tensor, list[FrameMemory]]:
    """Logits (frames, C, h, w) of a video seen as a stream, and what each frame left."""
    past: list[FrameMemory] = []
    logits = []
    for frame, image in enumerate(video):
        known = [past[frame - offset] if offset <= frame else step.blank(SIZE) for offset in OFFSETS]
        references = FrameMemory(*(torch.stack(parts, 1) for parts in zip(*known)))
        age_s = torch.tensor([[offset * PERIOD_S if offset <= frame else -1.0 for offset in OFFSETS]])
        output, memory = backend.step(image[None], references, age_s)
        logits.append(output[0])
        past.append(memory)
    return torch.stack(logits), past


@pytest.fixture(scope="session")
def program_file(step: Step, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The step as PyTorch's exported program."""
    return export_step(step, SIZE, "torch", tmp_path_factory.mktemp("exported") / "tiny.pt2", METADATA)


@pytest.fixture(scope="session")
def onnx_file(step: Step, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The step as an ONNX model, alone in its folder."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra 'export' is not installed")
    return export_step(step, SIZE, "onnx", tmp_path_factory.mktemp("exported") / "tiny.onnx", METADATA)


class Swap(NamedTuple):
    """What was served while a backend was being built."""

    states: list[str]
    logits: list[Tensor]  # (C, h, w), all of the first frame
    backend: Backend


@pytest.fixture(scope="session")
def cache(robot_cache: Path) -> Iterator[Path]:
    """The cache folder of the compiled backends of this session: what `sdcpc export` wrote for a robot."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SDCPC_CACHE", str(robot_cache))
        yield robot_cache


@pytest.fixture(scope="session")
def swap(step: Step, video: Tensor) -> Swap:
    """Frames served while inductor was built, from the first until a few after it was ready."""
    _require("inductor", step)
    manager = BackendManager("inductor", step, background=True, fallback=False)
    states, logits = [manager.status.state], []
    deadline = time.monotonic() + _DEADLINE_S
    while states[-3:] != ["ready"] * 3 or len(states) < 5:
        assert time.monotonic() < deadline, "inductor is not built in time"
        backend = manager.backend(SIZE)
        logits.append(_stream(backend, step, video[:1])[0][0])
        states.append(manager.status.state)
        if states[-1] == "building":
            time.sleep(0.5)  # leaves the processor to the compiler
    return Swap(states, logits, manager.backend(SIZE))


@pytest.fixture(scope="session")
def compiled(step: Step, swap: Swap, cache: Path) -> dict[str, Backend]:
    """Every backend that can run here but eager."""
    return {"inductor": swap.backend, "aot": create_backend("aot", step, SIZE)}


def _require(name: str, step: Step) -> None:
    try:
        check_backend(name, step)
    except BackendError as error:
        pytest.skip(str(error))
