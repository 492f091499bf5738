"""The segmentation node as a process of its own: how it is called, started and ended. No rclpy in here."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType

import yaml

from sdcpc_ros.bags.errors import BagError, PlaybackError
from sdcpc_ros.installation import share_folders

NODE_NAME = "segmentation_node"
CAMERA = "camera"  #: the one camera that the node has unless told otherwise
LABEL_TOPIC = f"/{NODE_NAME}/{CAMERA}/label/image_raw"
LABEL_INFO_TOPIC = f"/{NODE_NAME}/{CAMERA}/label/label_info"
CONFIDENCE_TOPIC = f"/{NODE_NAME}/{CAMERA}/confidence/image_raw"
CLASS_STATISTICS_TOPIC = f"/{NODE_NAME}/{CAMERA}/class_statistics"
DIAGNOSTICS_TOPIC = "/diagnostics"

_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # the latter from Kilted on
_SHARED_MEMORY = Path("/dev/shm")
_SHARED_MEMORY_NEEDED = 3 * (64 << 20)  # bytes: a segment of the profile for each process, and room to spare
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_DOMAIN_IDS = range(1, 102)  # what the DDS port formula leaves free of the ephemeral ports on Linux
_INTERRUPT_GRACE_S = 15.0  # a node cleans up within this after SIGINT, even on a slow machine
_TERMINATE_GRACE_S = 5.0


def ros_environment(log_dir: Path) -> dict[str, str]:
    """The settings of ROS and its middleware that a local run wants; whatever the user has set already is left out.

    A domain that no other ROS node of this machine uses, no talk to other machines, logs in `log_dir`, and a transport
    that takes whole images: by default Fast DDS loses most best-effort images over half a megabyte.
    """
    wanted = {
        "ROS_DOMAIN_ID": str(_free_domain_id()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(log_dir.resolve()),
        # Freed image buffers go back to the process instead of to the kernel, which would zero them again for the next.
        "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_ARENA_MAX": "1",
    }
    if os.environ.get("ROS_DISTRO") == "humble":  # knows no discovery range yet
        wanted["ROS_LOCALHOST_ONLY"] = "1"
    if not os.environ.keys() & set(_PROFILE_VARIABLES):
        wanted |= _image_transport()
    return {name: value for name, value in wanted.items() if name not in os.environ}


@dataclass(frozen=True)
class NodeTopics:
    """What a node publishes for one camera, by name; of the node that is started here unless told otherwise."""

    node: str = f"/{NODE_NAME}"  #: with its namespace
    camera: str = CAMERA

    @classmethod
    def of(cls, label_topic: str) -> NodeTopics:
        """Those beside a label topic. Raises BagError when it is not named as the node names it."""
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
    device: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    input_size: tuple[int, int] | None = None,
    max_gap_s: float | None = None,
) -> None:
    """The node's parameters for a camera that is played from a bag, as a parameter file; None: the node's default."""
    camera = {"image_topic": image_topic, "transport": "compressed" if compressed else "raw"}
    height, width = input_size or (None, None)
    optional = {
        "device": device,
        "backend": backend,
        "precision": precision,
        "input_height": height,
        "input_width": width,
        "max_gap": max_gap_s,
    }
    parameters = {
        "model": str(model.resolve()),
        "use_sim_time": True,
        **{name: value for name, value in optional.items() if value is not None},
        "cameras": [CAMERA],
        CAMERA: camera,
    }
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False))


@dataclass(frozen=True)
class NodeCommand:
    """How to start the node, and how to say so."""

    words: list[str]
    description: str
    environment: dict[str, str] = field(default_factory=dict)  #: besides what this process has


def node_command(parameters: Path) -> NodeCommand:
    """The node through its launch file where the package is built and launch is there, by itself elsewhere."""
    if _launch_file_is_usable():
        words = ["ros2", "launch", "sdcpc_ros", "segment.launch.py", f"params_file:={parameters.resolve()}"]
        return NodeCommand(words, "ros2 launch sdcpc_ros segment.launch.py")
    module = "sdcpc_ros.nodes.segmentation_node"
    words = [sys.executable, "-m", module, "--ros-args", "--params-file", str(parameters.resolve())]
    python_path = os.pathsep.join(part for part in (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return NodeCommand(words, f"python -m {module}", {"PYTHONPATH": python_path})


def _launch_file_is_usable() -> bool:
    if shutil.which("ros2") is None or importlib.util.find_spec("launch_ros") is None:
        return False
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    except ImportError:
        return False
    try:
        prefix = Path(get_package_prefix("sdcpc_ros"))
    except PackageNotFoundError:
        return False
    return (prefix / "share" / "sdcpc_ros" / "launch" / "segment.launch.py").is_file()


class ForeignNode:
    """A node that somebody else started: it runs as far as is known here."""

    def is_running(self) -> bool:
        return True

    def require_running(self) -> None:
        pass


class NodeProcess:
    """A running node, in a process group of its own; leaving the block ends all of it, whatever happened.

    What it prints goes to `log_path`. Raises PlaybackError when it cannot be started.
    """

    def __init__(self, command: NodeCommand, log_path: Path) -> None:
        self.log_path = log_path
        environment = {**os.environ, **command.environment, "PYTHONUNBUFFERED": "1"}
        with log_path.open("w") as log:
            try:
                with _interruptible_children():
                    self._process = subprocess.Popen(
                        command.words,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        start_new_session=True,
                    )
            except OSError as error:
                raise PlaybackError(f"the node could not be started: {error}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def require_running(self) -> None:
        """Raises PlaybackError, with the node's last words, when it has ended."""
        status = self._process.poll()
        if status is not None:
            raise PlaybackError(f"the node ended by itself (exit status {status}){self._last_words()}")

    def wait_for_end(self, timeout_s: float) -> int:
        """The exit status. Raises PlaybackError when it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise PlaybackError(f"the node still runs after {timeout_s:g} s") from None

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C would; end it, and all that it has started, if it does not."""
        try:
            if self.is_running():
                # Only the leader: a launch passes the signal on to its nodes itself.
                self._process.send_signal(signal.SIGINT)
                self._wait(_INTERRUPT_GRACE_S)
            if self._signal_group(signal.SIGTERM):
                self._wait(_TERMINATE_GRACE_S)
        finally:  # also when another Ctrl-C cuts the waiting short
            self._signal_group(signal.SIGKILL)
            self._process.wait()

    def _signal_group(self, number: signal.Signals) -> bool:
        """False when nobody is left in it."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait(self, timeout_s: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def _last_words(self) -> str:
        with self.log_path.open(errors="replace") as log:
            lines = deque((line.strip() for line in log if line.strip()), maxlen=1)
        return f": {lines[0]}" if lines else ""


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that a node started in it is stopped then as well."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _image_transport() -> dict[str, str]:
    """Fast DDS settings for images: the shared-memory profile of this package, or UDP where that memory is too small.

    Containers have 64 MB unless they are given more. Fast DDS would fall back by itself, after printing errors.
    """
    profile = _shared_file("config/fastdds_profile.xml")
    if profile is None:
        return {}
    if not _SHARED_MEMORY.is_dir() or shutil.disk_usage(_SHARED_MEMORY).free < _SHARED_MEMORY_NEEDED:
        return {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    return dict.fromkeys(_PROFILE_VARIABLES, str(profile))


@contextmanager
def _interruptible_children() -> Iterator[None]:
    """Start processes that SIGINT reaches. A shell has its background jobs ignore it, and children inherit that."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a new program gets as the default action
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        yield


def _free_domain_id() -> int:
    """A domain whose first discovery ports nobody holds, at random, so that two runs at once rarely meet."""
    for domain_id in random.sample(_DOMAIN_IDS, len(_DOMAIN_IDS)):
        ports = (7400 + 250 * domain_id, 7410 + 250 * domain_id)  # of the DDS specification: multicast, first unicast
        try:
            for port in ports:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return domain_id
    return 0


def _shared_file(name: str) -> Path | None:
    """A file that comes with the package: in its source tree, or installed to share/sdcpc_ros."""
    return next((folder / name for folder in share_folders() if (folder / name).is_file()), None)
