"""Checks the live ROS graph: the node, its cameras' images, their quality of service, /clock.

Discovery takes seconds on a busy machine, so something counts as missing only after `patience_s` from the start. The
/diagnostics of a running node come first: a topic whose images reach the node has no fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from sdcpc_ros.doctor import FAULT, NOTE, OK, WARNING, Finding
from sdcpc_ros.doctor.observer import Observer, Report
from sdcpc_ros.nodes.parameters import CameraParameters
from sdcpc_ros.nodes.topics import AUTO, CAMERA_TOPICS, IMAGE_TYPES, absolute_name, choose_transport, message_type
from sdcpc_ros.runtime.wording import count_noun

_SENSOR_DATA = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # as the node subscribes
_LEVELS = {DiagnosticStatus.OK: OK, DiagnosticStatus.WARN: WARNING, DiagnosticStatus.STALE: WARNING}


#: The inputs of a node: (image topic, transport) of each camera, and whether it uses /clock.
NodeInputs = tuple[list[tuple[str, str]], bool]


def check_graph(node_name: str, inputs: NodeInputs, listen_s: float, patience_s: float) -> Iterator[Finding]:
    """Checks the node with this name, or, if it does not run, the topics in `inputs`.

    Images are received for `listen_s`.
    """
    with Observer(patience_s) as observer:
        graph = _Graph(observer, node_name, listen_s)
        runs = observer.waits_for(lambda: node_name in observer.node_names())
        if runs:
            yield from graph.check_node()
        else:
            yield Finding("node", f"{node_name} does not run; the topics that it would use are checked", NOTE)
        reports = observer.reports(node_name.strip("/"), listen_s) if runs else {}
        yield from graph.check_name()
        yield from graph.check_reports(reports)
        topics, use_sim_time = (graph.parameters() or ([], None)) if runs else inputs
        # Reported topics are those after remapping.
        reported = [report.values for report in reports.values() if report.values.get("image topic")]
        topics = [(values["image topic"], values.get("transport", "raw")) for values in reported] or topics
        if use_sim_time is not None:
            yield graph.check_clock(use_sim_time)
        elif not topics:
            text = f"{node_name} does not answer get_parameters: its cameras are not checked"
            yield Finding("node", text, WARNING, "see its log; run the doctor again when it answers")
        for topic, transport in topics:
            yield from graph.check_images(topic, transport, reports)


class _Graph:
    def __init__(self, observer: Observer, node_name: str, listen_s: float) -> None:
        self._observer, self._node, self._name, self._listen_s = observer, observer.node, node_name, listen_s

    def check_node(self) -> Iterator[Finding]:
        answer = self._observer.call(GetState, f"{self._name}/get_state", GetState.Request())
        if answer is None:
            fix = "see its log: it may have stopped, or be a node of another kind"
            yield Finding("node", f"{self._name} is there, but does not answer get_state", WARNING, fix)
        elif answer.current_state.label == "active":
            yield Finding("node", f"{self._name} is active")
        else:
            state = answer.current_state.label
            fix = f"ros2 lifecycle set {self._name} configure, then activate; its log and /diagnostics name the cause"
            if state == "finalized":
                fix = "end its process and start it again: no transition leads on"
            text = f"{self._name} is {state}: it does not segment"
            yield Finding("node", text, WARNING, fix)

    def check_name(self) -> Iterator[Finding]:
        count = self._observer.node_names().count(self._name)
        if count > 1:
            fix = "end all but one, or give each its own name or namespace. A killed node is listed for 20 s more"
            yield Finding("node", f"{count} nodes are called {self._name}: each publishes masks", WARNING, fix)

    def check_reports(self, reports: Mapping[str, Report]) -> Iterator[Finding]:
        """The node's own warnings and faults, and whether frames run in batches."""
        for part, report in reports.items():
            level = _LEVELS.get(report.level, FAULT)
            if level != OK:
                fix = "see docs/node.md and the node's log"
                yield Finding(part, report.message, level, fix)
        values = reports["model"].values if "model" in reports else {}
        most, obstacle = values.get("largest batch", ""), values.get("batches held up by", "")
        if most in ("", "1"):
            return
        together = f"frames of up to {most} cameras may run in one batch"
        if obstacle:
            yield Finding("batches", f"{together}, but are held up: {obstacle}", NOTE)
        else:
            yield Finding("batches", together)

    def parameters(self) -> NodeInputs | None:
        """The inputs of the running node, before any remapping; None if it does not answer."""
        values = self._parameters(["cameras", "use_sim_time"])
        if values is None or not values[0]:
            return None
        cameras, use_sim_time = values
        names = [f"{camera}.{setting}" for camera in cameras for setting in ("image_topic", "transport")]
        settings = self._parameters(names)
        if settings is None:
            return None
        topics = []
        for camera, topic, transport in zip(cameras, settings[::2], settings[1::2]):
            transport = transport or AUTO
            topic = CameraParameters.resolve(camera, topic, transport, "").image_topic
            topics.append((absolute_name(topic, self._name), transport))
        return topics, bool(use_sim_time)

    def check_clock(self, use_sim_time: bool) -> Finding:
        def is_published() -> bool:
            return self._node.count_publishers("/clock") > 0

        if use_sim_time and not self._observer.waits_for(is_published):
            fix = "ros2 bag play BAG --clock, or set use_sim_time to false"
            return Finding("/clock", "use_sim_time is true, but nobody publishes /clock", FAULT, fix)
        if is_published() and not use_sim_time:
            fix = "set use_sim_time to true, unless the clock is for other nodes"
            return Finding("/clock", "it is published, but use_sim_time is false", WARNING, fix)
        return Finding("/clock", "published, and use_sim_time is true" if use_sim_time else "not needed")

    def check_images(self, topic: str, transport: str, reports: Mapping[str, Report]) -> Iterator[Finding]:
        report = next((r for r in reports.values() if r.values.get("image topic") == topic), None)
        if report is not None and report.received:
            yield Finding(topic, f"{count_noun(report.received, 'image')} reached the node in {report.seconds:.0f} s")
            return
        if not self._observer.waits_for(lambda: self._node.get_publishers_info_by_topic(topic)):
            # A node that is not configured does not report its topics after remapping.
            level = WARNING if reports and report is None else FAULT
            yield Finding(topic, "nobody publishes it", level, self._other_topics(topic))
            return
        publishers = self._node.get_publishers_info_by_topic(topic)
        if transport == AUTO:
            transport = choose_transport(topic, {info.topic_type for info in publishers})
        wanted_type = IMAGE_TYPES[transport]
        fitting = [info for info in publishers if info.topic_type == wanted_type]
        if not fitting:
            others = ", ".join(sorted({info.topic_type for info in publishers}))
            fix = f"set the camera's transport to {'raw' if transport == 'compressed' else 'compressed'}, or its topic"
            yield Finding(topic, f"it is {others}; {wanted_type} is needed", FAULT, fix)
            return
        subscriptions = self._node.get_subscriptions_info_by_topic(topic)
        own = next((info.qos_profile for info in subscriptions if _full_name(info) == self._name), _SENSOR_DATA)
        for info in fitting:
            yield self._check_qos(topic, info, own)
        yield self._check_arrival(topic, message_type(wanted_type))

    def _check_qos(self, topic: str, publisher: Any, subscription_qos: QoSProfile) -> Finding:
        qos = publisher.qos_profile
        text = f"published by {_full_name(publisher)}, {qos.reliability.name.lower()}, {qos.durability.name.lower()}"
        compatibility, reason = qos_check_compatible(qos, subscription_qos)
        if compatibility == QoSCompatibility.ERROR:
            fix = f"remove the qos_overrides of {topic}.subscription, or change the publisher's"
            why = reason.removeprefix("ERROR: ").strip(" ;")
            return Finding(topic, f"{text}: does not reach the node: {why}", FAULT, fix)
        return Finding(topic, f"{text}: reaches the node")

    def _check_arrival(self, topic: str, message_type: Any) -> Finding:
        sizes = self._observer.listen(topic, message_type, _SENSOR_DATA, self._listen_s)
        if not sizes:
            fix = "is the camera running? If so: the Fast DDS profile has to be set for its driver too"
            return Finding(topic, f"no image came within {self._listen_s:g} s", WARNING, fix)
        rate, size_mb = len(sizes) / self._listen_s, max(sizes) / 1e6
        images = count_noun(len(sizes), "image")
        return Finding(topic, f"{images} in {self._listen_s:g} s ({rate:.1f} Hz), {size_mb:.2f} MB each")

    def _other_topics(self, topic: str) -> str:
        """Image topics that a camera may publish. The node's own outputs are excluded.

        Outputs of other segmentation nodes, and of bags with masks, are excluded by their names.
        """
        types = set(IMAGE_TYPES.values())
        outputs = tuple(f"/{output.name}" for output in CAMERA_TOPICS)
        there = sorted(
            name
            for name, kinds in self._node.get_topic_names_and_types()
            if types & set(kinds)
            and name != topic
            and not name.endswith(outputs)
            and any(_full_name(info) != self._name for info in self._node.get_publishers_info_by_topic(name))
        )
        if not there:
            return "start the camera or the bag; ROS_DOMAIN_ID and the discovery range have to be the same there"
        return f"set the camera's image_topic to one that is there: {', '.join(there[:8])}"

    def _parameters(self, names: list[str]) -> list[Any] | None:
        request = GetParameters.Request(names=names)
        response = self._observer.call(GetParameters, f"{self._name}/get_parameters", request)
        return None if response is None else [parameter_value_to_python(value) for value in response.values]


def _full_name(info: Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
