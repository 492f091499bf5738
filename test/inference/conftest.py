"""A tiny network whose past counts, and the backends compiled for it, once for all tests: that is what takes time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sdcpc_ros.inference import Backend, BackendError, BackendSwitch, Step, check_backend, create_backend
from sdcpc_ros.network import SDCPC, FrameMemory, SDCPCConfig

MEAN, STD = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)
SIZE = (64, 96)
OFFSETS = (1, 2)
_DEADLINE_S = 600.0  # a compiler takes half a minute, unless the machine is busy


def _make_network() -> SDCPC:
    config = SDCPCConfig(5, encoder="resnet18", base_width=8, embed_dim=16, key_dim=8, reference_offsets=OFFSETS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SDCPC(config)
        torch.nn.init.normal_(network.dynamic_aggregation.gate[2].weight)  # as if trained: the past counts
        for module in network.modules():  # so that folding a norm away changes something
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="session")
def make_network() -> Callable[[], SDCPC]:
    """Makes the network, the same each time."""
    return _make_network


@pytest.fixture(scope="session")
def step() -> Step:
    """For reading only."""
    return Step(_make_network(), MEAN, STD)


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
        valid = torch.tensor([[offset <= frame for offset in OFFSETS]])
        output, memory = backend.step(image[None], references, valid)
        logits.append(output[0])
        past.append(memory)
    return torch.stack(logits), past


class Swap(NamedTuple):
    """What was served while a backend was being built."""

    states: list[str]
    logits: list[Tensor]  # (C, h, w), all of the first frame
    backend: Backend


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of the compiled backends of this session."""
    with pytest.MonkeyPatch.context() as environment:
        folder = tmp_path_factory.mktemp("cache")
        environment.setenv("SDCPC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def swap(step: Step, video: Tensor) -> Swap:
    """Frames served by a switch to inductor, from the first until a few after it was ready."""
    _require("inductor", step)
    switch = BackendSwitch("inductor", step, background=True, fallback=False)
    states, logits = [switch.status.state], []
    deadline = time.monotonic() + _DEADLINE_S
    while states[-3:] != ["ready"] * 3 or len(states) < 5:
        assert time.monotonic() < deadline, "inductor is not built in time"
        backend = switch.backend(SIZE)
        logits.append(_stream(backend, step, video[:1])[0][0])
        states.append(switch.status.state)
        if states[-1] == "building":
            time.sleep(0.5)  # leaves the processor to the compiler
    return Swap(states, logits, switch.backend(SIZE))


@pytest.fixture(scope="session")
def compiled(step: Step, swap: Swap, cache: Path) -> dict[str, Backend]:
    """Every backend that can run here but eager."""
    backends = {"inductor": swap.backend}
    _require("aot", step)
    backends["aot"] = create_backend("aot", step, SIZE)
    return backends


def _require(name: str, step: Step) -> None:
    try:
        check_backend(name, step)
    except BackendError as error:
        pytest.skip(str(error))
