"""Models of others through everything that takes a model: the node over DDS, `sdcpc segment`, `sdcpc demo`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import foreign_models as foreign
import numpy as np
import pytest

from sdcpc_ros.cli import main
from sdcpc_ros.labels.label_set import CITYSCAPES_19

pytest.importorskip("rclpy", reason="ROS 2 is not here")


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SegFormer-B0 of random weights with Cityscapes' classes, imported by the command."""
    folder = tmp_path_factory.mktemp("hub")
    weights = foreign.segformer_tensors(foreign.segformer_encoder())
    foreign.write_segformer(folder, foreign.SEGFORMER_CONFIG, weights)
    output = folder / "imported.safetensors"
    assert main(["import-weights", str(folder), "--segmenter", "segformer", "-o", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file whose classes are red, green and blue, imported by the command."""
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'sdcpc_ros[export]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'sdcpc_ros[onnx]'")
    folder = tmp_path_factory.mktemp("onnx")
    foreign.write_onnx(folder / "model.onnx")
    (folder / "labels.yaml").write_text("[red, green, blue]\n")
    output = folder / "imported.safetensors"
    options = ["--mean", "127.5", "127.5", "127.5", "--std", "127.5", "127.5", "127.5", "-o", str(output)]
    labels = str(folder / "labels.yaml")
    assert main(["import-onnx", str(folder / "model.onnx"), "--labels", labels, *options]) == 0
    return output


Outputs = Callable[..., dict[str, Any]]


def test_the_node_segments_with_a_segformer_from_the_hub(segformer: Path, outputs_of_node: Outputs) -> None:
    answer = outputs_of_node(f"model:={segformer}")
    assert answer["label_info"] == [[number, name] for number, name in enumerate(CITYSCAPES_19.class_names)]
    assert set(answer["ids"]) <= set(range(19))
    assert sum(answer["pixel_share"].values()) == pytest.approx(1, abs=1e-4)


def test_the_node_segments_with_an_onnx_model(onnx_model: Path, outputs_of_node: Outputs) -> None:
    answer = outputs_of_node(f"model:={onnx_model}")
    assert answer["label_info"] == [[0, "red"], [1, "green"], [2, "blue"]]
    assert answer["ids"] == [0, 1, 2]
    assert all(share == pytest.approx(1 / 3, abs=0.03) for share in answer["pixel_share"].values())


def test_a_label_map_of_an_onnx_model_over_dds(onnx_model: Path, outputs_of_node: Outputs) -> None:
    label_map = 'label_map:=["red: 3", "blue: 300", "default: 0"]'
    answer = outputs_of_node(f"model:={onnx_model}", "label_encoding:=16SC1", label_map)
    assert answer["encoding"] == "16SC1" and answer["ids"] == [0, 3, 300]
    assert answer["label_info"] == [[0, "background"], [3, "red"], [300, "blue"]]
    assert list(answer["pixel_share"]) == ["0", "3", "300"]
    assert answer["pixel_share"]["3"] == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.usefixtures("ros_domain")
@pytest.mark.parametrize("model", ["segformer", "onnx_model"])
def test_the_demo_runs_with_it(model: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path, output = request.getfixturevalue(model), tmp_path / "demo"
    assert main(["demo", "--model", str(path), "--seconds", "1", "--output", str(output)]) == 0
    assert (output / "labelled_bag").exists() and (output / "contact_sheet.png").stat().st_size > 0
    quality = json.loads((output / "summary.json").read_text())["quality"]
    assert quality["miou"] is None  # the street's truth is in other classes


@pytest.mark.parametrize("model", ["segformer", "onnx_model"])
def test_a_folder_of_images_is_painted_with_it(model: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path, images = request.getfixturevalue(model), tmp_path / "images"
    images.mkdir()
    for index in range(4):
        picture = np.random.default_rng(index).integers(0, 256, (96, 128, 3), np.uint8)
        cv2.imwrite(str(images / f"{index}.png"), picture)
    video = tmp_path / "painted.mp4"
    assert main(["segment", str(images), "-o", str(video), "--model", str(path), "--device", "cpu"]) == 0
    assert video.stat().st_size > 0
