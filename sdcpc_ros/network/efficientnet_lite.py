"""EfficientNet-Lite as an image encoder: inverted residuals without squeeze-and-excitation, made for small processors.

Tan and Le, "EfficientNet" (ICML 2019), in the Lite variant of its authors: ReLU6 for Swish, no squeeze-and-excitation,
a stem that does not grow. Strided convolutions pad both sides alike, where the published network pads as TensorFlow
does: for an even size that moves the whole image by a pixel or so, and changes nothing else.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

#: Variant -> (width factor, depth factor).
EFFICIENTNET_LITE = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
_STEM = 32
#: Blocks, kernel, stride, expansion and width of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
#: The stages whose outputs are the pyramid, strides 4, 8, 16 and 32.
_LEVELS = (1, 2, 4, 6)
_NORM_EPS = 1e-3


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0, 1 or 2 without its classifier: (B, 3, H, W) -> four maps at strides 4, 8, 16, 32."""

    def __init__(self, width_factor: float, depth_factor: float) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(_STEM, _NORM_EPS)
        self.activation = nn.ReLU6(inplace=True)
        self.stages = nn.ModuleList()
        inputs = _STEM
        for index, (depth, kernel, stride, expansion, base_width) in enumerate(_STAGES):
            width = _rounded(base_width * width_factor)
            if 0 < index < len(_STAGES) - 1:  # the first and the last stage do not grow deeper
                depth = math.ceil(depth * depth_factor)
            blocks = [InvertedResidual(inputs, width, kernel, stride, expansion)]
            blocks += [InvertedResidual(width, width, kernel, 1, expansion) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = width
        self.channels = tuple(_rounded(_STAGES[level][-1] * width_factor) for level in _LEVELS)
        init_convolutions(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.activation(self.stem_norm(self.stem(image)))
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _LEVELS:
                features.append(x)
        return features


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al., "MobileNetV2", CVPR 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand: nn.Conv2d | None = None
        if expansion > 1:
            self.expand = nn.Conv2d(inputs, hidden, 1, bias=False)
            self.expand_norm = nn.BatchNorm2d(hidden, _NORM_EPS)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(hidden, _NORM_EPS)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(outputs, _NORM_EPS)
        self.activation = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        if self.expand is not None:
            out = self.activation(self.expand_norm(self.expand(out)))
        out = self.activation(self.depthwise_norm(self.depthwise(out)))
        out = self.project_norm(self.project(out))
        return x + out if self.residual else out


def init_convolutions(network: nn.Module) -> None:
    """He's initialisation by the outputs.

    Not on "meta", where a network is built to be given its weights: there, normal_ makes PyTorch import its compiler,
    which takes seconds.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _rounded(width: float) -> int:
    """To the nearest multiple of 8, but never more than a tenth below `width`."""
    multiple = max(8, int(width + 4) // 8 * 8)
    return multiple if multiple >= 0.9 * width else multiple + 8
