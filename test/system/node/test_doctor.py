"""`sdcpc doctor` as a process, beside cameras and nodes that are there or not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock as NodeClock
from rclpy.clock import ClockType
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

import sdcpc_ros

ROOT = Path(sdcpc_ros.__file__).parents[1]
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture
def doctor(peer, tiny_checkpoint: Path) -> Callable[..., tuple[int, list[str]]]:
    """Runs it while the peer's timers go on, listening for longer until a line says what is `heard`: on a busy machine
    DDS takes its time to find who is there. Its exit status and lines."""

    def run(*arguments: str, heard: str) -> tuple[int, list[str]]:
        for seconds in ("4", "15", "40"):
            status, lines = run_once(*arguments, "--listen", seconds)
            if any(heard in line for line in lines):
                break
        return status, lines

    def run_once(*arguments: str) -> tuple[int, list[str]]:
        command = [sys.executable, "-m", "sdcpc_ros.cli", "doctor", "--model", str(tiny_checkpoint), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            peer.wait_until(lambda: process.poll() is not None, "the doctor")
            return process.returncode, process.stdout.read().splitlines()

    return run


@pytest.fixture
def camera(peer, image, street):
    """A best-effort camera at 20 Hz."""
    publisher = peer.node.create_publisher(Image, "/eye/image_raw", BEST_EFFORT)
    picture = image(street())
    timer = peer.node.create_timer(0.05, lambda: publisher.publish(picture))
    yield publisher
    peer.node.destroy_timer(timer)
    peer.node.destroy_publisher(publisher)


@pytest.fixture
def running_node(peer, module_ros_domain):
    """A stand-in for the node: of its name, with its parameters, listening to the camera as an override may have it."""
    context = Context()
    rclpy.init(context=context, domain_id=module_ros_domain)
    node = rclpy.create_node("segmentation_node", context=context)
    node.declare_parameter("cameras", ["eye"])
    node.declare_parameter("eye.image_topic", "")
    node.declare_parameter("eye.transport", "raw")
    node.set_parameters([Parameter("use_sim_time", value=True)])
    node.create_subscription(Image, "/eye/image_raw", lambda _: None, 1)  # reliable
    reports = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    values = {"largest batch": "4", "batches held up by": "backend 'aot' runs one frame at a time"}
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    status = DiagnosticStatus(name="segmentation_node: model", values=pairs)
    steady = NodeClock(clock_type=ClockType.STEADY_TIME)  # nobody may publish the simulated one
    node.create_timer(0.5, lambda: reports.publish(DiagnosticArray(status=[status])), clock=steady)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin)
    spinner.start()
    yield node
    executor.shutdown()
    spinner.join()
    node.destroy_node()
    rclpy.shutdown(context=context)


def line(lines: list[str], what: str) -> str:
    return next(line for line in lines if what in line)


def test_a_camera_that_is_heard_is_well(doctor, camera):
    status, lines = doctor("--image-topic", "/eye/image_raw", heard=" Hz)")
    assert status == 0, lines
    assert "published by /peer, best_effort, volatile: reaches the node" in line(lines, "published by")
    assert " images in " in line(lines, " Hz)") and "0.06 MB each" in line(lines, " Hz)")
    assert line(lines, "/segmentation_node does not run").startswith("note")
    assert lines[-1].endswith(f"{sum(text.startswith('warning') for text in lines)} to be warned of")


def test_what_nobody_publishes_is_a_fault_with_what_there_is(doctor, camera):
    status, lines = doctor("--image-topic", "/camera/image_raw", "--use-sim-time", heard="/eye/image_raw")
    assert status == 1
    assert line(lines, "nobody publishes it").startswith("FAULT    /camera/image_raw")
    assert line(lines, "nobody publishes it").endswith("to one that is there: /eye/image_raw")
    assert "nobody publishes /clock -> ros2 bag play BAG --clock" in line(lines, "use_sim_time is true")


def test_a_wrong_type_is_a_fault(doctor, camera):
    status, lines = doctor("--image-topic", "/eye/image_raw", "--compressed", heard="it is sensor_msgs")
    assert status == 1
    assert "it is sensor_msgs/msg/Image; sensor_msgs/msg/CompressedImage is needed" in line(lines, "FAULT  ")


def test_a_running_node_is_asked_and_an_override_that_deafens_it_found(doctor, camera, peer, running_node):
    clock = peer.node.create_publisher(Clock, "/clock", 1)
    status, lines = doctor(heard="published, as use_sim_time asks")
    peer.node.destroy_publisher(clock)
    assert status == 1
    fault = line(lines, "FAULT  ")
    assert "does not reach the node: Best effort publisher and reliable subscription" in fault
    assert "qos_overrides of /eye/image_raw" in fault
    assert "published, as use_sim_time asks" in line(lines, "/clock")
    assert line(lines, "/segmentation_node is there").startswith("warning")
    assert line(lines, "batches").startswith("note") and "up to 4 cameras" in line(lines, "batches")
    assert line(lines, "batches").endswith("but are held up: backend 'aot' runs one frame at a time")


def test_without_ros_it_looks_at_the_rest(tiny_checkpoint: Path):
    code = "import sys; sys.modules['rclpy'] = None\nfrom sdcpc_ros.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "doctor", "--model", str(tiny_checkpoint)]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ROS 2: not in this shell" in result.stdout and "Traceback" not in result.stderr
