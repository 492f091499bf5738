"""Starts segmentation_node: `ros2 launch sdcpc_ros segment.launch.py --show-args` lists the arguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List  # noqa: UP035

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.logging import launch_config
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from sdcpc_ros.nodes import REFUSED_BY_ROS
from sdcpc_ros.nodes.parameter_file import parameters_of, read_parameter_file
from sdcpc_ros.nodes.parameters import CameraParameters
from sdcpc_ros.nodes.rviz_layout import cameras_of, rviz_layout
from sdcpc_ros.runtime.installation import FAST_DDS_PROFILE_VARIABLES

_CONFIG = Path(get_package_share_directory("sdcpc_ros")) / "config"
_DEFAULT_FILE = _CONFIG / "segment.yaml"
_BOOLEANS = ("use_sim_time", "autostart", "rviz")
_BOOLEAN_WORDS = dict.fromkeys(("true", "1", "yes", "on"), "true") | dict.fromkeys(("false", "0", "no", "off"), "false")
_TRANSPORTS = ("auto", "raw", "compressed")
_LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
_AS_IN_FILE = " Empty: the value in params_file."

_ARGUMENTS = (
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(_DEFAULT_FILE),
        description="Parameter file (YAML). Launch arguments override it.",
    ),
    DeclareLaunchArgument(
        "model", default_value="", description="Name of a shipped model, or path of a .safetensors file." + _AS_IN_FILE
    ),
    DeclareLaunchArgument(
        "label_map",
        default_value="",
        description="Ids of the classes: a YAML file, a preset (nav2), or 'name: id' pairs separated by commas."
        + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "cameras", default_value="", description="Names of the cameras, separated by commas." + _AS_IN_FILE
    ),
    DeclareLaunchArgument(
        "image_topic",
        default_value="",
        description="Image topic of a single camera ('camera' unless cameras names it)." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "transport",
        default_value="",
        description="Type of every camera's image topic: raw (Image), compressed (CompressedImage), or auto "
        "(the published type)." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        description="Use the time of /clock, for a played bag or a simulator: true or false." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "backend",
        default_value="",
        description="Backend that runs the network: auto, eager, inductor, aot, onnxruntime or tensorrt." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "precision",
        default_value="",
        description="Type of weights, activations and memories: auto, float32, float16 or bfloat16." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "device", default_value="", description="Device that runs the network: auto, cpu, cuda or cuda:N." + _AS_IN_FILE
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        description="Configure and activate at start, without a lifecycle manager: true or false." + _AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        "rviz", default_value="false", description="Show each camera with its overlay and label in RViz: true or false."
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        description="Lowest severity that the node logs: debug, info, warn, error or fatal.",
    ),
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*_ARGUMENTS, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in _ARGUMENTS}
    for name in _BOOLEANS:
        given[name] = _boolean(name, given[name])
    if given["log_level"].lower() not in _LOG_LEVELS:
        raise ValueError(f"log_level is '{given['log_level']}'; allowed: {', '.join(_LOG_LEVELS)}")
    if given["transport"] not in ("", *_TRANSPORTS):
        raise ValueError(f"transport is '{given['transport']}'; allowed: {', '.join(_TRANSPORTS)}")
    params_file = Path(given["params_file"]).expanduser()
    in_file = read_parameter_file(params_file)  # raises here, because a bad file would restart the node in a loop
    node_name = _node_name(context, given["namespace"])
    parameters = _parameters(given, [camera.name for camera in cameras_of(parameters_of(in_file, node_name))])
    if given["rviz"] == "true":
        _require_rviz()  # before the node starts: launch would leave it running after an error
    # The default file names every parameter, so it would override the parameters that a parent launch file sets for all
    # nodes (SetParameter). They are passed again after it. A params_file chosen by the user overrides them.
    of_parent = context.launch_configurations.get("global_params", []) if params_file == _DEFAULT_FILE else []
    inherited = [dict([parameter]) if isinstance(parameter, tuple) else parameter for parameter in of_parent]
    node = Node(
        package="sdcpc_ros",
        executable="segmentation_node",
        name="segmentation_node",
        namespace=given["namespace"],
        parameters=[str(params_file), *inherited, {name: _typed(value) for name, value in parameters.items()}],
        # For this node's logger only: `debug` must not enable the debug output of the middleware.
        arguments=["--ros-args", "--log-level", f"{_logger(node_name)}:={given['log_level'].lower()}"],
        additional_env=_fast_dds_profile(),
        output="screen",
        # A bad configuration does not end the node, so an exit is a crash.
        respawn=True,
        respawn_delay=2.0,
    )
    actions: list[LaunchDescriptionEntity] = [
        RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_give_up_if_ros_refuses)),
        node,
    ]
    if given["rviz"] == "true":
        values = parameters_of(in_file, node_name)
        for parameter in inherited:
            values |= (
                parameter if isinstance(parameter, dict) else parameters_of(read_parameter_file(parameter), node_name)
            )
        actions.append(_rviz(node_name, cameras_of(values | parameters)))
    return actions


def _boolean(name: str, text: str) -> str:
    """'true', 'false' or empty. Other launch files often spell booleans as Python does."""
    word = text.strip().lower()
    if not word or word in _BOOLEAN_WORDS:
        return _BOOLEAN_WORDS.get(word, "")
    raise ValueError(f"{name} is '{text}'; allowed: true or false (also True, False, 1, 0, yes, no, on, off)")


def _parameters(given: dict[str, str], cameras_in_file: list[str]) -> dict[str, Any]:
    """The parameters given as arguments. Empty arguments leave the value of the file."""
    parameters: dict[str, Any] = {
        name: given[name] for name in ("model", "backend", "precision", "device") if given[name]
    }
    parameters |= {name: given[name] == "true" for name in ("use_sim_time", "autostart") if given[name]}
    label_map = [entry.strip() for entry in given["label_map"].split(",") if entry.strip()]
    if label_map:
        parameters["label_map"] = label_map
    cameras = [name.strip() for name in given["cameras"].split(",") if name.strip()]
    if given["image_topic"]:
        cameras = cameras or ["camera"]
        if len(cameras) > 1:
            raise ValueError(
                f"image_topic goes with one camera, but cameras names {len(cameras)}; "
                "give several cameras their topics in params_file, as <camera>.image_topic"
            )
        parameters[f"{cameras[0]}.image_topic"] = given["image_topic"]
    if cameras:
        parameters["cameras"] = cameras
    if given["transport"]:
        parameters |= {f"{camera}.transport": given["transport"] for camera in cameras or cameras_in_file}
    return parameters


def _typed(value: Any) -> Any:
    """A text that looks like a number stays a text."""
    if isinstance(value, list):
        return ParameterValue(value, value_type=List[str])  # noqa: UP006 (launch accepts only this one)
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value


def _node_name(context: LaunchContext, namespace: str) -> str:
    """The node's full name, with the namespace that a parent launch file pushed (PushRosNamespace)."""
    pushed = context.launch_configurations.get("ros_namespace", "")
    parts = namespace if namespace.startswith("/") else f"{pushed}/{namespace}"
    return "/".join(["", *filter(None, parts.split("/")), "segmentation_node"])


def _logger(node_name: str) -> str:
    return node_name.strip("/").replace("/", ".")


def _give_up_if_ros_refuses(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
    """Stops the respawn if ROS refused the node, because it would end in the same way. The node logs the cause."""
    if event.returncode != REFUSED_BY_ROS:
        return None
    return [EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action)))]


def _fast_dds_profile() -> dict[str, str]:
    """The Fast DDS profile for images, unless the user has set one. Other middleware ignores it."""
    if any(variable in os.environ for variable in FAST_DDS_PROFILE_VARIABLES):
        return {}
    return {variable: str(_CONFIG / "fastdds_profile.xml") for variable in FAST_DDS_PROFILE_VARIABLES}


def _require_rviz() -> None:
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        distribution = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
        raise ValueError(
            f"rviz:=true needs the package rviz2, which is not installed: sudo apt install ros-{distribution}-rviz2"
        ) from None


def _rviz(node_name: str, cameras: list[CameraParameters]) -> Node:
    """RViz with the shipped layout for these cameras. The layout is written beside the logs of this launch."""
    layout = Path(launch_config.log_dir) / "segment.rviz"
    layout.write_text(rviz_layout(_CONFIG / "segment.rviz", node_name, cameras), encoding="utf-8")
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(layout)],
        additional_env=_fast_dds_profile(),
        output="log",
    )
