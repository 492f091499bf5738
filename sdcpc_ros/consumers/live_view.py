"""`sdcpc view --live`: shows the images and masks of a running node's camera in Rerun."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from sdcpc_ros.consumers.running import subscribe_to_label_info
from sdcpc_ros.images.compressed_headers import MAX_PIXELS
from sdcpc_ros.images.decoding import BadImage, to_rgb
from sdcpc_ros.images.label_pictures import label_ids
from sdcpc_ros.labels.label_set import IGNORE, LabelSet, label_set_of_ids
from sdcpc_ros.nodes.topics import CONFIDENCE, DIAGNOSTICS, IMAGE_TYPES, LABEL, LABEL_INFO, message_type
from sdcpc_ros.viewing.recording import RerunRecording, ViewingError

_SENSOR_DATA = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_MOST_WAITING = 30  # incomplete frames; each holds an image
_PATIENCE_S = 15.0  # for the node's first report and its LabelInfo: discovery takes seconds on a busy machine


class LiveView(Node):
    """Joins image, mask and confidence by stamp; a frame is shown when mask and confidence have come.

    A camera image that best-effort transport lost is left out. Resets come from the node's counters in /diagnostics.
    """

    def __init__(self, node_name: str, camera: str, label_set: LabelSet | None, context: Context) -> None:
        super().__init__("sdcpc_view", context=context)
        self.label_set = label_set
        self.image_topic = ""
        self.recording: RerunRecording | None = None
        self.shown = 0
        self._status = f"{node_name.strip('/')}: {camera}"
        self._parts: dict[int, dict[str, Any]] = {}  # stamp in ns -> "image", "label" and "confidence", as they come
        self._resets: Counter[str] | None = None
        self._reset: str | None = None
        self._shape: tuple[int, ...] | None = None
        base = f"{node_name}/{camera}/"
        self.label_topic = base + LABEL.name
        if label_set is None and not subscribe_to_label_info(self, self._on_label_info, base + LABEL_INFO.name):
            raise ViewingError("without vision_msgs no LabelInfo names the classes; --model names the node's model")
        self.create_subscription(Image, self.label_topic, self._keeper("label"), _SENSOR_DATA)
        self.create_subscription(Image, base + CONFIDENCE.name, self._keeper("confidence"), _SENSOR_DATA)
        self.create_subscription(DiagnosticArray, DIAGNOSTICS.name, self._on_report, 10)

    def _on_label_info(self, message: Any) -> None:
        classes = ((entry.class_id, entry.class_name) for entry in message.class_map)
        label_set = label_set_of_ids("live", classes)
        if self.recording is not None and label_set != self.label_set:
            self.recording.note(self.shown, "the node has other classes now, which are not shown: start the view again")
        self.label_set = label_set

    def _on_report(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name != self._status:
                continue
            values = {pair.key: pair.value for pair in status.values}
            if not self.image_topic and values.get("image topic"):
                self.image_topic = values["image topic"]
                image_type = message_type(IMAGE_TYPES[values.get("transport", "raw")])
                self.create_subscription(image_type, self.image_topic, self._keeper("image"), _SENSOR_DATA)
            counts = {key: int(value) for key, value in values.items() if key.startswith("resets: ")}
            resets = Counter({key.removeprefix("resets: "): count for key, count in counts.items()})
            new = resets - (resets if self._resets is None else self._resets)
            self._reset, self._resets = ", ".join(new) or self._reset, resets

    def _keeper(self, part: str) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            parts = self._parts.setdefault(stamp_ns, {})
            parts[part] = message
            if self.recording is not None and {"label", "confidence"} <= parts.keys():
                self._show(self.recording, stamp_ns, self._parts.pop(stamp_ns))
            if len(self._parts) > _MOST_WAITING:
                self._parts.pop(next(iter(self._parts)))

        return keep

    def _show(self, recording: RerunRecording, stamp_ns: int, parts: dict[str, Any]) -> None:
        try:
            ids, confidence = label_ids(parts["label"]), label_ids(parts["confidence"])
            labels = np.where((ids < 0) | (ids > IGNORE), IGNORE, ids).astype(np.uint8)  # others have no class
            image = np.ascontiguousarray(to_rgb(parts["image"], MAX_PIXELS)) if "image" in parts else None
        except BadImage as error:
            recording.note(self.shown, str(error))
            return
        reset, self._reset = self._reset, None
        if self._shape is not None and labels.shape != self._shape:
            reset = reset or "size"
        self._shape = labels.shape
        recording.add(self.shown, stamp_ns, labels, image=image, confidence=confidence, reset=reset)
        self.shown += 1


def view_live(node_name: str, camera: str, file: Path | None, label_set: LabelSet | None = None) -> int:
    """Show a running node's camera until Ctrl-C. Returns how many masks were shown.

    label_set: the node's classes; None: those of its LabelInfo, with the colours of a known label set with these names.
    Raises ViewingError if the node publishes no classes or no image topic within 15 s, or as RerunRecording.
    """
    node_name = "/" + node_name.strip("/")
    context = Context()
    stop = threading.Event()  # Python must not raise KeyboardInterrupt in the middle of a frame
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor(context=context)
    try:
        view = LiveView(node_name, camera, label_set, context)
        executor.add_node(view)
        give_up_s = time.monotonic() + _PATIENCE_S
        while not (view.image_topic and view.label_set):
            if stop.is_set():
                raise KeyboardInterrupt
            if time.monotonic() > give_up_s:
                missing = "names no classes beside" if view.image_topic else "reports nothing in /diagnostics for"
                raise ViewingError(
                    f"{node_name} {missing} {view.label_topic}: is it configured, and its camera called '{camera}'? "
                    "`ros2 topic list` shows NODE/CAMERA/label/image_raw; --node and --camera name them"
                )
            executor.spin_once(timeout_sec=0.1)
        with RerunRecording(view.label_set, f"{node_name} {camera}", file) as view.recording:
            while not stop.is_set():
                executor.spin_once(timeout_sec=0.1)
        return view.shown
    finally:
        executor.shutdown()
        rclpy.try_shutdown(context=context)
        for number, handler in before.items():
            signal.signal(number, handler)
