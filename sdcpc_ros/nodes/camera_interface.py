"""The ROS interface of one camera: its subscriptions and publishers, and what it logs and reports."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.labels.label_map import LabelMap
from sdcpc_ros.nodes.camera_info import camera_info_fault
from sdcpc_ros.nodes.camera_outputs import CameraOutputs
from sdcpc_ros.nodes.camera_stream import CameraStream, ReceivedImage, StreamStatus
from sdcpc_ros.nodes.camera_watch import CameraWatch, silence_sentence
from sdcpc_ros.nodes.declared_parameters import DeclaredParameters
from sdcpc_ros.nodes.diagnostics import CameraReporter
from sdcpc_ros.nodes.image_messages import image_format
from sdcpc_ros.nodes.parameters import CameraParameters, NodeParameters
from sdcpc_ros.nodes.topics import AUTO, IMAGE_TYPES, camera_info_beside, choose_transport, message_type
from sdcpc_ros.streaming.geometry import MIN_SIDE

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter


class CameraInterface:
    """Exists from configure to cleanup; receives images from `subscribe` to `unsubscribe`.

    The subscriptions' callbacks, on the executor's thread, check messages and offer them to the worker. The worker's
    thread calls `report_reset` and `report_lost` and publishes through `outputs`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: CameraParameters,
        segmenter: StreamingSegmenter,
        label_map: LabelMap,
        declared: DeclaredParameters,
    ) -> None:
        self._node, self._logger = node, node.get_logger()
        self._parameters, self._declared, self._segmenter = parameters, declared, segmenter
        self._image_topic = node.resolve_topic_name(parameters.image_topic)
        self._camera_info_topic = self._resolve_camera_info()
        self._transport = self._choose_transport()
        self._subscriptions: list[Any] = []
        self._offer: Callable[[CameraStream, ReceivedImage], None] = lambda stream, image: None
        self._watch = CameraWatch()
        self._reporter = CameraReporter(node.get_fully_qualified_name(), parameters.name)
        self.camera_info: CameraInfo | None = None  # the last one
        self.stream = CameraStream(parameters.name)
        self.outputs = CameraOutputs(node, parameters.name, segmenter.label_set, label_map)

    def subscribe(self, offer: Callable[[CameraStream, ReceivedImage], None]) -> None:
        """Publishes the label info, then subscribes; `offer` is called with each good image."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self.outputs.publish_label_info(header, self._declared.current.confidence_threshold)
        self._offer = offer
        self._transport = self._choose_transport()
        self._create_subscriptions()
        self.stream.active_since_s = time.monotonic()
        self._logger.info(
            f"camera '{self.stream.name}': subscribes to {self._image_topic} ({IMAGE_TYPES[self._transport]}) "
            f"and {self._camera_info_topic}; publishes {', '.join(self.outputs.topic_names())}"
        )

    def unsubscribe(self) -> None:
        """Unsubscribes. Call it only after the worker has stopped."""
        self._destroy_subscriptions()
        self.camera_info = None
        self.stream.active_since_s = None
        self._segmenter.remove_stream(self.stream.name)

    def report(self) -> DiagnosticStatus:
        """The camera's status for /diagnostics; rates and levels cover the time since the last call."""
        status, now_s = self.stream.status(), time.monotonic()
        self._follow_graph()
        self._warn_on_console(status, now_s)
        connections = {
            "image topic": self._image_topic,
            "transport": self._transport,
            "camera_info topic": self._camera_info_topic,
        }
        fill = self._segmenter.buffer_fill(self.stream.name)
        return self._reporter.report(status, connections, now_s=now_s, buffer_fill=fill)

    def report_reset(self, image: ReceivedImage, cause: str, parameters: NodeParameters) -> None:
        """Counts and logs that the frame buffer was emptied before an image; call it before its mask is published."""
        self.stream.count(f"resets: {cause}")
        if cause == "backward":
            # A bag started again: recorders and consumers that follow its clock have no label info yet.
            self.outputs.publish_label_info(image.message.header, parameters.confidence_threshold)
        if self.stream.may_warn(f"reset {cause}", time.monotonic()):
            self._logger.info(
                f"camera '{self.stream.name}': frame buffer emptied at stamp {image.stamp_s:.3f} s (cause: {cause})"
            )

    def report_lost(self, message: Any, error: Exception) -> None:
        """Counts and logs an image message that gets no mask."""
        if isinstance(error, BadImage):
            self.stream.count(f"rejected: {error.cause}")
            if self.stream.may_warn(error.cause, time.monotonic()):
                stamp = message.header.stamp
                self._logger.warning(
                    f"{self._image_topic}: image with stamp {stamp.sec}.{stamp.nanosec:09d} rejected "
                    f"({error.cause}): {error}"
                )
            return
        self.stream.count("lost to faults")
        if self.stream.may_warn("fault", time.monotonic()):
            self._logger.error(
                f"camera '{self.stream.name}': a frame was lost to {type(error).__name__}: {error}\n"
                f"{''.join(traceback.format_exception(error))}"
            )

    def _on_image(self, message: Any) -> None:
        received_s = time.monotonic()
        self.stream.count_received(received_s)
        try:
            checked = image_format(message, self._declared.current.max_image_pixels)
            if min(checked.height, checked.width) < MIN_SIDE:
                size = f"{checked.width} x {checked.height}"
                raise BadImage("too_small", f"the image is {size} pixels; at least {MIN_SIDE} a side are needed")
        except BadImage as error:
            self.report_lost(message, error)
            return
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.stream.input_age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        self._offer(self.stream, ReceivedImage(message, checked, stamp_ns, received_s))

    def _on_camera_info(self, info: CameraInfo) -> None:
        fault = camera_info_fault(info)
        if fault is None:
            self.camera_info = info
            return
        self.stream.count("camera_info refused")
        if self.stream.may_warn("camera_info", time.monotonic()):
            self._logger.warning(f"{self._camera_info_topic}: {fault}; it is not passed on")

    def _create_subscriptions(self) -> None:
        for message_class, topic, callback in (
            (message_type(IMAGE_TYPES[self._transport]), self._image_topic, self._on_image),
            (CameraInfo, self._camera_info_topic, self._on_camera_info),
        ):
            subscription = self._node.create_subscription(
                message_class,
                topic,
                callback,
                # Best effort connects to reliable and best-effort publishers alike.
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            self._subscriptions.append(subscription)

    def _destroy_subscriptions(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _follow_graph(self) -> None:
        """With transport auto, subscribes again if the image topic has the other type now."""
        transport = self._choose_transport(self._transport)
        if not self._subscriptions or transport == self._transport:
            return
        self._destroy_subscriptions()
        self._transport = transport
        self._create_subscriptions()
        self._logger.info(
            f"camera '{self.stream.name}': {self._image_topic} is published as {IMAGE_TYPES[self._transport]}: "
            "subscribed again with that type"
        )

    def _choose_transport(self, current: str | None = None) -> str:
        if self._parameters.transport != AUTO:
            return self._parameters.transport
        published = {info.topic_type for info in self._node.get_publishers_info_by_topic(self._image_topic)}
        return choose_transport(self._image_topic, published, current)

    def _resolve_camera_info(self) -> str:
        """The default is beside the image topic after remapping, unless it is remapped itself."""
        chosen = self._parameters.camera_info_topic
        default = camera_info_beside(self._parameters.image_topic)
        resolved = self._node.resolve_topic_name(chosen or default)
        if chosen or resolved != self._node.resolve_topic_name(default, only_expand=True):
            return resolved
        return self._node.resolve_topic_name(camera_info_beside(self._image_topic))

    def _warn_on_console(self, status: StreamStatus, now_s: float) -> None:
        """Logs a warning if no images arrive, or more than the network can process."""
        if silent_s := self._watch.silence_s(status, now_s):
            # By publisher, because the node's own subscription also creates a topic of its type.
            published = {
                topic: sorted({info.topic_type for info in self._node.get_publishers_info_by_topic(topic)})
                for topic, _ in self._node.get_topic_names_and_types()
            }
            accepted = IMAGE_TYPES if self._parameters.transport == AUTO else [self._transport]
            types = [IMAGE_TYPES[transport] for transport in accepted]
            node_name = self._node.get_fully_qualified_name()
            camera = self.stream.name
            self._logger.warning(silence_sentence(camera, self._image_topic, types, published, node_name, silent_s))
        overload = self._watch.overload(status, now_s)
        if overload is not None:
            self._logger.warning(f"camera '{self.stream.name}': {overload}")
