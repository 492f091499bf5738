"""Descriptors of image patches: what frames are matched by where the segmenter gives no features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Channels of a descriptor: 16 luminances, two of colour, the mean luminance, and a constant.
PATCH_CHANNELS = 20
_COLOUR = 2.0
_MEAN = 0.5
#: Contrasts (standard deviation of a patch, in units of 0..255) well below this are noise: such patches look alike.
_CONSTANT = 6.0


def patch_features(
    image: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    """Descriptors of the patches around each position at strides 8 and 32.

    image: (B, 3, H, W), normalised by mean and std, RGB in units of 0..255. Returns (B, PATCH_CHANNELS, h, w) and
    (B, PATCH_CHANNELS, h/4, w/4), sides rounded up. A descriptor holds 4 x 4 luminances relative to their mean, at half
    the stride, with the neighbourhood's colour.
    """
    quarter = _averaged(image, 4)
    quarter = torch.cat([quarter[:, c : c + 1] * std[c] + mean[c] for c in range(3)], 1)
    return _descriptors(quarter), _descriptors(_averaged(quarter, 4))


def _descriptors(image: Tensor) -> Tensor:
    """(B, 3, h, w) in units of 0..255 -> (B, PATCH_CHANNELS, h/2, w/2), rounded up."""
    height, width = -(-image.shape[2] // 2), -(-image.shape[3] // 2)
    luminance = image.mean(1, keepdim=True)
    colour = _averaged(torch.cat((image[:, :1] - luminance, image[:, 2:] - luminance), 1), 2)
    padded = F.pad(luminance, (1, 1 + 2 * width - image.shape[3], 1, 1 + 2 * height - image.shape[2]), mode="replicate")
    rows, columns = 2 * height - 1, 2 * width - 1
    patch = torch.cat([padded[:, :, y : y + rows : 2, x : x + columns : 2] for y in range(4) for x in range(4)], 1)
    mean = patch.mean(1, keepdim=True)
    constant = torch.full_like(mean, _CONSTANT)
    return torch.cat(((patch - mean) / 4, _COLOUR * colour, _MEAN * (mean - 128), constant), 1)


def _averaged(x: Tensor, stride: int) -> Tensor:
    """Cells cut by the border average what lies inside."""
    return F.avg_pool2d(x, stride, ceil_mode=True, count_include_pad=False)
