"""SSEA, static semantic efficient aggregation: context from within one frame, at a cost linear in its pixels.

Cen et al. (2025) state that intra-frame multi-scale, multi-level correlations are aggregated; everything else about
the form below is inferred.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig


class SSEA(nn.Module):
    """Encoder pyramid -> static features S at stride 8.

    Each position attends to a few hundred static tokens: average pools of every pyramid level over several grids.
    """

    def __init__(self, config: SDCPCConfig, channels: Sequence[int]) -> None:
        super().__init__()
        width = config.embed_dim
        self.grids = config.pool_grids
        self.levels = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        self.fuse = nn.Sequential(
            nn.Conv2d(width * len(channels), width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
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
        levels = [project(features) for project, features in zip(self.levels, pyramid)]
        x = self.fuse(torch.cat([_resize(level, size) for level in levels], 1))
        if self.query is None:
            return x
        tokens = self.token_norm(self.static_tokens(levels))  # (B, M, D)
        positions = self.position_norm(x.flatten(2).transpose(1, 2))  # (B, N, D)
        # One head, as an axis of its own: without it PyTorch makes the whole (B, N, M) matrix.
        query, key, value = (z[:, None] for z in (self.query(positions), self.key(tokens), self.value(tokens)))
        mixed = F.scaled_dot_product_attention(query, key, value)[:, 0]
        x = x + self.project(mixed).transpose(1, 2).unflatten(2, size)
        return x + self.feed_forward(x)

    def static_tokens(self, levels: Sequence[Tensor]) -> Tensor:
        tokens = []
        level_embeddings, scale_embeddings = (
            embedding.to(levels[0].dtype) for embedding in (self.level_embedding, self.scale_embedding)
        )
        for level, level_embedding in zip(levels, level_embeddings):
            for grid, scale_embedding in zip(self.grids, scale_embeddings):
                pooled = F.adaptive_avg_pool2d(level, grid)
                tokens.append(pooled.flatten(2).transpose(1, 2) + level_embedding + scale_embedding)
        return torch.cat(tokens, 1)


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


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """To `size`: averaged on the way down (the finest level would alias), bilinear on the way up."""
    if tuple(x.shape[2:]) == size:
        return x
    if x.shape[2] > size[0]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
