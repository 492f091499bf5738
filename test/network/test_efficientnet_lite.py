"""EfficientNet-Lite: the published weights fit, in either spelling, and compute what the published network computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.efficientnet_lite import EfficientNetLite
from sdcpc_ros.network.encoders import build_encoder
from sdcpc_ros.network.public_keys import encoder_state

#: Depth, kernel, stride, expansion and width of the stages: the table of the paper, in the three Lite sizes.
STAGES = {
    "efficientnet_lite0": [
        *[(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)],
        *[(3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)],
    ],
    "efficientnet_lite1": [
        *[(1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 40), (4, 3, 2, 6, 80)],
        *[(4, 5, 1, 6, 112), (5, 5, 2, 6, 192), (1, 3, 1, 6, 320)],
    ],
    "efficientnet_lite2": [
        *[(1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 48), (4, 3, 2, 6, 88)],
        *[(4, 5, 1, 6, 120), (5, 5, 2, 6, 208), (1, 3, 1, 6, 352)],
    ],
}


def public_tensors(encoder: str, spelling: str) -> dict[str, Tensor]:
    """Random weights under the keys of timm, or of EfficientNet-PyTorch; the same numbers in both."""
    random = torch.Generator().manual_seed(0)
    timm = spelling == "timm"
    tensors: dict[str, Tensor] = {}

    def add(conv: str, norm: str, *shape: int) -> None:
        tensors[f"{conv}.weight"] = torch.randn(shape, generator=random) * (2 / torch.Size(shape[1:]).numel()) ** 0.5
        for leaf in ("weight", "bias", "running_mean"):
            tensors[f"{norm}.{leaf}"] = torch.randn(shape[0], generator=random) * 0.1 + (leaf == "weight")
        tensors[f"{norm}.running_var"] = 0.5 + torch.rand(shape[0], generator=random)
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    add(*(("conv_stem", "bn1") if timm else ("_conv_stem", "_bn0")), 32, 3, 3, 3)
    inputs, number = 32, 0
    for stage, (depth, kernel, _, expansion, width) in enumerate(STAGES[encoder]):
        for index in range(depth):
            hidden = inputs * expansion
            block = f"blocks.{stage}.{index}" if timm else f"_blocks.{number}"
            names = ["conv_pw", "conv_dw", "conv_pwl"] if expansion > 1 else ["", "conv_dw", "conv_pw"]
            norms = ["bn1", "bn2", "bn3"] if expansion > 1 else ["", "bn1", "bn2"]
            if not timm:
                names, norms = ["_expand_conv", "_depthwise_conv", "_project_conv"], ["_bn0", "_bn1", "_bn2"]
            if expansion > 1:
                add(f"{block}.{names[0]}", f"{block}.{norms[0]}", hidden, inputs, 1, 1)
            add(f"{block}.{names[1]}", f"{block}.{norms[1]}", hidden, 1, kernel, kernel)
            add(f"{block}.{names[2]}", f"{block}.{norms[2]}", width, hidden, 1, 1)
            inputs, number = width, number + 1
    add(*(("conv_head", "bn2") if timm else ("_conv_head", "_bn1")), 1280, inputs, 1, 1)
    classifier = "classifier" if timm else "_fc"
    return {**tensors, f"{classifier}.weight": torch.zeros(1000, 1280), f"{classifier}.bias": torch.zeros(1000)}


def written_out(tensors: dict[str, Tensor], encoder: str, image: Tensor) -> list[Tensor]:
    """The published network by its own keys (EfficientNet-PyTorch's), its strided convolutions padded on both sides."""

    def conv_norm(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = tensors[f"{conv}.weight"]
        groups = weight.shape[0] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        mean, variance, scale, shift = (
            tensors[f"{norm}.{leaf}"][:, None, None] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * scale + shift

    x, number, features = conv_norm(image, "_conv_stem", "_bn0", 2).clamp(0, 6), 0, []
    for stage, (depth, _, stride, expansion, _) in enumerate(STAGES[encoder]):
        for index in range(depth):
            block, out = f"_blocks.{number}", x
            if expansion > 1:
                out = conv_norm(out, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
            step = stride if index == 0 else 1
            out = conv_norm(out, f"{block}._depthwise_conv", f"{block}._bn1", step).clamp(0, 6)
            out = conv_norm(out, f"{block}._project_conv", f"{block}._bn2")
            x = x + out if index > 0 else out
            number += 1
        if stage in (1, 2, 4, 6):
            features.append(x)
    return features


def built(encoder: str) -> EfficientNetLite:
    network = build_encoder(SDCPCConfig(11, encoder=encoder)).eval()
    assert isinstance(network, EfficientNetLite)
    return network


@pytest.mark.parametrize("encoder", STAGES)
def test_both_spellings_give_the_same_state(encoder: str) -> None:
    network = built(encoder)
    timm = encoder_state(public_tensors(encoder, "timm"), network)
    numbered = encoder_state(public_tensors(encoder, "EfficientNet-PyTorch"), network)
    assert timm.keys() == numbered.keys() == network.state_dict().keys()
    assert all(torch.equal(timm[key], numbered[key]) for key in timm)


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "efficientnet_lite2"])
def test_public_weights_compute_what_the_published_network_computes(encoder: str) -> None:
    public, network = public_tensors(encoder, "EfficientNet-PyTorch"), built(encoder)
    network.load_state_dict(encoder_state(public, network))
    image = torch.randn(2, 3, 75, 101, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for found, expected in zip(network(image), written_out(public, encoder, image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_another_size_is_refused_by_the_names_of_the_file() -> None:
    with pytest.raises(ValueError, match=r"missing blocks\.1\.2\.conv_pw\.weight, .* more"):
        encoder_state(public_tensors("efficientnet_lite0", "timm"), built("efficientnet_lite1"))
    with pytest.raises(ValueError, match=r"neither 'blocks\.0\.0\.conv_dw\.weight' \(timm\) nor '_blocks"):
        encoder_state({"conv1.weight": torch.zeros(1)}, built("efficientnet_lite0"))
