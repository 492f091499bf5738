"""DSSA's optical flow: references are not trusted where the motion that was found is unlikely."""

from __future__ import annotations

import math

import torch

from sdcpc_ros.network import FrameMemory, SDCPCConfig
from sdcpc_ros.network.cross_frame import COARSE
from sdcpc_ros.network.dssa import DSSA

CLASSES, HEIGHT, WIDTH = 5, 32, 64


def make_dssa() -> DSSA:
    """It matches by appearance alone, and trusts all that fits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = DSSA(SDCPCConfig(CLASSES, embed_dim=16, key_dim=16, coarse_radius=3), 6, 7).eval()
    with torch.no_grad():
        for parameter in module.trust.parameters():
            parameter.zero_()
        module.trust[2].bias.fill_(9.0)
        module.log_scale.fill_(math.log(100.0))
        module.position_weight.fill_(-20.0)
    return module


def frame(module: DSSA, luminance: torch.Tensor) -> FrameMemory:
    """A frame whose every place looks different. luminance: (1, 1, HEIGHT, WIDTH)."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(1, 22, HEIGHT // 2, WIDTH // 2, generator=generator)
    detail = torch.randn(1, 7, HEIGHT, WIDTH, generator=generator)
    return module.make_memory(context, detail, torch.zeros(1, CLASSES, HEIGHT, WIDTH), luminance)


def trust(module: DSSA, memory: FrameMemory, reference: FrameMemory) -> torch.Tensor:
    """(HEIGHT, WIDTH), in one reference a tenth of a second ago."""
    references = FrameMemory(*(part[:, None] for part in reference))
    return module(memory, references, torch.tensor([[0.1]])).trust[0, 0]


@torch.inference_mode()
def test_a_scene_that_rests_is_trusted():
    module = make_dssa()
    memory = frame(module, torch.rand(1, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)))
    assert trust(module, memory, memory).min() > 0.9


@torch.inference_mode()
def test_trust_falls_where_the_motion_is_rough():
    """A part of the scene has moved by two coarse cells, the rest by none. No luminance tells."""
    module = make_dssa()
    memory = frame(module, torch.zeros(1, 1, HEIGHT, WIDTH))
    gone = FrameMemory(*(part.clone() for part in memory))
    for part, scale in zip(gone, (COARSE, 1)):
        half = 8 * scale
        part[..., half:] = part[..., half:].roll(2 * scale, 3)
    found = trust(module, memory, gone)
    assert found[8:24, 30:34].mean() < 0.7 * found[8:24, 4:16].mean()


@torch.inference_mode()
def test_trust_falls_where_the_matched_place_has_another_luminance():
    """As where something has passed in front."""
    module = make_dssa()
    luminance = torch.zeros(1, 1, HEIGHT, WIDTH)
    memory = frame(module, luminance)
    luminance[..., 6:12, 10:16] = 0.2
    found = trust(module, memory, frame(module, luminance))
    assert found[6:12, 10:16].max() < 1e-3 and found[:, 20:].min() > 0.9


@torch.inference_mode()
def test_beside_an_edge_another_luminance_counts_less():
    """There a motion that is wrong by a part of a position explains it."""
    module = make_dssa()
    flat = torch.zeros(1, 1, HEIGHT, WIDTH)
    edges = torch.arange(WIDTH).remainder(4).lt(2).float().expand_as(flat)
    at_edges, on_flat = (trust(module, frame(module, now), frame(module, now + 0.1)) for now in (edges, flat))
    assert at_edges.mean() > 0.5 and on_flat.max() < 0.01
