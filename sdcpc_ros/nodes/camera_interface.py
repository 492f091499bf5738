"""The ROS interface of one camera: its subscriptions and publishers, and what it logs and reports."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.labels.label_map import LabelMap
from sdcpc_ros.nodes.camera_info import BadCameraInfo, check_camera_info
from sdcpc_ros.nodes.camera_inputs import CameraInputs
from sdcpc_ros.nodes.camera_outputs import CameraOutputs
from sdcpc_ros.nodes.camera_stream import CameraStream, ReceivedImage, StreamStatus
from sdcpc_ros.nodes.camera_watch import CameraWatch, silence_sentence
from sdcpc_ros.nodes.declared_parameters import DeclaredParameters
from sdcpc_ros.nodes.diagnostics import CameraReporter
from sdcpc_ros.nodes.image_messages import image_format
from sdcpc_ros.nodes.parameters import CameraParameters, NodeParameters
from sdcpc_ros.streaming.geometry import MIN_SIDE

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter


class CameraInterface:
    """Lives from configure to cleanup, listens from `subscribe` to `unsubscribe`.

    The subscriptions' callbacks, on the executor's thread, check messages and put them into `stream`. The worker's
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
        self._node = node
        self._segmenter = segmenter
        self._declared = declared
        self._on_frame: Callable[[], None] = lambda: None
        self.camera_info: CameraInfo | None = None  # the last one
        self.stream = CameraStream(parameters.name)
        self._watch = CameraWatch()
        self._inputs = CameraInputs(node, parameters, self._on_image, self._on_camera_info)
        self._reporter = CameraReporter(node.get_fully_qualified_name(), parameters.name)
        self.outputs = CameraOutputs(node, parameters.name, segmenter.label_set, label_map)

    def subscribe(self, on_frame: Callable[[], None]) -> None:
        """Publishes the label info, then listens; `on_frame` is called when an image waits in the stream."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self.outputs.publish_label_info(header, self._declared.current.confidence_threshold)
        self._on_frame = on_frame
        self._inputs.subscribe()
        self._node.get_logger().info(
            f"camera '{self.stream.name}': listens to {self._inputs.image_topic} ({self._inputs.type_name}) "
            f"and {self._inputs.camera_info_topic}; publishes {', '.join(self.outputs.topic_names())}"
        )

    def unsubscribe(self) -> None:
        """Stops listening and drops what waits; not to be called while the worker runs."""
        self._inputs.unsubscribe()
        self.camera_info = None
        self.stream.discard_waiting()
        self._segmenter.remove_stream(self.stream.name)

    def destroy(self) -> None:
        self.outputs.destroy()

    def report(self, *, active: bool) -> DiagnosticStatus:
        """What /diagnostics says of this camera; rates and levels are over the time since the last call."""
        status, now_s = self.stream.status(), time.monotonic()
        if self._inputs.follow_graph():
            self._node.get_logger().info(
                f"camera '{self.stream.name}': {self._inputs.image_topic} is published as {self._inputs.type_name}: "
                "subscribed again with that type"
            )
        self._warn_on_console(status, now_s, active and self._inputs.is_subscribed)
        connections = {
            "image topic": self._inputs.image_topic,
            "transport": self._inputs.transport,
            "camera_info topic": self._inputs.camera_info_topic,
        }
        fill = self._segmenter.buffer_fill(self.stream.name)
        return self._reporter.report(status, connections, now_s=now_s, active=active, buffer_fill=fill)

    def report_reset(self, image: ReceivedImage, cause: str, parameters: NodeParameters) -> None:
        """Counts and logs that the frame buffer was emptied before an image; call it before its mask is published."""
        self.stream.count_reset(cause)
        if cause == "backward":
            # A bag started again: recorders and late consumers on its clock have no label info yet.
            self.outputs.publish_label_info(image.message.header, parameters.confidence_threshold)
        if self.stream.may_warn(f"reset {cause}", time.monotonic()):
            self._node.get_logger().info(
                f"camera '{self.stream.name}': frame buffer emptied at stamp {image.stamp_s:.3f} s (cause: {cause})"
            )

    def report_lost(self, image: ReceivedImage, error: Exception) -> None:
        """Counts and logs an image that got no mask."""
        if isinstance(error, BadImage):
            self.stream.count_rejected(error.cause)
            self._warn_rejected(image.message, error)
            return
        self.stream.count_fault()
        if self.stream.may_warn("fault", time.monotonic()):
            self._node.get_logger().error(
                f"camera '{self.stream.name}': a frame was lost to {type(error).__name__}: {error}\n"
                f"{''.join(traceback.format_exception(error))}"
            )

    def _warn_on_console(self, status: StreamStatus, now_s: float, active: bool) -> None:
        """Warns where no image comes, or too many; nothing else on the console would say so."""
        if self._watch.is_silent(status, now_s, active):
            # By their publishers: the node's own subscription makes a topic of its type, too.
            published = {
                topic: sorted({info.topic_type for info in self._node.get_publishers_info_by_topic(topic)})
                for topic, _ in self._node.get_topic_names_and_types()
            }
            sentence = silence_sentence(
                self.stream.name,
                self._inputs.image_topic,
                self._inputs.accepted_types,
                published,
                self._node.get_fully_qualified_name(),
            )
            self._node.get_logger().warning(sentence)
        overload = self._watch.overload(status, now_s, active)
        if overload is not None:
            self._node.get_logger().warning(f"camera '{self.stream.name}': {overload}")

    def _on_image(self, message: Any) -> None:
        received_s = time.monotonic()
        try:
            checked = image_format(message, self._declared.current.max_image_pixels)
            if min(checked.height, checked.width) < MIN_SIDE:
                size = f"{checked.width} x {checked.height}"
                raise BadImage("too_small", f"the image is {size} pixels; at least {MIN_SIDE} a side are needed")
        except BadImage as error:
            self.stream.count_rejected(error.cause, received_s)
            self._warn_rejected(message, error)
            return
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        image = ReceivedImage(message, checked, stamp_ns, received_s)
        self.stream.offer(image, input_age_s=(self._node.get_clock().now().nanoseconds - stamp_ns) * 1e-9)
        self._on_frame()

    def _on_camera_info(self, info: CameraInfo) -> None:
        try:
            check_camera_info(info)
        except BadCameraInfo as error:
            self.stream.count_bad_camera_info()
            if self.stream.may_warn("camera_info", time.monotonic()):
                self._node.get_logger().warning(f"{self._inputs.camera_info_topic}: {error}; it is not passed on")
            return
        self.camera_info = info

    def _warn_rejected(self, message: Any, error: BadImage) -> None:
        if self.stream.may_warn(error.cause, time.monotonic()):
            stamp = message.header.stamp
            self._node.get_logger().warning(
                f"{self._inputs.image_topic}: image with stamp {stamp.sec}.{stamp.nanosec:09d} rejected "
                f"({error.cause}): {error}"
            )
