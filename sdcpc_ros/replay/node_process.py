"""Runs the segmentation node as a separate process. Does not import rclpy."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sdcpc_ros.bags.errors import BagError, PlaybackError
from sdcpc_ros.runtime.installation import (
    FAST_DDS_PROFILE_VARIABLES,
    SHARED_MEMORY,
    SHARED_MEMORY_NEEDED_MIB,
    fast_dds_profile,
)
from sdcpc_ros.runtime.process_memory import MALLOC_VARIABLES

NODE_NAME = "segmentation_node"
NODE_MODULE = "sdcpc_ros.nodes.segmentation_node"
CAMERA = "camera"  #: the node's only camera by default
LABEL_TOPIC = f"/{NODE_NAME}/{CAMERA}/label/image_raw"
LABEL_INFO_TOPIC = f"/{NODE_NAME}/{CAMERA}/label/label_info"
CONFIDENCE_TOPIC = f"/{NODE_NAME}/{CAMERA}/confidence/image_raw"
CLASS_STATISTICS_TOPIC = f"/{NODE_NAME}/{CAMERA}/class_statistics"
DIAGNOSTICS_TOPIC = "/diagnostics"

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
DOMAIN_IDS = range(1, 102)  # above, the DDS ports overlap the ephemeral ports of Linux
STOP_GRACE_S = 15.0  # for the node's cleanup on a slow machine


def ros_environment(log_dir: Path) -> dict[str, str]:
    """Environment variables for a local run, without those that the user has set.

    They choose a free ROS domain, discovery on this machine only, logs in `log_dir`, and a transport for whole images:
    by default Fast DDS loses most best-effort images over half a megabyte.
    """
    wanted = {
        "ROS_DOMAIN_ID": str(_free_domain_id()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(log_dir.resolve()),
        **{name: str(value) for name, value in MALLOC_VARIABLES.items()},
    }
    if os.environ.get("ROS_DISTRO") == "humble":  # without ROS_AUTOMATIC_DISCOVERY_RANGE
        wanted["ROS_LOCALHOST_ONLY"] = "1"
    if not os.environ.keys() & set(FAST_DDS_PROFILE_VARIABLES):
        wanted |= _image_transport()
    return {name: value for name, value in wanted.items() if name not in os.environ}


@dataclass(frozen=True)
class NodeTopics:
    """The topics that a node publishes for one camera; by default those of the node that is started here."""

    node: str = f"/{NODE_NAME}"  #: with its namespace
    camera: str = CAMERA

    @classmethod
    def of(cls, label_topic: str) -> NodeTopics:
        """The topics beside a label topic. Raises BagError if the node has no topic of this name."""
        match = re.fullmatch(r"(/[\w/]*\w)/(\w+)/label/image_raw", label_topic)
        if match is None:
            raise BagError(f"the label topic is '{label_topic}'; one as {LABEL_TOPIC} is needed")
        return cls(match[1], match[2])

    @property
    def reported_as(self) -> str:
        """The node's name in /diagnostics."""
        return self.node.strip("/")

    @property
    def label(self) -> str:
        return f"{self.node}/{self.camera}/label/image_raw"

    @property
    def confidence(self) -> str:
        return f"{self.node}/{self.camera}/confidence/image_raw"


def write_parameters(
    path: Path,
    *,
    model: Path,
    image_topic: str,
    compressed: bool,
    input_size: tuple[int, int] | None = None,
    **parameters: Any,
) -> None:
    """Writes a parameter file for a camera that is played from a bag.

    `parameters`: further parameters of the node; None keeps the node's default.
    """
    height, width = input_size or (None, None)
    values = {
        "model": str(model.resolve()),
        "use_sim_time": True,
        "input_height": height,
        "input_width": width,
        **parameters,
        "cameras": [CAMERA],
        CAMERA: {"image_topic": image_topic, "transport": "compressed" if compressed else "raw"},
    }
    values = {name: value for name, value in values.items() if value is not None}
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}, sort_keys=False))


def node_command(parameters: Path) -> list[str]:
    """The command line of the node with a parameter file."""
    return [sys.executable, "-m", NODE_MODULE, "--ros-args", "--params-file", str(parameters.resolve())]


class NodeProcess(AbstractContextManager["NodeProcess"]):
    """A running node in its own process group; leaving the `with` block ends the whole group.

    Its output goes to `log_path`. Raises PlaybackError if it cannot be started.
    """

    def __init__(self, command: Sequence[str], log_path: Path) -> None:
        self.log_path = log_path
        search_path = os.pathsep.join(part for part in (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")) if part)
        with log_path.open("w") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONPATH": search_path, "PYTHONUNBUFFERED": "1"},
                    start_new_session=True,
                )
            except OSError as error:
                raise PlaybackError(f"the node could not be started: {error}") from None
        self.pid = self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def require_running(self) -> None:
        """Raises PlaybackError, with the last line of the node's log, if it has ended."""
        status = self._process.poll()
        if status is not None:
            lines = [line.strip() for line in self.log_path.read_text(errors="replace").splitlines() if line.strip()]
            last = f": {lines[-1]}" if lines else ""
            raise PlaybackError(f"the node ended by itself (exit status {status}){last}")

    def stop(self) -> None:
        """Sends SIGTERM to the whole group, and SIGKILL to the processes that are left after a while."""
        try:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.pid, signal.SIGTERM)
                self._process.wait(STOP_GRACE_S)
        finally:  # even if another Ctrl-C interrupts the waiting
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def __exit__(self, *error: object) -> None:
        self.stop()


def _image_transport() -> dict[str, str]:
    """Our profile for Fast DDS, or UDP where shared memory is too small for it; Fast DDS would print errors first."""
    profile = fast_dds_profile()
    if profile is None:
        return {}
    if not SHARED_MEMORY.is_dir() or shutil.disk_usage(SHARED_MEMORY).free < SHARED_MEMORY_NEEDED_MIB << 20:
        return {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    return dict.fromkeys(FAST_DDS_PROFILE_VARIABLES, str(profile))


def _free_domain_id() -> int:
    """A random domain whose first discovery ports are free."""
    for domain_id in random.sample(DOMAIN_IDS, len(DOMAIN_IDS)):
        ports = (7400 + 250 * domain_id, 7410 + 250 * domain_id)  # DDS specification: multicast, first unicast
        try:
            for port in ports:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return domain_id
    return 0
