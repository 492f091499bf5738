"""The files in config/ agree with the declarations of the node."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import yaml

from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.nodes import topics
from sdcpc_ros.nodes.parameters import DECLARATIONS, declarations_for

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_the_parameter_file_shows_every_parameter_with_its_default():
    values = yaml.safe_load((CONFIG / "segment.yaml").read_text())["/**"]["ros__parameters"]
    camera = values.pop("camera")
    shown = values | {f"camera.{name}": value for name, value in camera.items()}
    assert shown == {name: declaration.default for name, declaration in declarations_for(["camera"]).items()}


def test_the_parameter_file_comments_on_every_group():
    lines = (CONFIG / "segment.yaml").read_text().splitlines()
    for name in DECLARATIONS:
        index = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{name}:"))
        assert any("#" in line for line in lines[index - 4 : index]), f"{name} is not explained"


def test_rviz_shows_camera_overlay_and_label_with_the_topics_qos():
    displays = yaml.safe_load((CONFIG / "segment.rviz").read_text())["Visualization Manager"]["Displays"]
    shown = {d["Name"]: (d["Topic"]["Value"], d["Topic"]["Reliability Policy"]) for d in displays}
    assert shown == {
        "Camera": ("/camera/image_raw", "Best Effort"),
        "Overlay": (f"/segmentation_node/camera/{topics.OVERLAY.name}", "Reliable"),
        "Label": (f"/segmentation_node/camera/{topics.LABEL_COLOR.name}", "Reliable"),
    }


def test_foxglove_shows_overlay_colours_and_diagnostics():
    layout = json.loads((CONFIG / "segment.foxglove.json").read_text())
    panels = layout["configById"]
    shown = {name: panel["imageMode"]["imageTopic"] for name, panel in panels.items() if name.startswith("Image!")}
    assert shown == {
        "Image!color": f"/segmentation_node/camera/{topics.LABEL_COLOR.name}",
        "Image!overlay": f"/segmentation_node/camera/{topics.OVERLAY.name}",
    }
    calibration = panels["Image!color"]["imageMode"]["calibrationTopic"]
    assert calibration == f"/segmentation_node/camera/{topics.LABEL_CAMERA_INFO.name}"
    assert panels["DiagnosticSummary!node"]["topicToRender"] == topics.DIAGNOSTICS.name

    def placed(part: str | dict) -> set[str]:
        return {part} if isinstance(part, str) else placed(part["first"]) | placed(part["second"])

    assert placed(layout["layout"]) == set(panels)


def test_the_nav2_example_has_every_class_of_the_shipped_model():
    guide = (CONFIG.parent / "docs" / "node.md").read_text(encoding="utf-8")
    block = next(text for text in guide.split("```yaml\n")[1:] if "semantic_segmentation_layer:" in text)
    source = yaml.safe_load(block.partition("```")[0])["semantic_segmentation_layer"]["front"]
    named = [name for kind in source["class_types"] for name in source[kind]["classes"]]
    assert sorted(named) == sorted(CAMVID_11.class_names)


def test_the_fast_dds_profile_gives_images_room():
    root = ElementTree.parse(CONFIG / "fastdds_profile.xml").getroot()
    name = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"
    kinds = [element.text for element in root.iter(f"{name}type")]
    assert kinds == ["SHM", "UDPv4"]  # UDP for other machines
    (segment,) = root.iter(f"{name}segment_size")
    assert int(segment.text) >= 10 * 1280 * 720 * 3
    declared = [element.text for element in root.iter(f"{name}transport_id")]
    assert declared[:2] == declared[2:]  # what is declared is used


def test_the_security_policy_names_every_topic_of_a_camera():
    policy = ElementTree.parse(CONFIG / "security" / "policy.xml")
    published = {element.text for element in policy.iterfind(".//topics[@publish='ALLOW']/topic")}
    expected = {f"~/camera/{topic.name}" for topic in topics.CAMERA_TOPICS} | {topics.DIAGNOSTICS.name}
    assert published - expected == {"~/transition_event", "/parameter_events", "/rosout"}
    assert expected <= published
    subscribed = {element.text for element in policy.iterfind(".//topics[@subscribe='ALLOW']/topic")}
    assert subscribed == {"/camera/image_raw", "/camera/camera_info", "/clock"}
