"""SegFormer whole: the Mix Transformer with its decode head, made steady by a temporal path without weights.

Xie et al., "SegFormer" (NeurIPS 2021). `sdcpc_ros.model_files.import_segmenter` brings the public weights in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import Colour
from sdcpc_ros.network.encoders import MIX_TRANSFORMERS, MixTransformer
from sdcpc_ros.network.steadied import SteadiedConfig, SteadiedNetwork

#: What PyTorch's batch norm, and so the published decode head, adds to variances.
_BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True)
class SegFormerConfig(SteadiedConfig):
    """Configuration of `SegFormer`."""

    architecture: ClassVar[str] = "segformer"

    #: mit_b0 to mit_b5.
    encoder: str = "mit_b0"
    #: Channels of the decode head: 256 in B0 and B1, 768 above.
    decoder_channels: int = 256
    #: Epsilon of the layer norms, 1e-5 in Hugging Face's implementation.
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("encoder", self.encoder in MIX_TRANSFORMERS, f"one of {', '.join(MIX_TRANSFORMERS)}")
        self._require_int("decoder_channels", 8, 4096)
        self._require("layer_norm_eps", 0 < self.layer_norm_eps < 1e-2, "a number in (0, 0.01)")


class SegFormer(SteadiedNetwork):
    """Images (B, 3, H, W), normalised, to logits (B, C, H/4, W/4), rounded up, and on to a stream's."""

    config: SegFormerConfig

    def __init__(self, config: SegFormerConfig, mean: Colour, std: Colour) -> None:
        """mean, std: that images are normalised with, RGB in units of 0..255."""
        super().__init__(config, mean, std)
        channels, depths = MIX_TRANSFORMERS[config.encoder]
        self.encoder = MixTransformer(channels, depths, eps=config.layer_norm_eps, drop_path=0.0)
        self.decode_head = DecodeHead(channels, config.decoder_channels, config.num_classes)

    def segment(self, image: Tensor) -> Tensor:
        return self.decode_head(self.encoder(image))


class DecodeHead(nn.Module):
    """Four levels, each projected, brought to stride 4 and summed; then a classifier.

    The published head projects each level, upsamples, concatenates, mixes by a convolution of 1 x 1 and normalises. All
    but the last step before the ReLU is linear and acts on each position alone, so one projection a level, before the
    upsampling, is the same function for a fraction of the work; `from_published` multiplies the weights.
    """

    def __init__(self, channels: Sequence[int], width: int, num_classes: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        size = pyramid[0].shape[2:]
        mixed = self.project[0](pyramid[0])
        for project, level in zip(list(self.project)[1:], pyramid[1:]):
            mixed = mixed + F.interpolate(project(level), size, mode="bilinear", align_corners=False)
        return self.classifier(F.relu(mixed))

    @staticmethod
    def from_published(tensors: Mapping[str, Tensor], levels: int = 4) -> dict[str, Tensor]:
        """The state of this head from the published one's tensors, without their prefix "decode_head.".

        Raises ValueError naming what is missing or of a shape that does not fit the rest.
        """
        needed = [f"linear_c.{level}.proj.{leaf}" for level in range(levels) for leaf in ("weight", "bias")]
        needed += ["linear_fuse.weight", "classifier.weight", "classifier.bias"]
        needed += [f"batch_norm.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
        missing = [name for name in needed if name not in tensors]
        if missing:
            raise ValueError(f"the decode head lacks {', '.join(missing[:4])}" + (" and more" if missing[4:] else ""))
        exact = {name: tensors[name].double() for name in needed}
        fuse = exact["linear_fuse.weight"].flatten(1)  # (width, levels * width)
        width = exact["linear_c.0.proj.weight"].shape[0]
        scale = exact["batch_norm.weight"] * (exact["batch_norm.running_var"] + _BATCH_NORM_EPS).rsqrt()
        if fuse.shape != (width, levels * width) or scale.shape != (width,):
            raise ValueError(
                f"the decode head's linear_fuse.weight is {tuple(tensors['linear_fuse.weight'].shape)} and its "
                f"batch_norm {tuple(scale.shape)}; {(width, levels * width, 1, 1)} and {(width,)} are needed"
            )
        state: dict[str, Tensor] = {}
        for level in range(levels):
            # The published head concatenates the coarsest level first.
            start = (levels - 1 - level) * width
            part = scale[:, None] * fuse[:, start : start + width]
            weight, bias = part @ exact[f"linear_c.{level}.proj.weight"], part @ exact[f"linear_c.{level}.proj.bias"]
            if level == 0:
                bias = bias + exact["batch_norm.bias"] - exact["batch_norm.running_mean"] * scale
            state[f"project.{level}.weight"], state[f"project.{level}.bias"] = weight[:, :, None, None], bias
        for leaf in ("weight", "bias"):
            state[f"classifier.{leaf}"] = exact[f"classifier.{leaf}"]
        return {name: tensor.to(torch.float32) for name, tensor in state.items()}
