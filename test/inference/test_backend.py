"""Backends: the same contract for every one in the registry, and what is said where one cannot be had."""

from __future__ import annotations

import pytest
import torch

from sdcpc_ros.inference import BACKENDS, BackendError, Step, check_backend, checked_device, create_backend
from sdcpc_ros.network import SDCPC, FrameMemory, SDCPCConfig

MEAN, STD = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)
SIZE = (64, 96)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = SDCPC(SDCPCConfig(5, encoder="resnet18", base_width=8, embed_dim=16, key_dim=8, reference_offsets=(1, 2)))
    torch.nn.init.normal_(network.dynamic_aggregation.gate[2].weight)  # as if trained: the past counts
    return network.eval()


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_gives_the_networks_logits(network, name, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    clip = torch.randint(0, 256, (3, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = (clip - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        expected = network(pixels[None]).logits
    step = Step(network, MEAN, STD)
    try:
        check_backend(name, step)
    except BackendError as error:
        pytest.skip(str(error))
    backend = create_backend(name, step, SIZE)
    nothing = FrameMemory(*(part[:, None].repeat(1, 2, 1, 1, 1) for part in step.blank(SIZE)))
    past = [backend.step(image[None], nothing, torch.zeros(1, 2, dtype=torch.bool))[1] for image in clip[:2]]
    references = FrameMemory(*(torch.stack(parts, 1) for parts in zip(*past)))
    logits, memory = backend.step(clip[2:], references, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
    assert [part.shape for part in memory] == [part.shape for part in step.blank(SIZE)]
    assert not logits.requires_grad


def test_an_unknown_backend_is_named(network):
    with pytest.raises(BackendError, match="one of eager"):
        create_backend("fast", Step(network, MEAN, STD), SIZE)


@pytest.mark.parametrize(("device", "message"), [("gpu", "not a device"), ("mps", "not supported")])
def test_an_unknown_device_is_named(device, message):
    with pytest.raises(BackendError, match=message):
        checked_device(device)
