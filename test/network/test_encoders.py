"""Encoders: the published shapes, strides and parameter counts."""

from __future__ import annotations

import pytest
import torch

from sdcpc_ros.network.config import ENCODERS, SDCPCConfig
from sdcpc_ros.network.encoders import build_encoder

#: Parameters of the published networks without their classifiers.
PUBLISHED_PARAMETERS = {
    "mit_b0": 3_319_392,
    "mit_b1": 13_151_424,
    "mit_b2": 24_196_288,
    "mit_b3": 44_072_128,
    "mit_b4": 60_842_688,
    "mit_b5": 81_443_008,
    "resnet18": 11_176_512,
    "resnet_tiny": 78_312,  # ours
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "efficientnet_lite0": 2_958_848,
    "efficientnet_lite1": 3_723_520,
    "efficientnet_lite2": 4_357_952,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_parameters_are_those_of_the_published_network(name):
    with torch.device("meta"):
        encoder = build_encoder(SDCPCConfig(11, encoder=name))
    assert sum(p.numel() for p in encoder.parameters()) == PUBLISHED_PARAMETERS[name]


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [(64, 96), (75, 101)])
def test_pyramid_has_the_promised_sizes(name, size):
    with torch.device("meta"):
        encoder = build_encoder(SDCPCConfig(11, encoder=name)).eval()
        pyramid = encoder(torch.zeros(2, 3, *size))
    assert [f.shape[1] for f in pyramid] == list(encoder.channels)
    for stride, features in zip((4, 8, 16, 32), pyramid):
        assert tuple(features.shape[2:]) == (-(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize(("output_stride", "strides"), [(8, (4, 8, 8, 8)), (16, (4, 8, 16, 16)), (32, (4, 8, 16, 32))])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_dilated_resnet_keeps_its_resolution(name, output_stride, strides):
    with torch.device("meta"):
        encoder = build_encoder(SDCPCConfig(11, encoder=name, output_stride=output_stride)).eval()
        pyramid = encoder(torch.zeros(1, 3, 64, 96))
    assert [64 // f.shape[2] for f in pyramid] == list(strides)


def test_dilation_changes_where_weights_look_not_what_they_are():
    """The same weights at output stride 8 see the same receptive field as at 32: equal on a constant image's middle."""
    plain = build_encoder(SDCPCConfig(11, encoder="resnet_tiny")).eval()
    dilated = build_encoder(SDCPCConfig(11, encoder="resnet_tiny", output_stride=8)).eval()
    dilated.load_state_dict(plain.state_dict())
    image = torch.full((1, 3, 1024, 1024), 0.7)
    with torch.inference_mode():
        coarse, fine = plain(image)[3], dilated(image)[3]
    torch.testing.assert_close(coarse[:, :, 16, 16], fine[:, :, 64, 64], rtol=1e-4, atol=1e-5)


def test_channels_last_gives_the_same_features():
    encoder = build_encoder(SDCPCConfig(11, encoder="mit_b0")).eval()
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = encoder(image)
        fast = encoder.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    for a, b in zip(plain, fast):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_stochastic_depth_is_for_training_only():
    torch.manual_seed(0)
    encoder = build_encoder(SDCPCConfig(11, encoder="mit_b0", drop_path=0.9))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(encoder(image)[3], encoder(image)[3])
        encoder.eval()
        assert torch.equal(encoder(image)[3], encoder(image)[3])
