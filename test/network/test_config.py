"""The network configuration: what it refuses, and its way through a file."""

from __future__ import annotations

import json

import pytest

from sdcpc_ros.network import SDCPCConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 0),
        ("num_classes", 256),
        ("num_classes", True),
        ("encoder", "vgg16"),
        ("output_stride", 4),
        ("layer_norm_eps", 0.0),
        ("drop_path", 1.0),
        ("embed_dim", 0),
        ("key_dim", 3.5),
        ("key_dim", 15),
        ("pool_grids", ()),
        ("pool_grids", (2, 1)),
        ("reference_offsets", (0, 3)),
        ("reference_offsets", (3, 3)),
        ("coarse_radius", -1),
        ("fine_radius", 9),
        ("coarse_radius", True),
        ("temporal", 1),
        ("recurrent", "yes"),
        ("persistence", -0.5),
        ("persistence", 8.5),
        ("persistence", True),
        ("persistence", "much"),
        ("static_aggregation", None),
    ],
)
def test_a_bad_value_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        SDCPCConfig(**{"num_classes": 11, field: value})


def test_survives_json():
    config = SDCPCConfig(19, encoder="mit_b2", reference_offsets=(1, 2), temporal=False, recurrent=False)
    assert SDCPCConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_and_missing_fields_are_named():
    with pytest.raises(ValueError, match="unknown field depth"):
        SDCPCConfig.from_dict({"num_classes": 3, "depth": 4})
    with pytest.raises(ValueError, match="num_classes"):
        SDCPCConfig.from_dict({})
    with pytest.raises(ValueError, match="mapping"):
        SDCPCConfig.from_dict([1, 2])


def test_a_field_of_earlier_checkpoints_is_accepted_with_the_value_that_is_left():
    assert SDCPCConfig.from_dict({"num_classes": 3, "base_width": 64}) == SDCPCConfig(3)
    with pytest.raises(ValueError, match="base_width is 8; only 64 is supported"):
        SDCPCConfig.from_dict({"num_classes": 3, "base_width": 8})
