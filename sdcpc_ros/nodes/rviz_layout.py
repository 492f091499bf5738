"""Makes an RViz layout for a node's cameras from config/segment.rviz, which shows one camera. No ROS in here."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sdcpc_ros.nodes.parameters import CAMERA_DECLARATIONS, DECLARATIONS, CameraParameters
from sdcpc_ros.nodes.topics import absolute_name

#: The topics in the shipped layout: of the camera 'camera', without a namespace.
_SHIPPED_IMAGE = "/camera/image_raw"
_SHIPPED_OUTPUTS = "/segmentation_node/camera"


def cameras_of(values: Mapping[str, Any]) -> list[CameraParameters]:
    """The cameras of a node with these parameters, with defaults for missing and invalid values."""
    names = values.get("cameras")
    if not names or DECLARATIONS["cameras"].refusal(names, "cameras"):
        names = DECLARATIONS["cameras"].default
    cameras = []
    for name in names:
        settings: dict[str, Any] = {}
        for setting, declaration in CAMERA_DECLARATIONS.items():
            value = values.get(f"{name}.{setting}")
            settings[setting] = declaration.default if declaration.refusal(value, setting) else value
        cameras.append(CameraParameters.resolve(name, **settings))
    return cameras


def rviz_layout(shipped: Path, node_name: str, cameras: Sequence[CameraParameters]) -> str:
    """The text of a layout with the displays of `shipped` for each camera; `node_name` is the node's full name."""
    layout = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    displays = []
    for camera in cameras:
        for display in copy.deepcopy(layout["Visualization Manager"]["Displays"]):
            topic = display["Topic"]
            if topic["Value"] == _SHIPPED_IMAGE:
                topic["Value"] = absolute_name(camera.image_topic, node_name)
            else:
                topic["Value"] = f"{node_name}/{camera.name}{topic['Value'].removeprefix(_SHIPPED_OUTPUTS)}"
            if camera is not cameras[0]:  # the window layout refers to its displays by name
                display["Name"] = f"{camera.name} {display['Name']}"
            displays.append(display)
    layout["Visualization Manager"]["Displays"] = displays
    return yaml.safe_dump(layout, sort_keys=False)
