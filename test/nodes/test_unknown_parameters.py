"""What somebody gave and the node will not use."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sdcpc_ros.nodes.unknown_parameters import files_for_others, unknown_parameters

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("backed", "backend"),
        ("confidence_treshold", "confidence_threshold"),
        ("frnt.image_topic", "front.image_topic"),
        ("front.image_topc", "front.image_topic"),
        ("use_simtime", "use_sim_time"),
    ],
)
def test_the_nearest_name_is_told(name: str, nearest: str) -> None:
    (sentence,) = unknown_parameters({name: "something"}, ["front"])
    assert sentence == f"the node has no parameter '{name}'; it is ignored. Did you mean '{nearest}'?"


def test_a_camera_that_is_not_listed_is_named() -> None:
    (sentence,) = unknown_parameters({"dashboard.transport": "compressed"}, ["eye"])
    assert sentence.endswith("it is ignored: no camera 'dashboard' is in cameras (eye)")


def test_the_shipped_file_warns_of_nothing_whatever_the_cameras_are() -> None:
    values = yaml.safe_load((CONFIG / "segment.yaml").read_text())["/**"]["ros__parameters"]
    given = values | {f"camera.{name}": value for name, value in values.pop("camera").items()}
    given |= {"use_sim_time": True, "qos_overrides./front/image_raw.subscription.depth": 5}
    assert not list(unknown_parameters(given, ["front", "rear"]))


def test_a_file_for_another_node_is_named(tmp_path: Path) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text("/segmentation_node: {ros__parameters: {max_gap: 2.0}}")
    arguments = ["node", "--ros-args", "--params-file", str(file), "--params-file", str(CONFIG / "segment.yaml")]
    assert not list(files_for_others(arguments, "/segmentation_node"))
    (sentence,) = files_for_others(arguments, "/robot/segmentation_node")
    assert sentence.startswith(f"the parameter file '{file}' is for /segmentation_node, not for this node, /robot/seg")
