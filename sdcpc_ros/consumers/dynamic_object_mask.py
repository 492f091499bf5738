"""`dynamic_object_mask`: masks in, feature masks for SLAM front ends out: 255 where features may be taken, else 0.

Parameters name the classes; the LabelInfo tells their ids. Run it in the camera's namespace:

    ros2 run sdcpc_ros dynamic_object_mask --ros-args -r __ns:=/segmentation_node/camera -p dilation:=7

It publishes feature_mask/image_raw, `mono8`, with the header of the mask, which is that of the camera image.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take long
    from sdcpc_ros.nodes.stop_signals import exit_on_stop_signals

    exit_on_stop_signals()

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image

from sdcpc_ros.consumers.feature_mask import FeatureMasker
from sdcpc_ros.consumers.running import read_parameter, run_node, subscribe_to_label_info
from sdcpc_ros.images.label_pictures import label_ids
from sdcpc_ros.nodes.image_messages import ImageWriter

#: Classes that move, as common label sets spell them.
DYNAMIC_CLASSES = [
    *("animal", "bicycle", "bicyclist", "bus", "car", "motorcycle", "pedestrian", "person", "rider", "train"),
    "truck",
]


class DynamicObjectMask(Node):
    """Raises ValueError if the ids of the classes cannot be known, or the masks have none of the classes."""

    def __init__(self) -> None:
        super().__init__("dynamic_object_mask")
        self._make_masker = partial(
            FeatureMasker,
            dynamic=read_parameter(self, "dynamic_classes", DYNAMIC_CLASSES, "Names of the classes that move."),
            dilation=read_parameter(self, "dilation", 5, "Pixels by which ignored regions grow.", most=200),
            ignore_unlabelled=read_parameter(
                self, "ignore_unlabelled", False, "Take no features on unlabelled pixels."
            ),
        )
        class_names = read_parameter(
            self, "class_names", [], "Names of the classes in the order of their ids. Empty: those of the LabelInfo."
        )
        self._masker: FeatureMasker | None = None
        self._writer = ImageWriter("mono8")
        self._publisher = self.create_publisher(
            Image, "feature_mask/image_raw", 5, qos_overriding_options=QoSOverridingOptions.with_default_policies()
        )
        if class_names:
            self._set_classes({name: number for number, name in enumerate(class_names)})
        elif not subscribe_to_label_info(self, self._on_label_info):
            raise ValueError("without vision_msgs there is no LabelInfo: install it, or set class_names")
        self.create_subscription(Image, "label/image_raw", self._on_label, 5)

    def _on_label_info(self, message: Any) -> None:
        self._masker = None  # the ids of an earlier LabelInfo no longer hold
        try:
            self._set_classes({entry.class_name: entry.class_id for entry in message.class_map})
        except ValueError as error:
            self.get_logger().error(f"{error}; set dynamic_classes", throttle_duration_sec=5.0)

    def _set_classes(self, class_ids: dict[str, int]) -> None:
        self._masker = self._make_masker(class_ids)
        self.get_logger().info(f"ignored: {', '.join(self._masker.dynamic)}")

    def _on_label(self, label: Image) -> None:
        if self._masker is None:
            self.get_logger().warning("no LabelInfo has named a class that moves", throttle_duration_sec=5.0)
            return
        try:
            mask = self._masker(label_ids(label))
        except ValueError as error:
            self.get_logger().warning(f"mask rejected: {error}", throttle_duration_sec=5.0)
            return
        self._publisher.publish(self._writer.write(label.header, mask))


def main(args: Sequence[str] | None = None) -> int:
    return run_node(DynamicObjectMask, args)


if __name__ == "__main__":
    sys.exit(main())
