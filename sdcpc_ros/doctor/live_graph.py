"""What is going on over DDS right now: the node, its cameras' images, their quality of service, /clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from sensor_msgs.msg import CompressedImage, Image

from sdcpc_ros.doctor.finding import FAULT, NOTE, WARNING, Finding

_IMAGE_TYPES = {
    "raw": ("sensor_msgs/msg/Image", Image),
    "compressed": ("sensor_msgs/msg/CompressedImage", CompressedImage),
}
_SENSOR_DATA = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # as the node subscribes


@dataclass(frozen=True)
class Wanted:
    """What a node would work with: image topic and transport of each camera, and whose time it takes."""

    topics: tuple[tuple[str, str], ...]  # (image topic, transport)
    use_sim_time: bool


def check_graph(node_name: str, wanted: Wanted, listen_s: float) -> Iterator[Finding]:
    """Listens for `listen_s` twice: until everybody is known, then to the images.

    Where a node of this name runs, it is asked what it listens to; `wanted` is for one that is yet to be started.
    """
    with _own_node() as (node, executor):
        _spin(executor, listen_s)
        graph = _Graph(node, executor, listen_s)
        yield from graph.check_node(node_name)
        yield from graph.check_batches(node_name)
        wanted = graph.parameters_of(node_name) or wanted
        yield graph.check_clock(wanted.use_sim_time)
        for topic, transport in wanted.topics:
            yield from graph.check_images(topic, transport, node_name)


class _Graph:
    def __init__(self, node: Node, executor: SingleThreadedExecutor, listen_s: float) -> None:
        self._node, self._executor, self._listen_s = node, executor, listen_s

    def check_node(self, name: str) -> Iterator[Finding]:
        state = self._call(GetState, f"{name}/get_state", GetState.Request())
        if state is None and name in self._node_names():
            fix = "is it stopped, or a node of another kind? Its log says more"
            yield Finding("node", f"{name} is there, but does not tell its state", WARNING, fix)
        elif state is None:
            yield Finding("node", f"{name} does not run; its topics are checked for when it does", NOTE)
        elif state.current_state.label == "active":
            yield Finding("node", f"{name} is active")
        else:
            fix = f"ros2 lifecycle set {name} configure, then activate; its log and /diagnostics say what failed"
            yield Finding("node", f"{name} is {state.current_state.label}: it segments nothing", WARNING, fix)

    def check_batches(self, name: str) -> Iterator[Finding]:
        """Whether cameras' frames go through the network together, as the running node's /diagnostics say."""
        if name not in self._node_names():
            return
        values = self._reported(f"{name.rpartition('/')[2]}: model")
        most, obstacle = values.get("largest batch", ""), values.get("batches held up by", "")
        if most in ("", "1"):
            return
        together = f"frames of up to {most} cameras may go through the network at once"
        if obstacle:
            yield Finding("batches", f"{together}, but are held up: {obstacle}", NOTE)
        else:
            yield Finding("batches", together)

    def parameters_of(self, name: str) -> Wanted | None:
        """What the running node works with; None when there is none that answers."""
        values = self._parameters(name, ["cameras", "use_sim_time"])
        if values is None or not values[0]:
            return None
        cameras, use_sim_time = values
        names = [f"{camera}.{setting}" for camera in cameras for setting in ("image_topic", "transport")]
        settings = self._parameters(name, names)
        if settings is None:
            return None
        namespace = name.rpartition("/")[0]
        topics = []
        for camera, topic, transport in zip(cameras, settings[::2], settings[1::2]):
            transport = transport or "raw"
            topic = topic or f"/{camera}/image_raw" + ("/compressed" if transport == "compressed" else "")
            topics.append((_absolute(topic, name, namespace), transport))
        return Wanted(tuple(topics), bool(use_sim_time))

    def check_clock(self, use_sim_time: bool) -> Finding:
        is_published = self._node.count_publishers("/clock") > 0
        if use_sim_time and not is_published:
            fix = "ros2 bag play BAG --clock, or set use_sim_time to false"
            return Finding("/clock", "use_sim_time is true, but nobody publishes /clock", FAULT, fix)
        if is_published and not use_sim_time:
            fix = "set use_sim_time to true, unless the clock belongs to something else"
            return Finding("/clock", "it is published, but use_sim_time is false", WARNING, fix)
        return Finding("/clock", "published, as use_sim_time asks" if is_published else "not needed, not there")

    def check_images(self, topic: str, transport: str, node_name: str) -> Iterator[Finding]:
        wanted_type, message_type = _IMAGE_TYPES[transport]
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers:
            yield Finding(topic, "nobody publishes it", FAULT, self._other_topics())
            return
        others = sorted({info.topic_type for info in publishers} - {wanted_type})
        if others:
            fix = f"set the camera's transport to {'raw' if transport == 'compressed' else 'compressed'}, or its topic"
            yield Finding(topic, f"it is {', '.join(others)}; {wanted_type} is needed", FAULT, fix)
            return
        own = [
            info.qos_profile
            for info in self._node.get_subscriptions_info_by_topic(topic)
            if _full_name(info) == node_name
        ]
        for info in publishers:
            yield self._check_qos(topic, info, own[0] if own else _SENSOR_DATA)
        yield self._check_arrival(topic, message_type)

    def _check_qos(self, topic: str, publisher: Any, subscription_qos: QoSProfile) -> Finding:
        qos = publisher.qos_profile
        text = f"published by {_full_name(publisher)}, {qos.reliability.name.lower()}, {qos.durability.name.lower()}"
        compatibility, reason = qos_check_compatible(qos, subscription_qos)
        if compatibility == QoSCompatibility.ERROR:
            fix = f"take back the qos_overrides of {topic}.subscription, or offer what they ask for"
            why = reason.removeprefix("ERROR: ").strip(" ;")
            return Finding(topic, f"{text}: does not reach the node: {why}", FAULT, fix)
        return Finding(topic, f"{text}: reaches the node")

    def _check_arrival(self, topic: str, message_type: Any) -> Finding:
        sizes: list[int] = []
        subscription = self._node.create_subscription(
            message_type, topic, lambda data: sizes.append(len(data)), _SENSOR_DATA, raw=True
        )
        _spin(self._executor, self._listen_s)
        self._node.destroy_subscription(subscription)
        if not sizes:
            fix = "is the camera running? If so: the Fast DDS profile has to be set for its driver too"
            return Finding(topic, f"no image came within {self._listen_s:g} s", WARNING, fix)
        rate = len(sizes) / self._listen_s
        return Finding(
            topic, f"{len(sizes)} images in {self._listen_s:g} s ({rate:.1f} Hz), {max(sizes) / 1e6:.2f} MB each"
        )

    def _reported(self, part: str) -> Mapping[str, str]:
        """The values of a status in /diagnostics, by the name of what it is of; none when it does not come in time."""
        found: dict[str, str] = {}

        def keep(message: DiagnosticArray) -> None:
            for status in message.status:
                if status.name == part:
                    found.update((pair.key, pair.value) for pair in status.values)

        subscription = self._node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
        _spin(self._executor, self._listen_s, until=lambda: bool(found))
        self._node.destroy_subscription(subscription)
        return found

    def _node_names(self) -> set[str]:
        return {f"{namespace.rstrip('/')}/{name}" for name, namespace in self._node.get_node_names_and_namespaces()}

    def _other_topics(self) -> str:
        types = {name for name, _ in _IMAGE_TYPES.values()}
        there = sorted(topic for topic, kinds in self._node.get_topic_names_and_types() if types & set(kinds))
        if not there:
            return "start the camera or the bag; ROS_DOMAIN_ID and the discovery range have to be the same there"
        return f"set the camera's image_topic to one that is there: {', '.join(there[:8])}"

    def _parameters(self, node_name: str, names: Sequence[str]) -> list[Any] | None:
        request = GetParameters.Request(names=list(names))
        response = self._call(GetParameters, f"{node_name}/get_parameters", request)
        return None if response is None else [parameter_value_to_python(value) for value in response.values]

    def _call(self, service_type: Any, name: str, request: Any) -> Any | None:
        """The answer, or None when there is no such service, or none in time."""
        client = self._node.create_client(service_type, name)
        try:
            if not client.wait_for_service(timeout_sec=0.5):
                return None
            future = client.call_async(request)
            _spin(self._executor, self._listen_s, until=future.done)
            return future.result() if future.done() else None
        finally:
            self._node.destroy_client(client)


@contextmanager
def _own_node() -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("sdcpc_doctor", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def _spin(executor: SingleThreadedExecutor, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s and not until():
        executor.spin_once(timeout_sec=0.05)


def _full_name(info: Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _absolute(topic: str, node_name: str, namespace: str) -> str:
    if topic.startswith("~/"):
        return node_name + topic[1:]
    return topic if topic.startswith("/") else f"{namespace}/{topic}"
