"""Rows of maps by index: (B, K, C, h, w) as rows of C numbers, which is one copy where they lie channels-last."""

from __future__ import annotations

import torch
from torch import Tensor


def as_rows(maps: Tensor) -> Tensor:
    """(B, K, C, h, w) -> (B * K * h * w, C): a view where the maps lie channels-last."""
    return maps.permute(0, 1, 3, 4, 2).flatten(0, 3)


def moved(maps: Tensor, source: Tensor) -> Tensor:
    """Maps (B, K, C, h, w) with, at each position, the row of C numbers of their position source (B, K, h, w)."""
    return selected(as_rows(maps), rows_of_maps(source)).permute(0, 1, 4, 2, 3)


def rows_of_maps(source: Tensor) -> Tensor:
    """Positions (B, K, h, w) within their maps, counted through all maps instead; int32, which gathers faster."""
    batch, references, height, width = source.shape
    maps = torch.arange(batch * references, dtype=torch.int32, device=source.device)
    return source.int() + (maps * (height * width)).view(batch, references, 1, 1)


def selected(rows: Tensor, index: Tensor) -> Tensor:
    """Of (N, ...) rows those that `index` names, (*index, ...)."""
    return rows.index_select(0, index.flatten()).view(*index.shape, *rows.shape[1:])
