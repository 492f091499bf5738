"""Descriptors of image patches: what frames of a foreign segmenter are matched by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels of a descriptor: 16 luminances, two of colour, the mean luminance, and a constant.
PATCH_CHANNELS = 20
_COLOUR = 2.0
_MEAN = 0.5
#: Contrasts (standard deviation of a patch, in units of 0..255) well below this are noise: such patches look alike.
_CONSTANT = 6.0


class PatchFeatures(nn.Module):
    """The image at stride 4, and descriptors of the patches around each position at stride 16.

    A descriptor holds 4 x 4 luminances relative to their mean, at half the stride, with the neighbourhood's colour. It
    is a linear function of these pixels: one convolution.
    """

    weight: Tensor
    bias: Tensor
    average: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        """mean, std: that images are normalised with, RGB in units of 0..255."""
        super().__init__()
        # With memory even where a network is made without, to be given its weights: these are in no checkpoint.
        with torch.device("cpu"):
            means, stds = torch.tensor(mean), torch.tensor(std)
            weight, bias = _filters(means, stds)
            average = torch.full((3, 1, 4, 4), 1 / 16)
        # Then the descriptors are channels-last, as memories are.
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("average", average, persistent=False)
        self.register_buffer("mean", means.view(3, 1, 1), persistent=False)
        self.register_buffer("std", stds.view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: (B, 3, H, W), normalised. Returns its colours, (B, 3, h, w) in 0..1, and the descriptors, (B,
        PATCH_CHANNELS, h/4, w/4), sides rounded up."""
        quarter = self._quarter(image)
        half = F.avg_pool2d(quarter, 2, ceil_mode=True, count_include_pad=False)
        return (quarter * self.std + self.mean) / 255, self._descriptors(half)

    def _quarter(self, image: Tensor) -> Tensor:
        """Averaged to a quarter of its size; cells cut by the border average what lies inside."""
        if image.shape[2] % 4 or image.shape[3] % 4:
            return F.avg_pool2d(image, 4, ceil_mode=True, count_include_pad=False)
        return F.conv2d(image, self.average, stride=4, groups=3)  # several times as fast on a CPU

    def _descriptors(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, PATCH_CHANNELS, h/2, w/2), rounded up."""
        right, bottom = 1 + image.shape[3] % 2, 1 + image.shape[2] % 2
        padded = F.pad(image, (1, right, 1, bottom), mode="replicate")
        return F.conv2d(padded, self.weight, self.bias, stride=2)


def _filters(means: Tensor, stds: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (PATCH_CHANNELS, 3, 4, 4) and bias of the convolution. means, stds: (3,), as of `PatchFeatures`."""
    luminance = stds / 3  # of each channel, in units of 0..255
    middle = torch.zeros(4, 4)
    middle[1:3, 1:3] = 1 / 4
    weight, bias = torch.zeros(PATCH_CHANNELS, 3, 4, 4), torch.zeros(PATCH_CHANNELS)
    weight[:16] = (torch.eye(16) - 1 / 16).view(16, 1, 4, 4) / 4 * luminance.view(3, 1, 1)
    for row, channel in ((16, 0), (17, 2)):  # red and blue less the luminance
        difference = stds * (torch.arange(3) == channel) - luminance
        weight[row] = _COLOUR * middle * difference.view(3, 1, 1)
        bias[row] = _COLOUR * (means[channel] - means.mean())
    weight[18] = _MEAN / 16 * luminance.view(3, 1, 1)
    bias[18] = _MEAN * (means.mean() - 128)
    bias[19] = _CONSTANT
    return weight, bias
