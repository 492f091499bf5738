"""The ROS of this shell: rclpy, middleware, messages, and the settings that images over DDS need."""

from __future__ import annotations

import importlib
import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path

from sdcpc_ros.doctor import FAULT, NOTE, OK, WARNING, Finding
from sdcpc_ros.runtime.installation import (
    FAST_DDS_PROFILE_VARIABLES,
    SHARED_MEMORY,
    SHARED_MEMORY_NEEDED_MIB,
    fast_dds_profile,
)

_LEAST_SEGMENT_MIB = 16  # several 720p colour images; Fast DDS has half of one by default
#: Module -> what is missing without it, and how bad that is.
MESSAGES = {
    "sensor_msgs.msg": ("images", FAULT),
    "diagnostic_msgs.msg": ("/diagnostics", FAULT),
    "lifecycle_msgs.msg": ("the node's states", FAULT),
    "std_srvs.srv": ("~/reset", FAULT),
    "vision_msgs.msg": ("label/label_info, which Nav2's semantic layer waits for,", WARNING),
    "sdcpc_ros.msg": ("class_statistics", NOTE),
}


def check_ros() -> Iterator[Finding]:
    """The checks that need no communication. One note if there is no ROS."""
    try:
        rclpy = importlib.import_module("rclpy")
    except ImportError as error:
        yield _no_ros(error)
        return
    middleware = rclpy.get_rmw_implementation_identifier()
    yield Finding("ROS 2", f"{os.environ.get('ROS_DISTRO', 'ROS_DISTRO is not set')}, {middleware}")
    yield from check_messages()
    if "fastrtps" in middleware or "fastdds" in middleware:
        yield check_profile(os.environ)
        yield check_shared_memory()
    yield check_domain(os.environ)


def _no_ros(error: ImportError) -> Finding:
    if isinstance(error, ModuleNotFoundError) and error.name == "rclpy":
        text = "not in this shell: the library and the sdcpc command work without it, the node does not"
        return Finding("ROS 2", text + " (source /opt/ros/<distro>/setup.bash to check it)", NOTE)
    fix = "source the setup.bash of one ROS in a new shell, and use the Python that it was built for"
    reason = next(iter(str(error).splitlines()), "no reason given")
    return Finding("ROS 2", f"rclpy is here but cannot be imported: {reason}", FAULT, fix)


def check_messages() -> Iterator[Finding]:
    missing = [(module, *what) for module, what in MESSAGES.items() if not is_importable(module)]
    if not missing:
        yield Finding("messages", f"all {len(MESSAGES)} packages are here")
    for module, what, level in missing:
        package = module.split(".")[0]
        fix = f"sudo apt install ros-$ROS_DISTRO-{package.replace('_', '-')}"
        if package == "sdcpc_ros":  # a plain pip install has none
            yield Finding("messages", f"those of sdcpc_ros are not built: {what} is not published", level)
        else:
            yield Finding("messages", f"no {package}: {what} cannot be published", level, fix)


def check_profile(environment: Mapping[str, str]) -> Finding:
    """Checks that Fast DDS has more shared memory for images than by default."""
    what, shipped = "Fast DDS profile", fast_dds_profile() or "config/fastdds_profile.xml"
    fix = f"export {FAST_DDS_PROFILE_VARIABLES[0]}={shipped} here, and where the camera's driver is started"
    file = next((environment[variable] for variable in FAST_DDS_PROFILE_VARIABLES if environment.get(variable)), None)
    if file is None:
        text = "none is set: most best-effort images over half a megabyte get lost (the launch file sets one)"
        return Finding(what, text, WARNING, fix)
    try:
        segment_mib = _segment_mib(Path(file))
    except (OSError, ValueError, ElementTree.ParseError) as error:
        return Finding(what, f"{file} cannot be read: {error}", FAULT, fix)
    if segment_mib < _LEAST_SEGMENT_MIB:
        text = f"{file} gives {segment_mib:.1f} MiB of shared memory; images need {_LEAST_SEGMENT_MIB} or more"
        return Finding(what, text, WARNING, fix)
    return Finding(what, f"{file}, {segment_mib:.0f} MiB of shared memory")


def check_shared_memory() -> Finding:
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", f"no {SHARED_MEMORY}: images go by UDP", NOTE)
    free_mib = shutil.disk_usage(SHARED_MEMORY).free / 2**20
    text = f"{free_mib:.0f} MiB free in {SHARED_MEMORY}"
    if free_mib < SHARED_MEMORY_NEEDED_MIB:
        needed = f"{SHARED_MEMORY_NEEDED_MIB} MiB or more are needed"
        fix = f"{needed}: docker run --shm-size=1g, or clear leftover fastrtps_*"
        return Finding("shared memory", text, WARNING, fix)
    return Finding("shared memory", text)


def check_domain(environment: Mapping[str, str]) -> Finding:
    domain = environment.get("ROS_DOMAIN_ID", "0")
    if not domain.isdecimal() or not 0 <= int(domain) <= 232:
        return Finding("ROS_DOMAIN_ID", repr(domain), FAULT, "export ROS_DOMAIN_ID with a number in 0..101")
    if int(domain) > 101:
        text = f"{domain}: its ports overlap the ephemeral ports of Linux"
        return Finding("ROS_DOMAIN_ID", text, WARNING, "export ROS_DOMAIN_ID with a number in 0..101")
    is_local = environment.get("ROS_LOCALHOST_ONLY") == "1" or (
        environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") in ("LOCALHOST", "OFF")
    )
    return Finding("ROS_DOMAIN_ID", f"{domain}, {'this machine only' if is_local else 'whole network'}", OK)


def is_importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _segment_mib(file: Path) -> float:
    """The largest shared-memory segment of a profile; 0 for none."""
    sizes = [
        int(element.text or 0) for element in ElementTree.parse(file).iter() if element.tag.endswith("segment_size")
    ]
    return max(sizes, default=0) / 2**20
