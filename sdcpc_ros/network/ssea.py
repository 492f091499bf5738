"""SSEA, static semantic efficient aggregation: context from within one frame, at a cost linear in its pixels.

Cen et al. (2025) state that intra-frame multi-scale, multi-level correlations are aggregated; everything else about
the form below is inferred.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig


class SSEA(nn.Module):
    """Encoder pyramid -> static features S at stride 8.

    The levels are projected, brought to stride 8, concatenated and mixed. Each position then attends to a few hundred
    static tokens: average pools of every projected level over several grids.

    Projecting and mixing are linear and act on each position by itself, so they commute with averaging and
    interpolation. Each level is projected and mixed in one convolution, where it has the fewest positions, and summed.
    """

    def __init__(self, config: SDCPCConfig, channels: Sequence[int]) -> None:
        super().__init__()
        width = config.embed_dim
        self.width, self.grids = width, config.pool_grids
        self.levels = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        self.fuse = nn.Sequential(
            nn.Conv2d(width * len(channels), width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.folded: nn.ParameterList | None = None  #: weight and bias of each level's convolution: `fold_norm`
        self.query: nn.Linear | None = None  # left out for ablation
        if not config.static_aggregation:
            return
        self.level_embedding = nn.Parameter(torch.zeros(len(channels), 1, width))
        self.scale_embedding = nn.Parameter(torch.zeros(len(self.grids), 1, width))
        nn.init.trunc_normal_(self.level_embedding, std=0.02)
        nn.init.trunc_normal_(self.scale_embedding, std=0.02)
        self.position_norm = nn.LayerNorm(width)
        self.token_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, config.key_dim)
        self.key = nn.Linear(width, config.key_dim)
        self.value = nn.Linear(width, config.key_dim)
        self.project = nn.Linear(config.key_dim, width)
        self.feed_forward = ConvFeedForward(width)

    def forward(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """pyramid: four maps, finest first. size: (h, w) of the result, (B, D, h, w)."""
        x = self._mixed_levels(pyramid, size)
        if self.query is None:
            return x
        tokens = self.token_norm(self.static_tokens(pyramid))  # (B, M, D)
        positions = self.position_norm(x.flatten(2).transpose(1, 2))  # (B, N, D)
        # One head, as an axis of its own: without it PyTorch makes the whole (B, N, M) matrix.
        query, key, value = (z[:, None] for z in (self.query(positions), self.key(tokens), self.value(tokens)))
        mixed = F.scaled_dot_product_attention(query, key, value)[:, 0]
        x = x + self.project(mixed).transpose(1, 2).unflatten(2, size)
        return x + self.feed_forward(x)

    def _mixed_levels(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The fused pyramid, (B, D, h, w) of `size`."""
        convolutions = self._convolutions() if self.folded is None else zip(self.folded[::2], self.folded[1::2])
        parts = [_at_size(level, size, *convolution) for level, convolution in zip(pyramid, convolutions)]
        _, norm, activation = self.fuse
        return activation(norm(reduce(torch.add, parts)))

    def _convolutions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each level weight (D, C, 1, 1) and bias (D,) of the convolution that projects it and mixes it in."""
        mixes = self.fuse.get_parameter("0.weight").flatten(1).split(self.width, 1)
        for index, mix in enumerate(mixes):
            weight, bias = (self.levels.get_parameter(f"{index}.{name}") for name in ("weight", "bias"))
            yield (mix @ weight.flatten(1))[:, :, None, None], mix @ bias

    def static_tokens(self, pyramid: Sequence[Tensor]) -> Tensor:
        """(B, M, D): average pools of every projected level over every grid."""
        tokens = []
        for project, level_embedding, features in zip(self.levels, self.level_embedding, pyramid):
            pools = [F.adaptive_avg_pool2d(features, grid).flatten(2) for grid in self.grids]
            pooled = project(torch.cat(pools, 2)[..., None]).flatten(2).transpose(1, 2)
            scales = [scale.expand(grid * grid, -1) for scale, grid in zip(self.scale_embedding, self.grids)]
            tokens.append(pooled + (level_embedding + torch.cat(scales)).to(pooled.dtype))
        return torch.cat(tokens, 1)

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Make the norm, in evaluation mode, part of the convolutions before it, and keep these: the same function."""
        norm = self.fuse[1]
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert not norm.training and norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        folded = [(weight * scale.view(-1, 1, 1, 1), bias * scale) for weight, bias in self._convolutions()]
        folded[0][1].add_(norm.bias - norm.running_mean * scale)
        self.folded = nn.ParameterList(part for pair in folded for part in pair)
        self.fuse[0], self.fuse[1] = nn.Identity(), nn.Identity()


class ConvFeedForward(nn.Module):
    """Point-wise, depth-wise 3x3, point-wise: a feed-forward that also sees the neighbours."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        hidden = width * expansion
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _at_size(level: Tensor, size: tuple[int, int], weight: Tensor, bias: Tensor) -> Tensor:
    """A level through a convolution of 1 x 1, at `size`: averaged on the way down (the finest level would alias),
    bilinear on the way up."""
    if level.shape[2] > size[0]:
        return F.conv2d(F.adaptive_avg_pool2d(level, size), weight, bias)
    mixed = F.conv2d(level, weight, bias)
    return mixed if mixed.shape[2:] == size else F.interpolate(mixed, size, mode="bilinear", align_corners=False)
