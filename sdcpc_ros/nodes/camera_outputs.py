"""The publishers of one camera, and the messages made from a segmentation."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from sdcpc_ros.labels.label_map import LabelMap
from sdcpc_ros.labels.label_set import IGNORE, LabelSet
from sdcpc_ros.nodes import topics
from sdcpc_ros.nodes.camera_info import scale_camera_info
from sdcpc_ros.nodes.image_messages import ImageWriter, compressed_mask
from sdcpc_ros.nodes.parameters import NodeParameters
from sdcpc_ros.nodes.topics import OutputTopic
from sdcpc_ros.streaming.class_statistics import class_statistics
from sdcpc_ros.streaming.overlay import OverlayPainter


@lru_cache(maxsize=1)
def label_info_types() -> tuple[Any, Any] | None:
    """(LabelInfo, VisionClass) where vision_msgs is installed."""
    try:
        from vision_msgs.msg import LabelInfo, VisionClass
    except ImportError:
        return None
    return LabelInfo, VisionClass


@lru_cache(maxsize=1)
def statistics_message_type() -> Any | None:
    """ClassStatistics where the package's own messages are built."""
    try:
        from sdcpc_ros.msg import ClassStatistics
    except ImportError:
        return None
    return ClassStatistics


class CameraOutputs:
    """The publishers of one camera, from configure to cleanup. Publishing is for one thread at a time."""

    def __init__(self, node: LifecycleNode, camera_name: str, label_set: LabelSet, label_map: LabelMap) -> None:
        """label_set: the model's; label_map: the ids that are published."""
        self._node = node
        self._camera_name = camera_name
        self._label_map = label_map
        self._publishers: dict[OutputTopic, Any] = {}
        self._label_info_types, self._statistics_type = label_info_types(), statistics_message_type()
        message_types = {
            topics.LABEL: Image,
            topics.LABEL_COMPRESSED: CompressedImage,
            topics.LABEL_COLOR: Image,
            topics.LABEL_CAMERA_INFO: CameraInfo,
            topics.CONFIDENCE: Image,
            topics.OVERLAY: Image,
        }
        if self._label_info_types is not None:
            message_types[topics.LABEL_INFO] = self._label_info_types[0]
        if self._statistics_type is not None:
            message_types[topics.CLASS_STATISTICS] = self._statistics_type
        try:
            for topic, message_type in message_types.items():
                self._create_publisher(topic, message_type)
        except Exception:  # an override of the quality of service that rclpy refuses
            self.destroy()
            raise
        self._label_writer = ImageWriter(label_map.encoding)
        self._confidence_writer = ImageWriter("mono8")
        self._overlay_writer, self._color_writer = ImageWriter("rgb8"), ImageWriter("rgb8")
        self._painter = OverlayPainter(label_set)

    def destroy(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def topic_names(self) -> list[str]:
        """Full names of the published topics, after remapping."""
        return [publisher.topic_name for publisher in self._publishers.values()]

    def needs_confidence(self, parameters: NodeParameters) -> bool:
        """Whether an output for the next frame depends on the network's confidence."""
        return (
            parameters.confidence_threshold > 0
            or self._has_subscriber(topics.CONFIDENCE)
            or self._has_subscriber(topics.CLASS_STATISTICS)
        )

    def publish_label_info(self, header: Header, confidence_threshold: float) -> None:
        """Publishes the names and ids of the classes, which consumers need before the first mask."""
        if self._label_info_types is None:
            return
        label_info, vision_class = self._label_info_types
        class_map = [vision_class(class_id=number, class_name=name) for number, name in self._label_map.listed]
        message = label_info(header=header, class_map=class_map, threshold=float(confidence_threshold))
        self._publishers[topics.LABEL_INFO].publish(message)

    def publish(
        self,
        header: Header,
        image: np.ndarray,
        labels: np.ndarray,
        confidence: np.ndarray | None,
        camera_info: CameraInfo | None,
        parameters: NodeParameters,
    ) -> None:
        """Publishes the messages of one frame, the mask first.

        image: (H, W, 3) uint8 RGB. labels, the model's ids, and confidence: (H, W) uint8. camera_info: the camera's, of
        any size.
        """
        if parameters.confidence_threshold > 0 and confidence is not None:
            labels = np.where(confidence < parameters.confidence_threshold * 255, np.uint8(IGNORE), labels)
        mask = self._label_map.published(labels)
        self._publishers[topics.LABEL].publish(self._label_writer.write(header, mask))
        if self._has_subscriber(topics.LABEL_COMPRESSED):
            self._publishers[topics.LABEL_COMPRESSED].publish(compressed_mask(header, mask, self._label_map.encoding))
        if camera_info is not None:
            self._publishers[topics.LABEL_CAMERA_INFO].publish(scale_camera_info(camera_info, header, labels.shape))
        if confidence is not None and self._has_subscriber(topics.CONFIDENCE):
            self._publishers[topics.CONFIDENCE].publish(self._confidence_writer.write(header, confidence))
        if self._has_subscriber(topics.LABEL_COLOR):
            colours = self._painter.colours(self._shown(labels))
            self._publishers[topics.LABEL_COLOR].publish(self._color_writer.write(header, colours))
        if self._has_subscriber(topics.OVERLAY):
            overlay = self._painter.paint(image, self._shown(labels), parameters.overlay_opacity)
            self._publishers[topics.OVERLAY].publish(self._overlay_writer.write(header, overlay))
        if (
            confidence is not None
            and self._statistics_type is not None
            and self._has_subscriber(topics.CLASS_STATISTICS)
        ):
            statistics = self.statistics(labels, confidence)
            self._publishers[topics.CLASS_STATISTICS].publish(self._statistics_type(header=header, **statistics))

    def _create_publisher(self, topic: OutputTopic, message_type: Any) -> None:
        durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.transient_local else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=topic.depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        self._publishers[topic] = self._node.create_lifecycle_publisher(
            message_type,
            f"~/{self._camera_name}/{topic.name}",
            qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _has_subscriber(self, topic: OutputTopic) -> bool:
        publisher = self._publishers.get(topic)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _shown(self, labels: np.ndarray) -> np.ndarray:
        shown = self._label_map.shown
        return labels if shown is None else cv2.LUT(labels, shown)

    def statistics(self, labels: np.ndarray, confidence: np.ndarray) -> dict[str, list[Any]]:
        """The arrays of ClassStatistics, by published ids, for labels and confidence as `publish` takes them."""
        merged = self._label_map.merged
        if merged is None:
            return class_statistics(labels, confidence)
        found = class_statistics(cv2.LUT(labels, merged), confidence)
        found["class_ids"] = self._label_map.lookup[found["class_ids"]].tolist()
        order = np.argsort(found["class_ids"])
        return {name: [values[index] for index in order] for name, values in found.items()}
