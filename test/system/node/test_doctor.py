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
from lifecycle_msgs.msg import Transition
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
    """Runs it once while the peer's timers go on; its exit status and lines."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        command = [sys.executable, "-m", "sdcpc_ros.cli", "doctor", "--model", str(tiny_checkpoint), *arguments]
        command += ["--patience", "8"]
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
    status, lines = doctor("--image-topic", "/eye/image_raw")
    assert status == 0, lines
    assert "published by /peer, best_effort, volatile: reaches the node" in line(lines, "published by")
    assert " images in " in line(lines, " Hz)") and "0.06 MB each" in line(lines, " Hz)")
    assert line(lines, "/segmentation_node does not run").startswith("note")
    assert lines[-1].endswith(f"warnings: {sum(text.startswith('warning') for text in lines)}")


def test_what_nobody_publishes_is_a_fault_with_what_there_is(doctor, camera):
    status, lines = doctor("--image-topic", "/camera/image_raw", "--use-sim-time")
    assert status == 1
    assert line(lines, "nobody publishes it").startswith("FAULT    /camera/image_raw")
    assert line(lines, "nobody publishes it").endswith("to one that is there: /eye/image_raw")
    assert "nobody publishes /clock -> ros2 bag play BAG --clock" in line(lines, "use_sim_time is true")


def test_a_wrong_type_is_a_fault(doctor, camera):
    status, lines = doctor("--image-topic", "/eye/image_raw", "--compressed")
    assert status == 1
    assert "it is sensor_msgs/msg/Image; sensor_msgs/msg/CompressedImage is needed" in line(lines, "FAULT  ")


def test_a_running_node_is_asked_and_an_override_that_deafens_it_found(doctor, camera, peer, running_node):
    clock = peer.node.create_publisher(Clock, "/clock", 1)
    status, lines = doctor()
    peer.node.destroy_publisher(clock)
    assert status == 1
    fault = line(lines, "FAULT  ")
    assert "does not reach the node: Best effort publisher and reliable subscription" in fault
    assert "qos_overrides of /eye/image_raw" in fault
    assert "published, and use_sim_time is true" in line(lines, "/clock")
    assert line(lines, "/segmentation_node is there").startswith("warning")
    assert line(lines, "batches").startswith("note") and "up to 4 cameras" in line(lines, "batches")
    assert line(lines, "batches").endswith("but are held up: backend 'aot' runs one frame at a time")


def test_without_ros_it_looks_at_the_rest(tiny_checkpoint: Path):
    code = "import sys; sys.modules['rclpy'] = None\nfrom sdcpc_ros.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "doctor", "--model", str(tiny_checkpoint)]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ROS 2: not in this shell" in result.stdout and "Traceback" not in result.stderr


def test_a_node_that_segments_is_never_accused(start_node, doctor, peer, image, street, tiny_checkpoint):
    """Of cameras at 5 Hz, one straight and one remapped, in a namespace; whatever discovery has found yet."""
    topics, picture = ("/robot/eye/image_raw", "/realsense/color"), street()
    publishers = [peer.node.create_publisher(Image, topic, BEST_EFFORT) for topic in topics]

    def publish() -> None:
        for publisher in publishers:
            publisher.publish(image(picture, peer.node.get_clock().now().nanoseconds / 1e9))

    timer = peer.node.create_timer(0.2, publish)
    program = ("-m", "sdcpc_ros.nodes.segmentation_node", "--ros-args", "-r", f"side/image_raw:={topics[1]}", "--")
    node = start_node(program=program, namespace="/robot", model=tiny_checkpoint, device="cpu", cameras="[eye, side]")
    for camera in ("eye", "side"):
        peer.wait_until(lambda camera=camera: peer.count(camera, "processed") > 2, "masks")
    status, lines = doctor("--node", "/robot/segmentation_node")
    assert status == 0, lines
    for topic in topics:
        assert "images reached the node in" in line(lines, topic)
    assert "/robot/segmentation_node is active" in line(lines, "is active")
    peer.node.destroy_timer(timer)
    for publisher in publishers:
        peer.node.destroy_publisher(publisher)
    assert node.stop() == 0


def test_a_node_that_rejects_every_image_is_at_fault(start_node, doctor, peer, image, street, tiny_checkpoint):
    publisher, bad = (
        peer.node.create_publisher(Image, "/camera/image_raw", BEST_EFFORT),
        image(street(), encoding="mono17"),
    )
    timer = peer.node.create_timer(0.1, lambda: publisher.publish(bad))
    node = start_node(model=tiny_checkpoint, device="cpu")
    peer.wait_until(lambda: peer.count("camera", "rejected") > 2, "images that are rejected")
    status, lines = doctor()
    assert status == 1
    assert "every image is rejected: unknown_encoding" in line(lines, "FAULT    camera")
    peer.node.destroy_timer(timer)
    peer.node.destroy_publisher(publisher)
    assert node.stop() == 0


def test_outputs_of_segmentation_nodes_are_not_offered_as_a_camera(start_node, doctor, camera, tiny_checkpoint):
    """Neither to the node itself nor to one that does not run yet."""
    node = start_node(namespace="/robot", model=tiny_checkpoint, device="cpu", cameras="[front]")
    node.wait_for_log("subscribes to")
    for arguments, topic in (
        (("--node", "/robot/segmentation_node"), "/robot/front/image_raw"),
        (("--image-topic", "/camera/image_raw"), "/camera/image_raw"),
    ):
        status, lines = doctor(*arguments)
        assert status == 1
        fault = line(lines, "nobody publishes it")
        assert fault.startswith(f"FAULT    {topic}")
        assert fault.partition("to one that is there: ")[2] == "/eye/image_raw"
    assert node.stop() == 0


def test_two_nodes_of_one_name_and_a_finalized_node_are_told(start_node, doctor, peer):
    nodes = [start_node(autostart="false") for _ in range(2)]
    peer.wait_until(lambda: peer.node.get_node_names().count("segmentation_node") == 2, "both nodes")
    told = line(doctor()[1], "2 nodes are called /segmentation_node")
    assert told.startswith("warning") and "end all but one" in told
    # rmw_fastrtps may list the ended node for ever in a process that knew it, as the peer's: only the doctor is asked.
    assert nodes[0].stop() == 0
    assert peer.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    lines = doctor()[1]
    assert "start it again" in line(lines, "/segmentation_node is finalized")
    assert not [text for text in lines if "nodes are called" in text]
    assert nodes[1].stop() == 0
