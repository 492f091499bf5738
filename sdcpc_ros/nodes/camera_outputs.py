"""The publishers of one camera, and the messages made from a segmentation."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from sdcpc_ros.labels.label_map import LabelMap
from sdcpc_ros.labels.label_set import IGNORE, LabelSet
from sdcpc_ros.nodes import topics
from sdcpc_ros.nodes.camera_info import scale_camera_info
from sdcpc_ros.nodes.image_messages import ImageWriter, compressed_mask
from sdcpc_ros.nodes.parameters import NodeParameters
from sdcpc_ros.nodes.topics import CAMERA_TOPICS, OutputTopic, message_type
from sdcpc_ros.streaming.class_statistics import class_statistics
from sdcpc_ros.streaming.overlay import OverlayPainter


class CameraOutputs:
    """The publishers of one camera, from configure to cleanup. Not thread-safe."""

    def __init__(self, node: LifecycleNode, camera_name: str, label_set: LabelSet, label_map: LabelMap) -> None:
        """label_set: the model's; label_map: the ids that are published."""
        self._node = node
        self._camera_name = camera_name
        self._label_map = label_map
        self._painter = OverlayPainter(label_set)
        self._announced_threshold = 0.0  # of the last LabelInfo
        self._writers = {
            topics.LABEL: ImageWriter(label_map.encoding),
            topics.CONFIDENCE: ImageWriter("mono8"),
            topics.LABEL_COLOR: ImageWriter("rgb8"),
            topics.OVERLAY: ImageWriter("rgb8"),
        }
        #: Without the topics whose messages are not installed.
        self._publishers: dict[OutputTopic, Any] = {}
        try:
            for topic in CAMERA_TOPICS:
                self._create_publisher(topic)
        except Exception:  # rclpy refuses an override of the quality of service
            self.destroy()
            raise

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
        """Publishes the names and ids of the classes. Consumers need them before the first mask."""
        self._announced_threshold = confidence_threshold
        if topics.LABEL_INFO not in self._publishers:
            return
        from vision_msgs.msg import LabelInfo, VisionClass

        class_map = [VisionClass(class_id=number, class_name=name) for number, name in self._label_map.listed]
        message = LabelInfo(header=header, class_map=class_map, threshold=float(confidence_threshold))
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
        if parameters.confidence_threshold != self._announced_threshold:
            self.publish_label_info(header, parameters.confidence_threshold)
        if parameters.confidence_threshold > 0 and confidence is not None:
            labels = np.where(confidence < parameters.confidence_threshold * 255, np.uint8(IGNORE), labels)
        mask = self._label_map.published(labels)
        self._publish_image(topics.LABEL, header, mask)
        if self._has_subscriber(topics.LABEL_COMPRESSED):
            self._publishers[topics.LABEL_COMPRESSED].publish(compressed_mask(header, mask, self._label_map.encoding))
        if camera_info is not None:
            self._publishers[topics.LABEL_CAMERA_INFO].publish(scale_camera_info(camera_info, header, labels.shape))
        if confidence is not None and self._has_subscriber(topics.CONFIDENCE):
            self._publish_image(topics.CONFIDENCE, header, confidence)
        if self._has_subscriber(topics.LABEL_COLOR):
            self._publish_image(topics.LABEL_COLOR, header, self._painter.colours(self._shown(labels)))
        if self._has_subscriber(topics.OVERLAY):
            overlay = self._painter.paint(image, self._shown(labels), parameters.overlay_opacity)
            self._publish_image(topics.OVERLAY, header, overlay)
        if confidence is not None and self._has_subscriber(topics.CLASS_STATISTICS):
            from sdcpc_ros.msg import ClassStatistics

            statistics = self.statistics(labels, confidence)
            self._publishers[topics.CLASS_STATISTICS].publish(ClassStatistics(header=header, **statistics))

    def statistics(self, labels: np.ndarray, confidence: np.ndarray) -> dict[str, list[Any]]:
        """The arrays of ClassStatistics, by published ids, for labels and confidence as `publish` takes them."""
        merged = self._label_map.merged
        if merged is None:
            return class_statistics(labels, confidence)
        found = class_statistics(cv2.LUT(labels, merged), confidence)
        found["class_ids"] = self._label_map.lookup[found["class_ids"]].tolist()
        order = np.argsort(found["class_ids"])
        return {name: [values[index] for index in order] for name, values in found.items()}

    def _create_publisher(self, topic: OutputTopic) -> None:
        message_class = message_type(topic.type_name)
        if message_class is None:
            return
        durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.transient_local else DurabilityPolicy.VOLATILE
        self._publishers[topic] = self._node.create_lifecycle_publisher(
            message_class,
            f"~/{self._camera_name}/{topic.name}",
            QoSProfile(depth=topic.depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _publish_image(self, topic: OutputTopic, header: Header, pixels: np.ndarray) -> None:
        self._publishers[topic].publish(self._writers[topic].write(header, pixels))

    def _has_subscriber(self, topic: OutputTopic) -> bool:
        publisher = self._publishers.get(topic)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _shown(self, labels: np.ndarray) -> np.ndarray:
        shown = self._label_map.shown
        return labels if shown is None else cv2.LUT(labels, shown)
