"""Image encoders, each a four-level feature pyramid: Mix Transformer (MiT-B0..B5), ResNet-18/50/101, EfficientNet-Lite.

MiT: Xie et al., "SegFormer" (NeurIPS 2021). ResNet: He et al. (CVPR 2016), with the dilation of Chen et al. (DeepLab)
for output strides 8 and 16. Module names follow the published weights: torchvision's for ResNet; the original MiT's
for the transformer (one joint `kv` projection), which `sdcpc_ros.model_files.import_weights` maps to Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.efficientnet_lite import EFFICIENTNET_LITE, EfficientNetLite, init_convolutions

#: MiT variant -> (channels, blocks) of its four stages.
MIX_TRANSFORMERS = {
    "mit_b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "mit_b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "mit_b3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "mit_b4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "mit_b5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}
#: Of the stages: attention heads, and by how much the sides of the keys' map are reduced.
_MIT_HEADS = (1, 2, 5, 8)
_MIT_REDUCTIONS = (8, 4, 2, 1)
_MIT_EXPANSION = 4

#: ResNet variant -> (bottleneck?, blocks of its four stages, channels of the first).
_RESNETS = {
    "resnet18": (False, (2, 2, 2, 2), 64),
    "resnet50": (True, (3, 4, 6, 3), 64),
    "resnet101": (True, (3, 4, 23, 3), 64),
    "resnet_tiny": (False, (1, 1, 1, 1), 8),  # for tests and quick benchmarks; there are no public weights
}


def build_encoder(config: SDCPCConfig) -> Encoder:
    """The encoder that `config` names, randomly initialised.

    Its `forward` takes (B, 3, H, W) and returns four maps, finest first; `channels` holds their widths. Level l has
    stride 4, 8, 16, 32 (a dilated ResNet stops at `output_stride`); odd sizes round up.
    """
    if config.encoder in MIX_TRANSFORMERS:
        channels, depths = MIX_TRANSFORMERS[config.encoder]
        return MixTransformer(channels, depths, eps=config.layer_norm_eps, drop_path=config.drop_path)
    if config.encoder in EFFICIENTNET_LITE:
        return EfficientNetLite(*EFFICIENTNET_LITE[config.encoder])
    return ResNet(*_RESNETS[config.encoder], output_stride=config.output_stride)


class MixTransformer(nn.Module):
    """MiT: overlapping patch embeddings and efficient self-attention; no positional encoding."""

    def __init__(self, channels: Sequence[int], depths: Sequence[int], *, eps: float, drop_path: float) -> None:
        super().__init__()
        self.channels = tuple(channels)
        blocks = sum(depths)
        rates = [drop_path * index / (blocks - 1) for index in range(blocks)]
        self.stages = nn.ModuleList()
        inputs = 3
        for level, (width, depth) in enumerate(zip(channels, depths)):
            self.stages.append(_MixStage(level, inputs, width, drop_paths=rates[:depth], eps=eps))
            inputs, rates = width, rates[depth:]
        init_convolutions(self)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return features


class _MixStage(nn.Module):
    def __init__(self, level: int, inputs: int, width: int, *, drop_paths: list[float], eps: float) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(inputs, width, 7, 4, 3) if level == 0 else nn.Conv2d(inputs, width, 3, 2, 1)
        self.patch_norm = nn.LayerNorm(width, eps)
        heads, reduction = _MIT_HEADS[level], _MIT_REDUCTIONS[level]
        self.blocks = nn.ModuleList(_MixBlock(width, heads, reduction, rate, eps) for rate in drop_paths)
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        size = (x.shape[2], x.shape[3])
        tokens = self.patch_norm(_to_tokens(x))  # (B, N, width)
        for block in self.blocks:
            tokens = block(tokens, size)
        return _to_map(self.norm(tokens), size)


class _MixBlock(nn.Module):
    def __init__(self, width: int, heads: int, reduction: int, drop_path: float, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attention = _EfficientAttention(width, heads, reduction, eps)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = _MixFeedForward(width, width * _MIT_EXPANSION)
        self.drop_path = drop_path

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        tokens = tokens + self._drop(self.attention(self.norm1(tokens), size))
        return tokens + self._drop(self.mlp(self.norm2(tokens), size))

    def _drop(self, branch: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016): drops the whole branch of a sample in training."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep).div_(keep)


class _EfficientAttention(nn.Module):
    """Self-attention whose keys and values come from a map reduced `reduction` times along each side."""

    def __init__(self, width: int, heads: int, reduction: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.reduce: nn.Conv2d | None = None
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, reduction)
            self.reduce_norm = nn.LayerNorm(width, eps)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        batch, count, width = tokens.shape
        source = tokens
        if self.reduce is not None:
            source = self.reduce_norm(_to_tokens(self.reduce(_to_map(tokens, size))))
        query = self.q(tokens).view(batch, count, self.heads, -1).transpose(1, 2)
        key, value = self.kv(source).view(batch, source.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (B, heads, N, width / heads)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class _MixFeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        hidden = self.dwconv(_to_map(self.fc1(tokens), size))
        return self.fc2(F.gelu(_to_tokens(hidden)))


def _to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h*w, C) -> (B, C, h, w), a view that is channels-last in memory. `reshape` gives a batch of one the stride by
    which PyTorch recognises this order; otherwise pooling and convolutions copy."""
    return tokens.reshape(-1, *size, tokens.shape[2]).permute(0, 3, 1, 2)


def _to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h*w, C), a view when `x` is channels-last in memory."""
    return x.flatten(2).transpose(1, 2)


class ResNet(nn.Module):
    """ResNet without its classifier; stages beyond `output_stride` are dilated instead of strided."""

    def __init__(self, bottleneck: bool, depths: Sequence[int], base_width: int, *, output_stride: int) -> None:
        super().__init__()
        expansion = 4 if bottleneck else 1
        self.channels = tuple(base_width * 2**level * expansion for level in range(4))
        self.conv1 = nn.Conv2d(3, base_width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_width)
        inputs, stride, dilation = base_width, 4, 1
        for level, depth in enumerate(depths):
            step, previous_dilation = (1 if level == 0 else 2), dilation
            if stride * step > output_stride:
                step, dilation = 1, dilation * 2
            stride *= step
            width = base_width * 2**level
            blocks = []
            for index in range(depth):
                # As in torchvision, the block that would have strided still uses the dilation of the stage before.
                block_dilation = previous_dilation if index == 0 else dilation
                block = _Bottleneck if bottleneck else _BasicBlock
                blocks.append(block(inputs, width, step if index == 0 else 1, block_dilation))
                inputs = width * expansion
            self.add_module(f"layer{level + 1}", nn.Sequential(*blocks))
        init_convolutions(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, 2, 1)
        features = []
        for level in range(1, 5):
            x = getattr(self, f"layer{level}")(x)  # torch 2.5 cannot export get_submodule
            features.append(x)
        return features


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


Encoder: TypeAlias = MixTransformer | ResNet | EfficientNetLite
