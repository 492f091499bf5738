"""A single-frame segmenter with a temporal path that needs no training: what its kinds have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import NetworkFields
from sdcpc_ros.network.cross_frame import FrameMemory, at_least_float32, memory_sizes
from sdcpc_ros.network.image_patches import PATCH_CHANNELS, PatchFeatures
from sdcpc_ros.network.weightless import FEATURES, PATCHES, STRIDE, ParameterFreeDSSA, averaged, standardised

#: What frames are matched by.
MATCHINGS = ("patches", "features")

_Colour = tuple[float, float, float]


@dataclass(frozen=True)
class SteadiedConfig(NetworkFields):
    """What decides how a foreign segmenter is made steady. Raises ValueError naming the field and what is allowed."""

    #: Number of classes, 1..255.
    num_classes: int
    #: Off: every frame is segmented by itself.
    temporal: bool = True
    #: How many frames back the references lie.
    reference_offsets: tuple[int, ...] = (1, 2)
    #: Reach of the window at stride 32, in cells.
    coarse_radius: int = 4
    #: Reach of the window at stride 8 around the coarse offset, in cells.
    fine_radius: int = 1
    #: One of MATCHINGS: image patches, or the segmenter's own features where it gives any.
    matching: str = "patches"

    def __post_init__(self) -> None:
        self._require_int("num_classes", 1, 255)
        self._require_increasing("reference_offsets")
        for field in ("coarse_radius", "fine_radius"):
            self._require_int(field, 0, 8)
        self._require("temporal", isinstance(self.temporal, bool), "true or false")
        self._require("matching", self.matching in MATCHINGS, f"one of {', '.join(MATCHINGS)}")

    @property
    def recurrent(self) -> bool:
        """A frame leaves the classes that it was given with its references; see `SDCPCConfig.recurrent`."""
        return True


class SteadiedFrame(NamedTuple):
    """One frame, segmented by itself."""

    logits: Tensor  #: (B, C, H', W'), at the segmenter's own stride
    peak: Tensor  #: (B, 1, h, w), the probability of the best class, averaged over each cell at stride 8
    memory: FrameMemory  #: with the classes of the frame by itself


class SteadiedNetwork(nn.Module):
    """The streaming form of a segmenter that gives logits for one frame: the interface of `SDCPC` towards a stream."""

    #: Whether compilers take the network whole.
    compiles = True

    def __init__(self, config: SteadiedConfig, mean: _Colour, std: _Colour) -> None:
        """mean, std: that images are normalised with, RGB in units of 0..255."""
        super().__init__()
        self.config = config
        self.mean, self.std = mean, std
        self.patches = PatchFeatures(mean, std)
        self.temporal = ParameterFreeDSSA(
            config.num_classes,
            PATCHES if config.matching == "patches" else FEATURES,
            coarse_radius=config.coarse_radius,
            fine_radius=config.fine_radius,
        )

    @property
    def example_size(self) -> tuple[int, int]:
        """A (height, width) at which the network can be tried."""
        return 64, 64

    @property
    def feature_channels(self) -> tuple[int, int]:
        """Channels of the features that frames are matched by, at strides 8 and 32."""
        return PATCH_CHANNELS, PATCH_CHANNELS

    def segment(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """image (B, 3, H, W), normalised -> logits (B, C, H', W'), and features at strides 8 and 32 if it has any."""
        raise NotImplementedError

    def encode(self, image: Tensor) -> SteadiedFrame:
        """Segment one frame, (B, 3, H, W), by itself."""
        logits, features = self.segment(image)
        logits = at_least_float32(logits)
        if self.config.matching == "patches" or features is None:
            fine, coarse = self.patches(at_least_float32(image))
        else:
            fine, coarse = (standardised(at_least_float32(level)) for level in features)
        size = (fine.shape[2], fine.shape[3])
        probabilities = _at_stride_4(logits, image.shape[2]).softmax(1)
        peak = averaged(probabilities.amax(1, keepdim=True), size)
        cells = averaged(probabilities, size).contiguous(memory_format=torch.channels_last)
        return SteadiedFrame(logits, peak, self.temporal.make_memory(fine, coarse, cells))

    def aggregate(self, frame: SteadiedFrame, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        """Logits of a frame with its references, (B, C, H', W'), and its memory. Arguments as for `SDCPC.aggregate`."""
        if not self.config.temporal:
            return frame.logits, frame.memory
        change = self.temporal(frame.peak, frame.memory, references, age_s)
        logits = frame.logits + F.interpolate(change, frame.logits.shape[2:], mode="bilinear", align_corners=False)
        return logits, self.temporal.with_change(frame.memory, change)

    def memory_shapes(self, size: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
        """The (C, h, w) of each part of the `FrameMemory` that a frame of `size` (height, width), px, leaves."""
        fine, coarse = memory_sizes(size, STRIDE)
        channels = self.feature_channels
        return (channels[0] + self.config.num_classes, *fine), (channels[1], *coarse)

    def fold_norms(self) -> None:
        """Nothing is left to fold; see `SDCPC.fold_norms`."""


def _at_stride_4(logits: Tensor, height: int) -> Tensor:
    """Logits of an image of `height` px, averaged to stride 4 where they are finer: what follows is then cheap."""
    factor = 4 * logits.shape[2] // height
    return logits if factor <= 1 else F.avg_pool2d(logits, factor, ceil_mode=True, count_include_pad=False)
