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
    displays = layout["Visualization Manager"]["Displays"]
    # The first camera's displays keep their names, which the window layout refers to.
    layout["Visualization Manager"]["Displays"] = [
        _display_for(
            display, node_name, camera, name=display["Name"] if index == 0 else f"{camera.name} {display['Name']}"
        )
        for index, camera in enumerate(cameras)
        for display in displays
    ]
    return yaml.safe_dump(layout, sort_keys=False)


def _display_for(display: dict[str, Any], node_name: str, camera: CameraParameters, name: str) -> dict[str, Any]:
    display = copy.deepcopy(display)
    display["Name"] = name
    shown = display["Topic"]["Value"]
    if shown == _SHIPPED_IMAGE:
        display["Topic"]["Value"] = absolute_name(camera.image_topic, node_name)
    else:
        display["Topic"]["Value"] = f"{node_name}/{camera.name}{shown.removeprefix(_SHIPPED_OUTPUTS)}"
    return display
