"""Augmentation of image batches as PyTorch operations, on the device of the images.

Every function takes (N, 3, h, w) float images in 0..255 and returns the same. Random parameters come from outside
(`clip_plan`), so that a sample is a function of its seed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.labels.label_set import IGNORE

#: Luminance quantisation of the JPEG standard (ITU-T T.81, table K.1), at quality 50.
_JPEG_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_BLUR_RADIUS = 6


def warp(images: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, 3, H, W) uint8 seen through affine maps, (N, 3, h, w) float32.

    matrices: (N, 2, 3), from output to input, in the normalised coordinates of `torch.nn.functional.affine_grid`.
    Pixels outside are mirrored.
    """
    return F.grid_sample(
        images.float(), _grid(matrices, size), mode="bilinear", padding_mode="reflection", align_corners=False
    )


def warp_labels(labels: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (N, H, W) uint8 through the same maps, nearest, (N, h, w) int64; pixels outside are IGNORE."""
    grid = _grid(matrices, size)
    # One more than the class, since pixels outside are sampled as 0, which must not be class 0.
    sampled = F.grid_sample((labels.float() + 1)[:, None], grid, mode="nearest", align_corners=False)[:, 0].long() - 1
    return torch.where(sampled < 0, IGNORE, sampled)


def colour(
    images: Tensor, gamma: Tensor, contrast: Tensor, brightness: Tensor, saturation: Tensor, cast: Tensor
) -> Tensor:
    """Gamma, contrast (above 0), brightness (of 0..1), saturation, (N,) each, and a colour cast (N, 3)."""
    gamma, contrast, brightness, saturation = (x.view(-1, 1, 1, 1) for x in (gamma, contrast, brightness, saturation))
    # The power as logarithm and exponential, the rest as the sum of two maps: less than half the time on a CPU.
    x = (images.clamp(1e-4, 255) / 255).log_().mul_(gamma).exp_()
    grey = x.mean(1, keepdim=True).mul_(1 - saturation).add_((brightness + 0.5) / contrast - 0.5)
    x = x.mul_(saturation).add_(grey)
    return x.mul_(255 * contrast * cast[:, :, None, None]).clamp_(0, 255)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """A Gaussian blur of sigma px, (N,), each image with its own; 0 for none. Images of at least 7 px a side."""
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma.view(-1, 1).clamp_min(1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(images.shape[1], 0)[:, None]  # (N * 3, 1, taps)
    count, channels = images.shape[:2]
    x = F.pad(images, [_BLUR_RADIUS] * 4, mode="reflect").flatten(0, 1)[None]
    x = F.conv2d(x, kernel[:, :, None], groups=count * channels)
    return F.conv2d(x, kernel[..., None], groups=count * channels).view(images.shape)


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """JPEG's loss at a quality (N,) of 1..100: blocks of the discrete cosine transform, quantised; colour at half the
    resolution. Without the entropy coding, which loses nothing."""
    height, width = images.shape[2:]
    x = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate") - 128
    to_ycc = x.new_tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    ycc = torch.einsum("yc,nchw->nyhw", to_ycc, x)
    scale = torch.where(quality < 50, 50 / quality.clamp_min(1), 2 - quality / 50)
    luma = _quantised(ycc[:, :1], scale)
    chroma = _quantised(F.avg_pool2d(ycc[:, 1:], 2), 1.2 * scale)
    ycc = torch.cat((luma, F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)), 1)
    rgb = torch.einsum("cy,nyhw->nchw", torch.linalg.inv(to_ycc), ycc) + 128
    return rgb[:, :, :height, :width].clamp(0, 255)


def shadow(images: Tensor, line: Tensor, strength: Tensor) -> Tensor:
    """Darkens one side of a line. line: (N, 3), a x + b y + c over -1..1; strength: (N,), 0 for none, 1 for black."""
    x, y = _coordinates(images)
    side = (line[:, 0, None, None] * x + line[:, 1, None, None] * y + line[:, 2, None, None]) * 20
    return images * (1 - strength.view(-1, 1, 1, 1) * side.sigmoid()[:, None])


def haze(images: Tensor, density: Tensor, brightness: Tensor) -> Tensor:
    """Fog that is densest at the horizon. density: (N,) 0..1 there; brightness: (N,) of the fog, 0..255."""
    _, y = _coordinates(images)
    amount = density.view(-1, 1, 1) * torch.exp(-2 * (y + 0.1) ** 2)
    amount = amount[:, None]
    return images * (1 - amount) + brightness.view(-1, 1, 1, 1) * amount


def damage(images: Tensor, boxes: Tensor, kinds: Tensor, noise: Tensor) -> Tensor:
    """Rectangles that are blurred (kind 0), noisy (1), washed out (2) or hidden (3), as by glare, drops or a wiper.

    boxes: (N, R, 4), left, top, right, bottom in -1..1, empty ones without area. kinds: (N, R) int. noise: (N, 3, h, w)
    of unit variance. Only where earlier frames know more than the newest one is there anything for aggregation to gain.
    """
    x, y = _coordinates(images)
    blurred = blur(images, images.new_full((len(images),), 4.0))
    washed = images * 0.25 + 125
    hidden = images.mean((2, 3), keepdim=True).expand_as(images)
    choices = torch.stack((blurred, (images + 40 * noise).clamp(0, 255), washed, hidden), 1)
    for index in range(boxes.shape[1]):
        left, top, right, bottom = boxes[:, index, :, None, None].unbind(1)
        inside = ((x >= left) & (x < right) & (y >= top) & (y < bottom))[:, None]
        chosen = choices[torch.arange(len(images), device=images.device), kinds[:, index]]
        images = torch.where(inside, chosen, images)
    return images


def _grid(matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """As `torch.nn.functional.affine_grid`, (N, h, w, 2) of matrices (N, 2, 3); several times as fast on a CPU."""
    y, x = ((torch.arange(n, device=matrices.device) * 2 + 1) / n - 1 for n in size)
    along_x, along_y, shift = matrices[:, None, None].unbind(-1)  # (N, 1, 1, 2) each
    return along_x * x[:, None] + (along_y * y[:, None, None] + shift)


def _coordinates(images: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of each pixel in -1..1, (1, 1, w) and (1, h, 1)."""
    height, width = images.shape[2:]
    x = torch.linspace(-1, 1, width, device=images.device).view(1, 1, -1)
    y = torch.linspace(-1, 1, height, device=images.device).view(1, -1, 1)
    return x, y


def _quantised(x: Tensor, scale: Tensor) -> Tensor:
    """(N, C, H, W), sides multiples of 8, through the quantised cosine transform of its blocks."""
    k = torch.arange(8, device=x.device, dtype=x.dtype)
    basis = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / 16) * 0.5
    basis[0] *= math.sqrt(0.5)
    table = (x.new_tensor(_JPEG_TABLE).view(8, 8) * scale.view(-1, 1, 1, 1, 1)).clamp_min(1)
    count, channels, height, width = x.shape
    rows = x.reshape(count, channels, height // 8, 8, width)
    coefficients = (basis @ rows).unflatten(-1, (-1, 8)) @ basis.T  # (N, C, H/8, 8, W/8, 8)
    table = table[..., None, :]
    coefficients = (coefficients / table).round_().mul_(table)
    return (basis.T @ (coefficients @ basis).flatten(-2)).view(x.shape)
