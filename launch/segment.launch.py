"""Starts segmentation_node: `ros2 launch sdcpc_ros segment.launch.py --show-args` lists the arguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List  # noqa: UP035

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

_CONFIG = Path(get_package_share_directory("sdcpc_ros")) / "config"
_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # the latter from Kilted on
_AS_IN_FILE = " Empty: as in params_file."

_ARGUMENTS = (
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(_CONFIG / "segment.yaml"),
        description="Parameters, as YAML. Arguments given here go before it.",
    ),
    DeclareLaunchArgument(
        "model", default_value="", description="Name of a shipped model, or path of a .safetensors file." + _AS_IN_FILE
    ),
    DeclareLaunchArgument(
        "cameras", default_value="", description="Names of the cameras, separated by commas." + _AS_IN_FILE
    ),
    DeclareLaunchArgument(
        "image_topic",
        default_value="",
        description="Image topic, when there is one camera ('camera' unless cameras names it)." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=["", "true", "false"],
        description="Take the time from /clock, as with a played bag or a simulator." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "backend",
        default_value="",
        description="How the network is run: eager, inductor, aot or tensorrt." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "device", default_value="", description="Where the network runs: auto, cpu, cuda, cuda:N." + _AS_IN_FILE
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=["", "true", "false"],
        description="Configure and activate at once, without a lifecycle manager." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "rviz", default_value="false", choices=["true", "false"], description="Show camera, overlay and label in RViz."
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="The least severe messages that are logged.",
    ),
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*_ARGUMENTS, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in _ARGUMENTS}
    cameras = [name.strip() for name in given["cameras"].split(",") if name.strip()]
    if given["image_topic"]:
        cameras = cameras or ["camera"]
        if len(cameras) > 1:
            raise ValueError(
                f"image_topic goes with one camera, but cameras names {len(cameras)}; "
                "give several cameras their topics in params_file, as <camera>.image_topic"
            )
    if given["rviz"] == "true":
        _require_rviz()  # before the node is started: launch would leave it running when it fails at RViz
    actions: list[LaunchDescriptionEntity] = [
        Node(
            package="sdcpc_ros",
            executable="segmentation_node",
            name="segmentation_node",
            namespace=given["namespace"],
            parameters=[given["params_file"], _parameters(given, cameras)],
            arguments=["--ros-args", "--log-level", given["log_level"]],
            additional_env=_fast_dds_profile(),
            output="screen",
            # A bad configuration doesn't end the node, so what does is a crash, and masks are worth a new start.
            respawn=True,
            respawn_delay=2.0,
        )
    ]
    if given["rviz"] == "true":
        actions.append(_rviz(given, cameras))
    return actions


def _parameters(given: dict[str, str], cameras: list[str]) -> dict[str, Any]:
    """The parameters that were given as arguments; what was left empty stays as it is in the file."""
    parameters: dict[str, Any] = {
        name: ParameterValue(given[name], value_type=str) for name in ("model", "backend", "device") if given[name]
    }
    for name in ("use_sim_time", "autostart"):
        if given[name]:
            parameters[name] = given[name] == "true"
    if cameras:
        parameters["cameras"] = ParameterValue(cameras, value_type=List[str])  # noqa: UP006 (launch knows only this one)
    if given["image_topic"]:
        parameters[f"{cameras[0]}.image_topic"] = ParameterValue(given["image_topic"], value_type=str)
    return parameters


def _fast_dds_profile() -> dict[str, str]:
    """The profile that images need (the file says why), unless the user has set one; other middleware ignores it."""
    if any(variable in os.environ for variable in _PROFILE_VARIABLES):
        return {}
    return {variable: str(_CONFIG / "fastdds_profile.xml") for variable in _PROFILE_VARIABLES}


def _require_rviz() -> None:
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        distribution = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
        raise ValueError(
            f"rviz:=true needs the package rviz2, which is not installed: sudo apt install ros-{distribution}-rviz2"
        ) from None


def _rviz(given: dict[str, str], cameras: list[str]) -> Node:
    """RViz with the shipped layout, whose topics are those of a camera called 'camera' in no namespace."""
    camera = cameras[0] if cameras else "camera"
    namespace = given["namespace"].strip("/")
    node = f"/{namespace}/segmentation_node" if namespace else "/segmentation_node"
    outputs = ("overlay/image_raw", "label/image_raw")
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(_CONFIG / "segment.rviz")],
        remappings=[
            ("/camera/image_raw", given["image_topic"] or f"/{camera}/image_raw"),
            *((f"/segmentation_node/camera/{output}", f"{node}/{camera}/{output}") for output in outputs),
        ],
        additional_env=_fast_dds_profile(),
        output="log",
    )
