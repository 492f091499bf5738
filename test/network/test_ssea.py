"""SSEA: shapes, tokens, and a cost that grows with the pixels and no faster."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from sdcpc_ros.network import SDCPCConfig
from sdcpc_ros.network.ssea import SSEA

CHANNELS = (16, 24, 32, 48)


def _pyramid(height, width, strides=(4, 8, 16, 32)):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, -(-height // s), -(-width // s), generator=generator)
        for channels, s in zip(CHANNELS, strides)
    ]


@pytest.mark.parametrize("size", [(64, 96), (72, 120), (33, 47)])
@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (4, 8, 8, 8)])
def test_gives_features_at_stride_8(size, strides):
    module = SSEA(SDCPCConfig(11, embed_dim=32, key_dim=16), CHANNELS).eval()
    wanted = (-(-size[0] // 8), -(-size[1] // 8))
    features = module(_pyramid(*size, strides), wanted)
    assert features.shape == (2, 32, *wanted)
    assert features.isfinite().all()


def test_every_level_and_grid_gives_tokens():
    module = SSEA(SDCPCConfig(11, embed_dim=32, pool_grids=(1, 3)), CHANNELS)
    pyramid = _pyramid(64, 96)
    tokens = module.static_tokens(pyramid)
    assert tokens.shape == (2, 4 * (1 + 9), 32)
    # The first token of a level is its mean, plus what says which level and scale it is.
    level = module.levels[2](pyramid[2])
    expected = level.mean((2, 3)) + module.level_embedding[2, 0] + module.scale_embedding[0, 0]
    torch.testing.assert_close(tokens[:, 20], expected, atol=1e-5, rtol=1e-5)
    scale = module.level_embedding[2, 0] + module.scale_embedding[1, 0]
    torch.testing.assert_close(
        tokens[:, 21:30], F.adaptive_avg_pool2d(level, 3).flatten(2).mT + scale, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (4, 8, 8, 8)])
@torch.no_grad()
def test_levels_are_projected_resized_concatenated_and_mixed(strides):
    """In whatever order it is computed, before and after the norm is folded."""
    module = SSEA(SDCPCConfig(11, embed_dim=32, static_aggregation=False), CHANNELS)
    pyramid, size = _pyramid(72, 120, strides), (9, 15)
    for _ in range(3):  # statistics of the norm
        module(pyramid, size)
    module.eval()
    levels = [project(features) for project, features in zip(module.levels, pyramid)]
    resized = [F.adaptive_avg_pool2d(levels[0], size)]
    resized += [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels[1:]]
    expected = module.fuse(torch.cat(resized, 1))
    torch.testing.assert_close(module(pyramid, size), expected, atol=1e-5, rtol=1e-5)
    module.fold_norm()
    module.fold_norm()  # a second time there is nothing to fold
    torch.testing.assert_close(module(pyramid, size), expected, atol=1e-5, rtol=1e-5)


def test_context_reaches_across_the_whole_frame():
    module = SSEA(SDCPCConfig(11, embed_dim=32, key_dim=16), CHANNELS).eval()
    pyramid = [features.requires_grad_() for features in _pyramid(256, 256)]
    module(pyramid, (32, 32))[0, :, 0, 0].sum().backward()
    assert pyramid[3].grad[0, :, -1, -1].abs().sum() > 0


def test_cost_is_linear_in_pixels():
    module = SSEA(SDCPCConfig(11, embed_dim=32, key_dim=16), CHANNELS).eval().to("meta")

    def flops(side):
        with FlopCounterMode(display=False) as counter:
            module([features.to("meta") for features in _pyramid(side, side)], (side // 8, side // 8))
        return counter.get_total_flops()

    assert flops(512) <= 4.2 * flops(256)
