"""The RViz layout for the cameras that a node has."""

from __future__ import annotations

from pathlib import Path

import yaml

from sdcpc_ros.nodes.rviz_layout import cameras_of, rviz_layout

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "segment.rviz"


def test_for_the_default_camera_it_is_the_shipped_one():
    layout = yaml.safe_load(rviz_layout(SHIPPED, "/segmentation_node", cameras_of({})))
    assert layout == yaml.safe_load(SHIPPED.read_text())


def test_every_camera_has_displays_of_names_of_their_own():
    values = {"cameras": ["left", "rear"], "left.image_topic": "~/picture", "rear.transport": "compressed"}
    layout = yaml.safe_load(rviz_layout(SHIPPED, "/robot/eye", cameras_of(values)))
    displays = layout["Visualization Manager"]["Displays"]
    topics = [display["Topic"]["Value"] for display in displays]
    assert len({display["Name"] for display in displays}) == len(displays) == len(set(topics))
    assert {"/robot/eye/picture", "/robot/rear/image_raw/compressed", "/robot/eye/rear/overlay/image_raw"} <= set(
        topics
    )


def test_what_the_node_will_refuse_is_not_shown():
    values = {"cameras": "front", "camera.image_topic": "no topic", "camera.transport": 7}
    (camera,) = cameras_of(values)
    assert (camera.name, camera.image_topic, camera.transport) == ("camera", "camera/image_raw", "auto")
