"""Optical flow to a fraction of a position, and warping along it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network.cross_frame import COARSE
from sdcpc_ros.network.optical_flow import (
    inside,
    nearest_index,
    refine_flow,
    refine_offset,
    roughness,
    standard_luminance,
    warp,
)

H, W = 24, 36


def _scene(seed: int = 0) -> Tensor:
    """(1, 1, H + 16, W + 16), luminance: smooth at the scale of a few positions."""
    noise = torch.rand(1, 1, H // 4 + 4, W // 4 + 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (H + 16, W + 16), mode="bicubic", align_corners=False).clamp(0, 1)


def _seen_from(scene: Tensor, x: float, y: float) -> Tensor:
    """The scene from a place x and y further to the right and down."""
    shift = torch.tensor([x, y]).view(2, 1, 1, 1).expand(2, 1, H + 16, W + 16)
    return warp(scene, shift)[..., 8 : 8 + H, 8 : 8 + W]


@pytest.mark.parametrize(("x", "y"), [(0.3, -0.4), (1.5, 0.0), (-1.2, 0.7)])
def test_a_shift_of_fractions_is_found(x: float, y: float) -> None:
    scene = _scene()
    # What is at p in the frame is at p - (x, y) in a view from further right and down.
    found = refine_flow(torch.zeros(2, 1, H, W), _seen_from(scene, 0, 0), _seen_from(scene, x, y), 8)
    error = (found + torch.tensor([x, y]).view(2, 1, 1, 1))[..., 4:-4, 4:-4].abs()
    assert error.mean() < 0.1


def test_a_flat_picture_does_not_move() -> None:
    flat = torch.full((1, 1, H, W), 0.5)
    flow = torch.full((2, 1, H, W), 1.5)
    assert torch.allclose(refine_flow(flow, flat, flat, 3), flow, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (4.4, -3.3), (-1.7, 5.0)])
def test_offsets_of_cells_become_the_motion_of_positions(x: float, y: float) -> None:
    """One cell was matched by chance, far away."""
    scene = _scene()
    offset = torch.tensor([-y, -x]).div(COARSE).round().view(1, 2, 1, 1).repeat(1, 1, H // COARSE, W // COARSE)
    offset[:, :, 3, 4] = 4
    flow = refine_offset(offset, _seen_from(scene, 0, 0), _seen_from(scene, x, y))
    assert flow.shape == (2, 1, H, W)
    assert (flow + torch.tensor([x, y]).view(2, 1, 1, 1))[..., 8:-8, 8:-8].abs().mean() < 0.25


def test_the_nearest_position_lies_within_the_frame() -> None:
    flow = torch.zeros(2, 1, 4, 5)
    flow[:, 0, 1, 1] = torch.tensor([1.4, -0.6])  # to x 2.4, y 0.4
    flow[:, 0, 0, 0] = torch.tensor([-3.0, -0.2])
    flow[:, 0, 3, 4] = torch.tensor([1e30, float("nan")])
    expected = torch.arange(20).view(4, 5)
    expected[1, 1], expected[0, 0] = 2, 0
    found = nearest_index(flow)[0]
    assert found.dtype == torch.int32 and ((found >= 0) & (found < 20)).all()
    assert torch.equal(found.flatten()[:-1].long(), expected.flatten()[:-1])


def test_a_standard_luminance_knows_no_exposure() -> None:
    image = torch.rand(2, 3, 33, 50, generator=torch.Generator().manual_seed(0))
    found = standard_luminance(image, 4)
    assert found.shape == (2, 1, 9, 13)
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard_luminance(image + 3, 4), found, atol=1e-4, rtol=0)
    brighter = standard_luminance(1.5 * image - 0.5, 4)
    assert (brighter - found).abs().max() < 0.1 * found.abs().max()  # contrast counts only where there is little
    assert not standard_luminance(torch.full((1, 3, 32, 32), 0.7), 4).abs().gt(1e-4).any()


@pytest.mark.parametrize("channels", [1, 5])
def test_maps_are_interpolated_as_by_grid_sample(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps, flow = torch.randn(3, channels, 7, 9, generator=generator), 6 * torch.randn(2, 3, 7, 9, generator=generator)
    y, x = torch.meshgrid(torch.arange(7), torch.arange(9), indexing="ij")
    x, y = x + flow[0], y + flow[1]
    grid = torch.stack((x * 2 / 8 - 1, y * 2 / 6 - 1), -1)
    expected = F.grid_sample(maps, grid, padding_mode="border", align_corners=True)
    assert torch.allclose(warp(maps, flow), expected, atol=1e-5)
    program = torch.export.export(_Warp(), (maps, flow)).module()
    assert torch.allclose(program(maps, flow), expected, atol=1e-4)
    within = (x >= -0.5) & (x <= 8.5) & (y >= -0.5) & (y <= 6.5)
    assert torch.equal(inside(flow), within[:, None])


class _Warp(torch.nn.Module):
    def forward(self, maps: Tensor, flow: Tensor) -> Tensor:
        return warp(maps, flow)


def test_flow_is_rough_where_it_jumps() -> None:
    flow = torch.zeros(2, 1, H, W)
    flow[0, :, :, W // 2 :] = 3.0
    found = roughness(flow)[0, 0, 3:-3]
    assert found[:, W // 2].min() == pytest.approx(3 / 5)
    assert found[:, : W // 2 - 3].max() == 0 == found[:, W // 2 + 3 :].max()
