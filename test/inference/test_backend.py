"""Backends: the same contract for every one in the registry."""

from __future__ import annotations

import pytest
import torch

from sdcpc_ros.inference import BACKENDS, BackendError, create_backend
from sdcpc_ros.network import SDCPC, FrameMemory, SDCPCConfig

MEAN, STD = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SDCPC(SDCPCConfig(5, encoder="resnet18", base_width=8, embed_dim=16, key_dim=8)).eval()


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_gives_the_networks_logits(network, name):
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        expected = network(pixels[:, None]).logits
    backend = create_backend(name, network, MEAN, STD, "cpu")
    frame = backend.encode(image)
    nothing = FrameMemory(*(part[:, None].expand(-1, 3, *part.shape[1:]) for part in frame.memory))
    logits = backend.aggregate(frame, nothing, torch.zeros(1, 3, dtype=torch.bool))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert logits.device == backend.device
    assert not logits.requires_grad


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [("fast", "cpu", "one of eager"), ("eager", "gpu", "not a device"), ("eager", "mps", "not supported")],
)
def test_what_is_unknown_is_named(network, name, device, message):
    with pytest.raises(BackendError, match=message):
        create_backend(name, network, MEAN, STD, device)
