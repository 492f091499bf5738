"""DSSA without weights: temporal aggregation for a segmenter that was not trained for it.

As in `DSSA`, stage 1 finds at stride 16 where a cell was, and stage 2 looks around that place at stride 4: here for its
motion to a fraction of a position. Trusted references vote. Queries and keys of stage 1 are image patches of unit norm.
Trust is a fixed function of how well the matched place fits, how smooth and how fast the motion around it is, and the
reference's age. docs/design_notes.md says what the constants were chosen on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import Colour
from sdcpc_ros.network.cross_frame import FrameMemory, at_least_float32, attend_each_reference, ramp
from sdcpc_ros.network.optical_flow import inside, misfit, refine_offset, roughness, warp

#: Stride of the fine part of a memory, px.
STRIDE = 4
#: Channels of a frame's colour in its memory, 0..1.
COLOURS = 3
#: A class that is this far below the best one plays no part: logits are kept above it.
_LEAST = -16.0
#: Scale of the cosines in the attention of stage 1, and weight of its relative position bias.
_SCALE, _POSITION_WEIGHT = 30.0, 1.0
#: The vote's largest weight, and how fast it grows with the doubt 1 - p of the frame's best class.
_MOST, _DOUBT = 0.93, 8.0
#: Trust falls by e in so many seconds, where motion differs by so many positions from its neighbours', and for a motion
#: of so many positions.
_AGE_S, _ROUGHNESS, _SPEED = 1.0, 1.0, 16.0
#: No trust where colours differ by so many times the local contrast.
_MISFIT = 1.5
#: Mean difference of colours at which trust in the whole frame begins and ends to fall: after a cut single positions
#: fit by chance.
_CUT = (0.04, 0.07)
#: Share of the surrounding 5 x 5 positions with a position's class from which the vote counts there, and counts fully:
#: a vote erases what is thinner.
_SUPPORT = (0.1, 0.3)

#: Channels of a descriptor: 16 luminances, two of colour, the mean luminance, and a constant.
PATCH_CHANNELS = 20
#: Weights of its colour and of its mean luminance.
_COLOUR_WEIGHT, _MEAN_WEIGHT = 2.0, 0.5
#: Contrasts (standard deviation of a patch, in units of 0..255) well below this are noise: such patches look alike.
_CONSTANT = 6.0


class ParameterFreeDSSA(nn.Module):
    """The memories of a frame and of its references -> the frame's memory with other logits.

    Without any reference, or where none is trusted, they are the frame's own.
    """

    def __init__(self, *, coarse_radius: int, persistence: float) -> None:
        """coarse_radius: reach of the window at stride 16, cells. persistence: added to the vote's best class where it
        is trusted."""
        super().__init__()
        self.coarse_radius, self.persistence = coarse_radius, persistence

    def forward(self, gate: Tensor, memory: FrameMemory, references: FrameMemory, age_s: Tensor) -> FrameMemory:
        """The memory with the logits that the frame gets.

        gate: (B, 1, h, w), see `update_gate`; and memory: of this frame. references: the memories of K frames,
        (B, K, ...) each. age_s: (B, K) float, how much older than this frame each is, seconds; negative where missing.
        """
        past, trust = self._warp_references(memory, references, age_s)
        total = trust.sum(1, keepdim=True)
        vote = past[:, 0] if past.shape[1] == 1 else (past * trust[:, :, None]).sum(1) / total.clamp_min(1e-6)
        # Trusted references count by how far they are trusted, so that a poor one does not spoil a good one.
        weight = trust.square().sum(1, keepdim=True) / total.clamp_min(1e-6) * gate
        # The colours too, which are then put back: rows of one length are quicker than two parts put together.
        fine = torch.lerp(memory.fine, vote, _MOST * weight)
        if self.persistence:
            best = vote[:, COLOURS:] >= vote[:, COLOURS:].amax(1, keepdim=True)
            fine[:, COLOURS:] += self.persistence * weight * best
        fine[:, :COLOURS] = memory.fine[:, :COLOURS]
        return FrameMemory(fine, memory.coarse)

    def _warp_references(self, memory: FrameMemory, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, Tensor]:
        """The references' colours and logits at the places of this frame, (B, K, 3 + C, h, w), and the trust in them,
        (B, K, h, w) in 0..1."""
        fine = at_least_float32(references.fine).flatten(0, 1)
        colours = memory.fine[:, None, :COLOURS].expand(-1, age_s.shape[1], -1, -1, -1).flatten(0, 1).contiguous()
        luminance, earlier = (maps.mean(1, keepdim=True) for maps in (colours, fine[:, :COLOURS].contiguous()))
        flow = self._flow(memory.coarse, references.coarse, age_s >= 0, luminance, earlier)
        found = warp(fine, flow)
        difference = (found[:, :COLOURS].contiguous() - colours).abs().mean(1, keepdim=True)
        trust = (1 - misfit(difference, luminance) / _MISFIT).clamp_min(0) * inside(flow)
        speed = flow.square().sum(0)[:, None].sqrt()
        trust = trust * (-roughness(flow) / _ROUGHNESS - speed / _SPEED).exp()
        whole = (1 - ramp(difference.mean((1, 2, 3)), _CUT)).view(age_s.shape)
        whole = whole * (-age_s / _AGE_S).exp() * (age_s >= 0)
        trust = trust.view(*age_s.shape, *trust.shape[2:]) * whole[:, :, None, None]
        return found.unflatten(0, tuple(age_s.shape)), trust

    def _flow(self, patches: Tensor, earlier: Tensor, valid: Tensor, frame: Tensor, reference: Tensor) -> Tensor:
        """The optical flow from the frame to each reference, (2, B * K, h, w). patches: (B, G, h/4, w/4); earlier:
        those of the references, (B, K, G, h/4, w/4). valid: (B, K). frame, reference: (B * K, 1, h, w), luminance in
        0..1."""
        found = attend_each_reference(
            patches * _SCALE,
            earlier,
            valid,
            radius=self.coarse_radius,
            position_weight=patches.new_full((), _POSITION_WEIGHT),
            values=None,
        )
        assert found.argmax_offset is not None
        return refine_offset(found.argmax_offset.flatten(0, 1), frame, reference)


def memory_of(colours: Tensor, logits: Tensor, patches: Tensor) -> FrameMemory:
    """What a frame leaves for later ones. Unlike DSSA's memory, it holds colours and logits.

    colours: (B, 3, h, w) in 0..1 and logits: (B, C, h, w), both at stride 4; patches: (B, G, h/4, w/4) of unit norm.
    """
    fine = torch.cat((colours, logits), 1)
    return FrameMemory(*(part.contiguous(memory_format=torch.channels_last) for part in (fine, patches)))


def relative(logits: Tensor) -> Tensor:
    """Logits (B, C, h, w) less that of the best class: not normalised, which costs more and changes no decision. A
    foreign model's NaN or infinity must not stay in the memory: the result is finite."""
    return (logits - logits.amax(1, keepdim=True)).nan_to_num_(0.0).clamp_min_(_LEAST)


def update_gate(logits: Tensor) -> Tensor:
    """How far a vote may change each position, (B, 1, h, w) in 0..1: not where the frame is sure, nor where few of the
    surrounding 5 x 5 positions have the same best class. logits: as of `relative`."""
    doubt = (_DOUBT * (1 - 1 / logits.exp().sum(1, keepdim=True))).clamp(max=1)
    number = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype).view(-1, 1, 1)
    # The number of the class whose logit is 0: a third of the time of comparisons.
    best = torch.add(number, logits, alpha=1e30).amax(1, keepdim=True)
    # In bytes where there is no compiler, which would not need it: several times as fast on a CPU, unknown to ONNX.
    best = best if torch.compiler.is_compiling() else best.to(torch.uint8)
    height, width = best.shape[2:]
    around = F.pad(best, (2, 2, 2, 2), value=255)
    shifted = [around[..., top : top + height, left : left + width] for top in range(5) for left in range(5)]
    same = (torch.cat(shifted, 1) == best).sum(1, keepdim=True, dtype=best.dtype)
    return doubt * ramp(same.float() / 25, _SUPPORT)


def averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, H', W') averaged to `size`; interpolated where they are coarser."""
    if maps.shape[2:] == size:
        return maps
    if maps.shape[2] < size[0]:
        return F.interpolate(maps, size, mode="bilinear", align_corners=False)
    factor = -(-maps.shape[2] // size[0])
    if all(-(-length // factor) == side for length, side in zip(maps.shape[2:], size)):
        return F.avg_pool2d(maps, factor, ceil_mode=True, count_include_pad=False)
    return F.adaptive_avg_pool2d(maps, size)


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

    def __init__(self, mean: Colour, std: Colour) -> None:
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
        weight[row] = _COLOUR_WEIGHT * middle * difference.view(3, 1, 1)
        bias[row] = _COLOUR_WEIGHT * (means[channel] - means.mean())
    weight[18] = _MEAN_WEIGHT / 16 * luminance.view(3, 1, 1)
    bias[18] = _MEAN_WEIGHT * (means.mean() - 128)
    bias[19] = _CONSTANT
    return weight, bias
