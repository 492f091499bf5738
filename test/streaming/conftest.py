"""A network for streams: tiny, of random weights, whose past counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import Checkpoint
from sdcpc_ros.network import SDCPC, SDCPCConfig


@pytest.fixture(scope="session")
def checkpoint(as_if_trained: Callable[[SDCPC], SDCPC]) -> Checkpoint:
    """CamVid's classes, 64 x 96 px, references 1 and 3 frames back."""
    config = SDCPCConfig(11, encoder="resnet_tiny", embed_dim=16, key_dim=16, reference_offsets=(1, 3))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SDCPC(config)
        as_if_trained(network)
    mean, std = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)
    return Checkpoint(config, CAMVID_11, mean, std, (64, 96), network.state_dict())
