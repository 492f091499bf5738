"""One camera of the node: its subscriptions, its stream, its outputs, and what happens to one of its frames."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
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
from sdcpc_ros.nodes.camera_stream import CameraStream, Frame, StreamStatus
from sdcpc_ros.nodes.camera_watch import CameraWatch, Wanted, silence_sentence
from sdcpc_ros.nodes.diagnostics import CameraReporter
from sdcpc_ros.nodes.image_messages import image_format, to_rgb
from sdcpc_ros.nodes.parameters import CameraParameters, NodeParameters
from sdcpc_ros.streaming.geometry import MIN_SIDE, to_network
from sdcpc_ros.streaming.stream_frame import StreamFrame

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter


@dataclass(frozen=True)
class PreparedFrame:
    """A frame that the network may see."""

    frame: Frame
    request: StreamFrame  # its image is of the mask's size
    settings: NodeParameters  # as they were then
    decode_ms: float


class Camera:
    """Lives from configure to cleanup, listens from `subscribe` to `unsubscribe`.

    The subscriptions' callbacks, on the executor's threads, only check and store; the worker's thread does the work:
    `prepare`, the network, `finish`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: CameraParameters,
        segmenter: StreamingSegmenter,
        label_map: LabelMap,
        read_parameters: Callable[[], NodeParameters],
    ) -> None:
        self._node = node
        self._segmenter = segmenter
        self._read_parameters = read_parameters
        self._camera_info: CameraInfo | None = None
        self._on_frame: Callable[[], None] = lambda: None
        settings = read_parameters()
        self.stream = CameraStream(parameters.name, max_gap_s=settings.max_gap)
        self._watch = CameraWatch()
        self._inputs = CameraInputs(node, parameters, self._on_image, self._on_camera_info)
        self._reporter = CameraReporter(node.get_fully_qualified_name(), parameters.name)
        self._outputs = CameraOutputs(node, parameters.name, segmenter.label_set, label_map)

    def subscribe(self, on_frame: Callable[[], None]) -> None:
        """Sends the label info, then listens; `on_frame` is called when a frame waits in the stream."""
        self.stream.forget()
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._outputs.publish_label_info(header, self._read_parameters().confidence_threshold)
        self._on_frame = on_frame
        self._inputs.subscribe()
        self._say_what_is_connected()

    def unsubscribe(self) -> None:
        """Stops listening and forgets the frames seen; not to be called while the worker does."""
        self._inputs.unsubscribe()
        self._camera_info = None
        self._segmenter.reset(self.stream.name)

    def destroy(self) -> None:
        self._outputs.destroy()

    def report(self, *, active: bool) -> DiagnosticStatus:
        """What /diagnostics says of this camera; rates and levels are over the time since the last call."""
        status, now_s = self.stream.status(), time.monotonic()
        if self._inputs.follow_graph():
            self._node.get_logger().info(
                f"camera '{self.stream.name}': {self._inputs.image_topic} is published as {self._inputs.type_name}: "
                "subscribed again with that type"
            )
        self._tell_console(status, now_s, active and self._inputs.is_subscribed)
        connections = {
            "image topic": self._inputs.image_topic,
            "transport": self._inputs.transport,
            "camera_info topic": self._inputs.camera_info_topic,
        }
        fill = self._segmenter.buffer_fill(self.stream.name)
        return self._reporter.report(status, connections, now_s=now_s, active=active, buffer_fill=fill)

    def prepare(self, frame: Frame) -> PreparedFrame | None:
        """Decodes a frame and applies the rules of time. Never raises: what goes wrong is logged and counted."""
        try:
            return self._prepare(frame)
        except Exception as error:
            self._lose(frame, error)
            return None

    def finish(self, prepared: PreparedFrame, outcome: Segmentation | Exception) -> None:
        """Publishes what the network gave, or what it failed with is logged and counted. Never raises."""
        try:
            if isinstance(outcome, Exception):
                raise outcome
            self._publish(prepared, outcome)
        except Exception as error:
            self._lose(prepared.frame, error)

    def _prepare(self, frame: Frame) -> PreparedFrame:
        settings = self._read_parameters()
        begun = time.perf_counter()
        image = to_rgb(frame.message, settings.max_image_pixels)
        decoded = time.perf_counter()
        self._apply_time_rules(frame, settings)
        if settings.output_size == "network":
            image = to_network(image, self._segmenter.network_size(frame.size))
        confidence = self._outputs.needs_confidence(settings)
        request = StreamFrame(image, frame.stamp_s, self.stream.name, confidence)
        return PreparedFrame(frame, request, settings, decode_ms=(decoded - begun) * 1e3)

    def _publish(self, prepared: PreparedFrame, segmentation: Segmentation) -> None:
        begun = time.perf_counter()
        self._outputs.publish(
            prepared.frame.message.header,
            prepared.request.image,
            segmentation.labels,
            segmentation.confidence,
            self._camera_info,
            prepared.settings,
        )
        published = time.perf_counter()
        self.stream.count_processed(
            {
                "decode": prepared.decode_ms,
                **segmentation.stage_ms,
                "publish": (published - begun) * 1e3,
                "total": (time.monotonic() - prepared.frame.received_s) * 1e3,
            },
            segmentation.batch,
        )

    def _lose(self, frame: Frame, error: Exception) -> None:
        if isinstance(error, BadImage):
            self.stream.count_rejected(error.cause)
            self._warn_rejected(frame.message, error)
            return
        self.stream.count_fault()
        if self.stream.may_warn("fault", time.monotonic()):
            self._node.get_logger().error(
                f"camera '{self.stream.name}': a frame was lost to {type(error).__name__}: {error}\n"
                f"{''.join(traceback.format_exception(error))}"
            )

    def _apply_time_rules(self, frame: Frame, settings: NodeParameters) -> None:
        self.stream.max_gap_s = settings.max_gap
        cause = self.stream.follow(frame)
        if cause is None:
            return
        self._segmenter.reset(self.stream.name)
        if cause == "backward":
            # A bag began again: recorders and late consumers on its clock have no label info yet.
            self._outputs.publish_label_info(frame.message.header, settings.confidence_threshold)
        if self.stream.may_warn(f"reset {cause}", time.monotonic()):
            self._node.get_logger().info(
                f"camera '{self.stream.name}': frame buffer emptied at stamp {frame.stamp_s:.3f} s (cause: {cause})"
            )

    def _say_what_is_connected(self) -> None:
        self._node.get_logger().info(
            f"camera '{self.stream.name}': listens to {self._inputs.image_topic} ({self._inputs.type_name}) "
            f"and {self._inputs.camera_info_topic}; "
            f"publishes {', '.join(self._outputs.topic_names())}"
        )

    def _tell_console(self, status: StreamStatus, now_s: float, active: bool) -> None:
        """Warns where no image comes, or too many; nothing else on the console would say so."""
        if self._watch.is_silent(status, now_s, active):
            wanted = Wanted(self.stream.name, self._inputs.image_topic, self._inputs.accepted_types)
            # By their publishers: the node's own subscription makes a topic of its type, too.
            published = {
                topic: sorted({info.topic_type for info in self._node.get_publishers_info_by_topic(topic)})
                for topic, _ in self._node.get_topic_names_and_types()
            }
            sentence = silence_sentence(wanted, published, self._node.get_fully_qualified_name())
            self._node.get_logger().warning(sentence)
        overload = self._watch.overload(status, now_s, active)
        if overload is not None:
            self._node.get_logger().warning(f"camera '{self.stream.name}': {overload}")

    def _on_image(self, message: Any) -> None:
        received_s = time.monotonic()
        try:
            checked = image_format(message, self._read_parameters().max_image_pixels)
            if min(checked.height, checked.width) < MIN_SIDE:
                size = f"{checked.width} x {checked.height}"
                raise BadImage("too_small", f"the image is {size} pixels; at least {MIN_SIDE} a side are needed")
        except BadImage as error:
            self.stream.count_rejected(error.cause, received_s)
            self._warn_rejected(message, error)
            return
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        frame = Frame(
            message=message,
            stamp_ns=stamp_ns,
            frame_id=message.header.frame_id,
            size=(checked.height, checked.width),
            encoding=checked.encoding,
            received_s=received_s,
        )
        self.stream.offer(frame, input_age_s=(self._node.get_clock().now().nanoseconds - stamp_ns) * 1e-9)
        self._on_frame()

    def _on_camera_info(self, info: CameraInfo) -> None:
        try:
            check_camera_info(info)
        except BadCameraInfo as error:
            self.stream.count_bad_camera_info()
            if self.stream.may_warn("camera_info", time.monotonic()):
                self._node.get_logger().warning(f"{self._inputs.camera_info_topic}: {error}; it is not passed on")
            return
        self._camera_info = info

    def _warn_rejected(self, message: Any, error: BadImage) -> None:
        if self.stream.may_warn(error.cause, time.monotonic()):
            stamp = message.header.stamp
            self._node.get_logger().warning(
                f"{self._inputs.image_topic}: image with stamp {stamp.sec}.{stamp.nanosec:09d} rejected "
                f"({error.cause}): {error}"
            )
