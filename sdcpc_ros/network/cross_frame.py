"""What every temporal path shares: a frame's memory, and two-stage matching between frames."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network.window_attention import WindowAttention, window_attention

#: Stage 1 works on cells of COARSE x COARSE positions of stage 2.
COARSE = 4


class FrameMemory(NamedTuple):
    """What one frame leaves for later frames; with a reference axis K after B when it holds several frames.

    The first channels are unit-norm features, which serve as keys and as values; C class probabilities follow, then
    luminance in the fine part. The path without weights keeps other things, see `memory_of`.
    """

    fine: Tensor  #: (B, F + C + 1, h, w)
    coarse: Tensor  #: (B, G + C, h/COARSE, w/COARSE), rounded up


def memory_sizes(size: tuple[int, int], stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (h, w) of both parts of the memory of a frame of `size` (height, width), px; stride: of the fine part."""
    fine = (-(-size[0] // stride), -(-size[1] // stride))
    return fine, (-(-fine[0] // COARSE), -(-fine[1] // COARSE))


def attend_each_reference(
    query: Tensor,
    references: Tensor,
    valid: Tensor,
    *,
    values: Tensor | None,
    radius: int,
    position_weight: Tensor,
    gather_index: Tensor | None = None,
) -> WindowAttention:
    """Window attention from a frame to each of K references, by itself: B * K maps.

    query: (B, F, h, w), scaled. references: (B, K, F + ., h, w), whose first F channels are the keys. values:
    (B, K, Dv, h, w). valid: (B, K) bool. values, position_weight, gather_index: as in `window_attention`, gather_index
    (B, K, h, w). Returns (B, K, Dv, h, w) where there are values, and argmax_offset (B, K, 2, h, w) where there is no
    gather_index.
    """
    found = window_attention(
        query.to(references.dtype)[:, None].expand(-1, valid.shape[1], -1, -1, -1).flatten(0, 1),
        references.flatten(0, 1)[:, : query.shape[1]],
        None if values is None else values.flatten(0, 1),
        radius=radius,
        valid=valid.flatten(),
        scale=1.0,
        position_weight=position_weight,
        gather_index=None if gather_index is None else gather_index.flatten(0, 1),
        with_offset=gather_index is None,
    )
    return WindowAttention(*(None if part is None else part.unflatten(0, tuple(valid.shape)) for part in found))


def concat_channels_last(*maps: Tensor) -> Tensor:
    """(B, ., h, w) each, concatenated along the channels, channels-last in memory whatever the maps are."""
    return torch.cat([part.permute(0, 2, 3, 1) for part in maps], -1).permute(0, 3, 1, 2)


def at_least_float32(x: Tensor) -> Tensor:
    """As float32, or as it is where that is wider: float16 has no 1e-8, and bfloat16 loses 1e-4 beside a half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def to_coarse(x: Tensor) -> Tensor:
    """From the stride of stage 2 to that of stage 1; cells cut by the border average what lies inside."""
    return F.avg_pool2d(x, COARSE, ceil_mode=True, count_include_pad=False)


def to_fine(x: Tensor, size: tuple[int, int]) -> Tensor:
    """From the stride of stage 1 to that of stage 2: (B, K, h/4, w/4) repeated to (B, K, h, w) of `size`."""
    return F.interpolate(x, scale_factor=COARSE, mode="nearest")[:, :, : size[0], : size[1]]


def motion_smoothness(offset: Tensor) -> Tensor:
    """(B, K, 2, h, w) -> (B, K, h, w): the share of the eight neighbours whose offset differs by a cell at most."""
    flat = offset.flatten(0, 2)[:, None]  # (B * K * 2, 1, h, w)
    # Edges repeated by concatenation: padding with "replicate" becomes an indexing that TensorRT leaves to PyTorch.
    padded = torch.cat((flat[..., :1], flat, flat[..., -1:]), -1)
    padded = torch.cat((padded[..., :1, :], padded, padded[..., -1:, :]), -2)
    around = padded.unfold(2, 3, 1).unfold(3, 3, 1)  # (B * K * 2, 1, h, w, 3, 3), a view
    differs = (around - flat[..., None, None]).abs().unflatten(0, (-1, 2)).amax(1) > 1  # (B * K, 1, h, w, 3, 3)
    return 1 - (differs.sum((1, 4, 5)) / 8).to(offset.dtype).unflatten(0, tuple(offset.shape[:2]))


def ramp(x: Tensor, ends: tuple[float, float] | Tensor) -> Tensor:
    """0 up to the first of the two ends, 1 from the second on, linear between."""
    return ((x - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)
