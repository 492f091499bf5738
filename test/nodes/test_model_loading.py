"""From parameters to a segmenter, with the tiny checkpoint."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.nodes.model_loading import check_class_names, load_segmenter
from sdcpc_ros.nodes.parameters import NodeParameters, ParameterError, declarations_for


@pytest.fixture
def parameters(tiny_checkpoint) -> NodeParameters:
    values = {name: declaration.default for name, declaration in declarations_for(["camera"]).items()}
    return NodeParameters.from_values(values | {"model": str(tiny_checkpoint), "device": "cpu", "backend": "eager"})


def test_a_model_is_loaded_as_asked(parameters):
    changed = replace(parameters, input_height=64, input_width=96, class_names=CAMVID_11.class_names)
    segmenter, label_map = load_segmenter(changed)
    assert label_map.listed == tuple(enumerate(CAMVID_11.class_names))
    assert segmenter.label_set == CAMVID_11
    assert segmenter.network_size((120, 160)) == (64, 96)
    assert segmenter.segment(np.zeros((120, 160, 3), np.uint8)).labels.shape == (120, 160)


def test_auto_finds_a_device(parameters):
    import torch

    segmenter, _ = load_segmenter(replace(parameters, device="auto"))
    assert str(segmenter.device) == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "nowhere.safetensors"}, ["nowhere.safetensors", "no such model file"]),
        ({"model": "unknown_name"}, ["unknown_name", "shipped"]),
        ({"backend": "abacus"}, ["abacus", "eager"]),
        ({"device": "cuda:99"}, ["cuda:99"]),
        ({"input_height": 8, "input_width": 8}, ["32"]),
        ({"label_map": ("rode: 1",)}, ["rode", "did you mean 'road'"]),
        ({"class_names": ("free", "occupied")}, ["free, occupied", "sky, building", "camvid_11"]),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(parameters, change, words):
    with pytest.raises(ValueError) as caught:
        load_segmenter(replace(parameters, **change))
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_the_order_of_classes_matters():
    check_class_names((), CAMVID_11, "m")
    check_class_names(CAMVID_11.class_names, CAMVID_11, "m")
    with pytest.raises(ParameterError):
        check_class_names(CAMVID_11.class_names[::-1], CAMVID_11, "m")


def test_the_node_is_imported_without_pytorch():
    """Which takes seconds: parameters, diagnostics and signals are answered before."""
    code = "import sys, sdcpc_ros.nodes.segmentation_node; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
