"""Dense optical flow from a frame to an earlier one, to a fraction of a position; and what lies along it.

A flow is (2, B, h, w) float32, dx and dy in positions: what is at x in the frame is at x + flow in the other one. dx
and dy are planes, not channels, so that a compiler's loops go along the rows of each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network.cross_frame import COARSE
from sdcpc_ros.network.window_attention.tile_geometry import constant

#: Positions in the windows that share one step, and over which the flow is smoothed: `window_sums`.
_WINDOW = 25
#: Added to the squared gradients, of a luminance in 0..1: a contrast of two of 255 grey levels is noise.
_NOISE = (2 / 255) ** 2
#: A contrast of five of 255 grey levels is noise.
_NOISE_CONTRAST = 0.02
#: A position moves by so much a step at most.
_MOST_STEP = 1.5
#: Standard deviation of `standard_luminance`, and what is added to that of a normalised image, which may be flat.
_DEVIATION, _FLAT = 0.25, 0.02
#: From so many channels on, a CPU interpolates rows faster than planes; of one channel planes take a third of the time.
_MANY_CHANNELS = 12
#: Gauss-Newton steps at twice the stride, and at the stride.
_STEPS = (3, 1)


def standard_luminance(image: Tensor, stride: int) -> Tensor:
    """The luminance of images (B, 3, H, W), normalised in any way, averaged to a stride: (B, 1, H/s, W/s) float32.

    It has the mean 0 and the deviation of a usual picture in 0..1, so that exposure, gain and normalisation play no
    part. Sides are rounded up.
    """
    maps = F.avg_pool2d(image.mean(1, keepdim=True).float(), stride, ceil_mode=True, count_include_pad=False)
    maps = maps - maps.mean((2, 3), keepdim=True)
    # Bounded, as the steps are: one bright spot must not outweigh the noise that keeps them finite.
    return (_DEVIATION * maps / (maps.square().mean((2, 3), keepdim=True).sqrt() + _FLAT)).clamp(-1, 1)


def refine_offset(offset: Tensor, frame: Tensor, reference: Tensor) -> Tensor:
    """The flow at each position, from the offsets that stage 1 found for cells of COARSE x COARSE positions.

    offset: (B, 2, h/4, w/4), dy and dx in cells. frame, reference: (B, 1, h, w), luminance as for `refine_flow`.
    """
    flow = _median(offset.float().flip(1).transpose(0, 1))
    halves = [F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False) for maps in (frame, reference)]
    for scale, (now, then), steps in zip((COARSE // 2, 2), (halves, (frame, reference)), _STEPS):
        flow = F.interpolate(scale * flow, now.shape[2:], mode="bilinear", align_corners=False)
        flow = refine_flow(flow, now, then, steps)
    return flow


def refine_flow(flow: Tensor, frame: Tensor, reference: Tensor, steps: int) -> Tensor:
    """A flow, improved by Gauss-Newton steps on the difference of luminance (Lucas and Kanade 1981), each smoothed by
    the texture around. frame, reference: (B, 1, h, w), luminance in 0..1."""
    frame = frame[:, 0]
    gradient = torch.stack((_central_difference(frame, 2), _central_difference(frame, 1)))
    gx, gy = gradient.unbind(0)
    xx, xy, yy = window_sums(torch.stack((gx * gx, gx * gy, gy * gy))).unbind(0)
    texture = xx + yy + _NOISE
    xx, yy = xx + _NOISE * _WINDOW, yy + _NOISE * _WINDOW
    # (2, 2, B, h, w): minus the inverse of the matrix of each window.
    inverse = torch.stack((-yy, xy, xy, -xx)).div(xx * yy - xy * xy).unflatten(0, (2, 2))
    texture_sum = window_sums(texture[None])
    for _ in range(steps):
        slope = window_sums(gradient * (warp(reference, flow)[:, 0] - frame))
        flow = flow + (inverse * slope).sum(1).clamp(-_MOST_STEP, _MOST_STEP)
        flow = window_sums(flow * texture) / texture_sum
    return flow


def warp(maps: Tensor, flow: Tensor) -> Tensor:
    """(B, C, h, w) float32: at each position what `maps` hold where the flow points to, interpolated linearly;
    beyond the border what is at the border."""
    height, width = maps.shape[2:]
    if torch.compiler.is_compiling() or not maps.is_cpu or maps.shape[1] < _MANY_CHANNELS or min(height, width) < 2:
        rest, unit = constant(_normalised_positions, flow, height, width, flow.device)
        grid = torch.addcmul(rest, flow, unit).permute(1, 2, 3, 0)
        return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    # Sums of four rows each, every position a row.
    x, y = constant(_positions, flow, height, width, flow.device).add(flow).unbind(0)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor().clamp(max=width - 2), y.floor().clamp(max=height - 2)
    right, below = x - left, y - top
    first = torch.arange(len(maps), dtype=torch.int32)[:, None, None] * (height * width)
    corner = (first + (top * width + left).int()).flatten()
    places = torch.stack((corner, corner + 1, corner + width, corner + width + 1), 1)
    shares = ((1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    found = F.embedding_bag(places, rows, mode="sum", per_sample_weights=torch.stack(shares, -1).flatten(0, -2))
    return found.view(len(maps), height, width, -1).permute(0, 3, 1, 2)


def nearest_index(flow: Tensor) -> Tensor:
    """(B, h, w) int32: the position y * w + x nearest to where the flow points to, kept within the frame."""
    height, width = flow.shape[2:]
    x, y = constant(_positions, flow, height, width, flow.device).add(flow).round().unbind(0)
    index = y.clamp(0, height - 1).int() * width + x.clamp(0, width - 1).int()
    return index.clamp(0, height * width - 1)  # NaN must not become an address


def inside(flow: Tensor) -> Tensor:
    """(B, 1, h, w) bool: the flow points to a position of the frame, or nearly so, as of a border that rests."""
    height, width = flow.shape[2:]
    x, y = constant(_positions, flow, height, width, flow.device).add(flow).unbind(0)
    return ((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5))[:, None]


def roughness(flow: Tensor) -> Tensor:
    """(B, 1, h, w): how far a position's flow differs from its left and upper neighbours', in positions, averaged
    over a window. Where it jumps, something is hidden or was matched by chance."""
    across, down = (flow.diff(dim=dim).abs().amax(0)[:, None] for dim in (3, 2))
    return window_sums(F.pad(across, (1, 0)) + F.pad(down, (0, 0, 1, 0))) / _WINDOW


def misfit(difference: Tensor, frame: Tensor) -> Tensor:
    """(B, 1, h, w): a difference at the matched place, in multiples of the local contrast of `frame`. Beside an edge a
    motion that is wrong by a position explains a difference of one.

    frame: luminance; difference: absolute, in its units; (B, 1, h, w) each.
    """
    across = F.pad((frame[..., 2:] - frame[..., :-2]).abs(), (1, 1))
    along = F.pad((frame[..., 2:, :] - frame[..., :-2, :]).abs(), (0, 0, 1, 1))
    return difference / ((across + along) / 4 + _NOISE_CONTRAST)


def _median(maps: Tensor) -> Tensor:
    """Of the 3 x 3 positions around each, edges repeated: single cells that were matched by chance do not count."""
    maps = torch.cat((maps[..., :1], maps, maps[..., -1:]), -1)
    maps = torch.cat((maps[..., :1, :], maps, maps[..., -1:, :]), -2)
    height, width = maps.shape[2] - 2, maps.shape[3] - 2
    around = [maps[..., top : top + height, left : left + width] for top in range(3) for left in range(3)]
    return torch.stack(around).topk(5, 0).values[-1]


def _positions(height: int, width: int, device: torch.device) -> Tensor:
    """(2, 1, h, w): x and y of each position."""
    # On the device from the start: nothing can be copied to it while a CUDA graph is captured.
    y, x = (torch.arange(length, device=device, dtype=torch.float32) for length in (height, width))
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)))[:, None]


def _normalised_positions(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(2, 1, h, w) and (2, 1, 1, 1): each position, and one position, in the coordinates of `grid_sample`, -1..1."""
    sides = [torch.full((), 2 / length, device=device) for length in (width, height)]
    unit = torch.stack(sides)[:, None, None, None]
    return (_positions(height, width, device) + 0.5) * unit - 1, unit


def _central_difference(maps: Tensor, dim: int) -> Tensor:
    """Half the difference of both neighbours, zero at the border: (B, h, w)."""
    size = maps.shape[dim]
    difference = (maps.narrow(dim, 2, size - 2) - maps.narrow(dim, 0, size - 2)) / 2
    return F.pad(difference, (1, 1) if dim == 2 else (0, 0, 1, 1))


def window_sums(maps: Tensor) -> Tensor:
    """Sums over the 5 x 5 positions around each, zero beyond the border: (B, C, h, w)."""
    # Sums of shifted maps, two pairs and one along each axis: 20 times as fast on a CPU as avg_pool2d.
    for dim, padding in ((2, (0, 0, 2, 2)), (3, (2, 2))):
        size, padded = maps.shape[dim], F.pad(maps, padding)
        pairs = padded.narrow(dim, 0, size + 3) + padded.narrow(dim, 1, size + 3)
        maps = pairs.narrow(dim, 0, size) + pairs.narrow(dim, 2, size) + padded.narrow(dim, 4, size)
    return maps


def window_counts(maps: Tensor) -> Tensor:
    """(1, 1, h, w): how many of the 5 x 5 positions around each lie inside the maps (B, C, h, w)."""
    return constant(_window_counts, maps, *maps.shape[2:], maps.device)


def _window_counts(height: int, width: int, device: torch.device) -> Tensor:
    return window_sums(torch.ones(1, 1, height, width, device=device))
