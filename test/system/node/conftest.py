"""What system tests drive a node with: the node as a process of its own, and a peer that speaks to it over DDS."""

from __future__ import annotations

import array
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import DEADLINE_S, NodeProcess

rclpy = pytest.importorskip("rclpy", reason="no ROS 2 in this environment")

from builtin_interfaces.msg import Time  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

import sdcpc_ros  # noqa: E402


class Peer:
    """A ROS node of the test's own: publishes images, collects what comes back, calls services."""

    def __init__(self, domain: int, node_name: str = "/segmentation_node") -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("peer", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._node_name = node_name
        self._publishers: dict[str, Any] = {}
        self._reports: dict[str, dict[str, Any]] = {}
        self._change_state: Any | None = None
        self.collect("/diagnostics", DiagnosticArray, self._keep_reports)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def wait_until(self, condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        """Spins until `condition` is true and returns its value; fails, saying `what` did not come, at the deadline."""
        give_up_s = time.monotonic() + deadline_s
        while not (value := condition()):
            assert time.monotonic() < give_up_s, f"waited {deadline_s} s in vain for {what}"
            self._executor.spin_once(timeout_sec=0.05)
        return value

    def spin_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left_s, 0.02))

    def collect(self, topic: str, message_type: Any, callback: Callable | None = None, **qos: Any) -> list:
        """Subscribes; the list that is returned grows as messages come."""
        messages: list[Any] = []
        self.node.create_subscription(
            message_type, topic, callback or messages.append, QoSProfile(**{"depth": 50, **qos})
        )
        return messages

    def topic(self, name: str) -> str:
        """A private topic of the node under test."""
        return f"{self._node_name}/{name}"

    def publisher(self, topic: str, message_type: Any = Image) -> Any:
        """A best-effort publisher that the node under test listens to."""
        if topic not in self._publishers:
            qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._publishers[topic] = self.node.create_publisher(message_type, topic, qos)
        publisher = self._publishers[topic]
        self.wait_until(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        return publisher

    def exchange(self, topic: str, message: Any, answers: list, patience_s: float = 3.0) -> Any:
        """Publishes an image, again if it got lost (best effort), and returns the first new answer with its header."""
        publisher, before = self.publisher(topic, type(message)), len(answers)

        def answer() -> Any:
            return next((a for a in answers[before:] if a.header == message.header), None)

        for _ in range(int(DEADLINE_S / patience_s)):
            publisher.publish(message)
            end_s = time.monotonic() + patience_s
            while time.monotonic() < end_s:
                if answer():
                    return answer()
                self._executor.spin_once(timeout_sec=0.05)
        raise AssertionError(f"no answer to an image on {topic}")

    def call(self, service_type: Any, name: str, request: Any, patience_s: float = 15.0) -> Any:
        """Calls a service, again if the answer got lost: DDS drops one to a client that it has not quite found yet."""
        client = self.node.create_client(service_type, self.topic(name))
        try:
            self.wait_until(client.service_is_ready, f"the service {name}")
            for _ in range(int(DEADLINE_S / patience_s)):
                future, end_s = client.call_async(request), time.monotonic() + patience_s
                while not future.done() and time.monotonic() < end_s:
                    self._executor.spin_once(timeout_sec=0.05)
                if future.done():
                    return future.result()
            raise AssertionError(f"no answer of {name}")
        finally:
            self.node.destroy_client(client)

    def change_state(self, transition: int) -> bool:
        future = self.begin_to_change_state(transition)
        self.wait_until(future.done, "an answer of change_state")
        return future.result().success

    def begin_to_change_state(self, transition: int) -> Any:
        """A future of the answer."""
        if self._change_state is None:
            self._change_state = self.node.create_client(ChangeState, self.topic("change_state"))
        self.wait_until(self._change_state.service_is_ready, "the service change_state")
        request = ChangeState.Request()
        request.transition.id = transition
        return self._change_state.call_async(request)

    def state(self) -> str:
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def set_parameter(self, name: str, value: Any) -> Any:
        """The SetParametersResult."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "set_parameters", request).results[0]

    def report(self, part: str) -> dict[str, Any]:
        """The newest diagnostics of "model" or a camera, values with "level" and "message"; empty before the first."""
        return self._reports.get(part, {})

    def fresh_report(self, part: str) -> dict[str, Any]:
        """A report made after this call: not the next to come, which may be on its way, but the one after it.

        A subscription of its own hears them: in the queue of the other may still wait what was reported before.
        """
        heard: list[DiagnosticArray] = []
        subscription = self.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
        self.wait_until(lambda: len(heard) >= 2, "diagnostics")
        self.node.destroy_subscription(subscription)
        self._keep_reports(heard[-1])
        return self.report(part)

    def count(self, camera: str, key: str) -> int:
        return int(self.report(camera).get(key, 0))

    def forget(self) -> None:
        """Drops what nodes have told so far: a node that starts is not to be taken for the one before it."""
        self.spin_for(0.1)
        self._reports.clear()

    def _keep_reports(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            part = status.name.rpartition(": ")[2]
            self._reports[part] = values | {"level": status.level, "message": status.message}


def make_image(
    pixels: np.ndarray, stamp_s: float = 1.0, encoding: str = "rgb8", frame_id: str = "optical_frame", **fields: Any
) -> Image:
    """An Image of (H, W) or (H, W, C) uint8 pixels; `fields` replace what follows from them, truthfully or not."""
    seconds, fraction = divmod(stamp_s, 1)
    data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    values = {"height": pixels.shape[0], "width": pixels.shape[1], "step": pixels[0].nbytes, "data": data} | fields
    header = Header(stamp=Time(sec=int(seconds), nanosec=int(fraction * 1e9)), frame_id=frame_id)
    return Image(header=header, encoding=encoding, **values)


def make_street(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """A blocky random picture, (H, W, 3) uint8: something for the network to see, and smooth enough for JPEG."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 20), -(-width // 20), 3), np.uint8)
    return blocks.repeat(20, 0).repeat(20, 1)[:height, :width]


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Starts any command, to be ended with the test."""
    yield from _starter(tmp_path)


@pytest.fixture
def start_launch(start_process: Callable[..., NodeProcess]) -> Iterator[Callable[..., NodeProcess]]:
    """Starts `ros2 launch` on the built package's launch file, or on the one whose Path comes first."""
    pytest.importorskip("launch_ros", reason="ROS's launch is not installed")
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        get_package_share_directory("sdcpc_ros")
    except PackageNotFoundError:
        pytest.skip("the package sdcpc_ros is not built and sourced")
    ros2 = shutil.which("ros2")
    if ros2 is None:
        pytest.skip("the ros2 command is not installed")

    started: list[NodeProcess] = []

    def start(*arguments: str | Path) -> NodeProcess:
        of_another_file = arguments and isinstance(arguments[0], Path)
        file = () if of_another_file else ("sdcpc_ros", "segment.launch.py")
        started.append(start_process(ros2, "launch", *file, *map(str, arguments)))
        return started[-1]

    yield start
    for launch in started:
        launch.stop()  # with its node, which the next test would else still find on its ROS domain


@pytest.fixture(scope="module")
def start_command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., NodeProcess]]:
    """Starts any command, to be ended with the module."""
    yield from _starter(tmp_path_factory.mktemp("commands"))


def _starter(folder: Path) -> Iterator[Callable[..., NodeProcess]]:
    started: list[NodeProcess] = []

    def start(*command: str) -> NodeProcess:
        started.append(NodeProcess(list(command), folder / f"process_{len(started)}.txt"))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def start_node(tmp_path_factory: pytest.TempPathFactory, peer: Peer) -> Iterator[Callable[..., NodeProcess]]:
    """Starts segmentation_node as a process with these parameters, or another `program` that takes the same."""
    started: list[NodeProcess] = []

    def start(
        *,
        program: tuple[str, ...] = ("-m", "sdcpc_ros.nodes.segmentation_node"),
        namespace: str = "/",
        environment: dict[str, str] | None = None,
        **parameters: Any,
    ) -> NodeProcess:
        package_root = str(Path(sdcpc_ros.__file__).parents[1])  # the very package that the tests see
        search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
        arguments = [f"{name.replace('__', '.')}:={value}" for name, value in parameters.items()]
        options = [option for argument in arguments for option in ("-p", argument)]
        log_file = tmp_path_factory.mktemp("node") / "log.txt"
        command = [sys.executable, *program, "--ros-args", "-r", f"__ns:={namespace}", *options]
        peer.forget()
        started.append(NodeProcess(command, log_file, {"PYTHONPATH": search_path, **(environment or {})}))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def peer(module_ros_domain: int, request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Speaks to the node of the module's NODE_NAME."""
    peer = Peer(module_ros_domain, getattr(request.module, "NODE_NAME", "/segmentation_node"))
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def image() -> Callable[..., Image]:
    return make_image


@pytest.fixture(scope="session")
def street() -> Callable[..., np.ndarray]:
    return make_street
