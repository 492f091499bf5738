"""`mask_checker`: reads a camera's label, confidence and LabelInfo as the Nav2 semantic segmentation layer does.

Run it in the camera's namespace. It logs each rule of the layer that the masks break, once:

    ros2 run sdcpc_ros mask_checker --ros-args -r __ns:=/segmentation_node/camera -p masks:=100

With `masks` it ends after that many, with exit status 1 if a rule was broken, else 0.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take long
    from sdcpc_ros.nodes.stop_signals import exit_on_stop_signals

    exit_on_stop_signals()

import sys
import time
from collections.abc import Sequence
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from sdcpc_ros.consumers.mask_rules import (
    broken_class_rules,
    broken_image_rules,
    broken_label_rules,
    broken_pair_rules,
    stamp_s,
)
from sdcpc_ros.consumers.running import read_parameter, run_node, subscribe_to_label_info
from sdcpc_ros.runtime.wording import count_noun

#: Seconds that a LabelInfo may arrive after a mask that needs it: topics have no common order.
GRACE_S = 5.0
_SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)  # as the layer subscribes


class MaskChecker(Node):
    """Checks every mask. Raises ValueError without vision_msgs."""

    def __init__(self) -> None:
        super().__init__("mask_checker")
        if not subscribe_to_label_info(self, self._on_label_info):
            raise ValueError("the Python package vision_msgs is needed: sudo apt install ros-$ROS_DISTRO-vision-msgs")
        self._wanted_masks: int = read_parameter(self, "masks", 0, "End after this many masks; 0: never.", most=10**9)
        self._wanted_names: list[str] = read_parameter(
            self, "class_names", [], "Classes that the costmap looks for by name."
        )
        self._class_ids: dict[str, int] | None = None
        self._label_infos = self._label_infos_needed = 0
        self._overdue_s: float | None = None
        self._broken: set[str] = set()
        self._masks = self._pairs = 0
        self._label: Image | None = None
        self._waiting_confidences: dict[tuple[int, int], Image] = {}
        self.create_subscription(Image, "confidence/image_raw", self._on_confidence, _SENSOR_DATA)
        self.create_subscription(Image, "label/image_raw", self._on_label, _SENSOR_DATA)
        self.create_timer(0.2, self._on_time, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"waiting for masks on {self.resolve_topic_name('label/image_raw')}")

    def _on_label_info(self, message: Any) -> None:
        self._label_infos += 1
        self._class_ids = {entry.class_name: entry.class_id for entry in message.class_map}
        self._report(broken_class_rules(self._class_ids, len(message.class_map), self._wanted_names))

    def _on_label(self, label: Image) -> None:
        previous, self._label = self._label, label
        if previous is None:
            self.get_logger().info("the first mask has arrived")
            self._need_label_info(1)
        elif stamp_s(label) < stamp_s(previous):  # a bag started again
            self._need_label_info(self._label_infos_needed + 1)
        broken = broken_image_rules(label, "label")
        self._report(broken)
        if not broken and self._class_ids is not None:
            self._report(broken_label_rules(label, self._class_ids))
        confidence = self._waiting_confidences.pop(_key(label), None)
        if confidence is not None:
            self._check_pair(label, confidence)
        self._masks += 1

    def _on_confidence(self, confidence: Image) -> None:
        self._report(broken_image_rules(confidence, "confidence"))
        if self._label is not None and _key(self._label) == _key(confidence):
            self._check_pair(self._label, confidence)
            return
        self._waiting_confidences[_key(confidence)] = confidence
        if len(self._waiting_confidences) > _SENSOR_DATA.depth:
            self._waiting_confidences.pop(next(iter(self._waiting_confidences)))

    def _check_pair(self, label: Image, confidence: Image) -> None:
        self._pairs += 1
        self._report(broken_pair_rules(label, confidence))

    def _need_label_info(self, count: int) -> None:
        self._label_infos_needed = count
        self._overdue_s = time.monotonic() + GRACE_S

    def _on_time(self) -> None:
        is_informed = self._label_infos >= self._label_infos_needed
        if not is_informed and self._overdue_s is not None and time.monotonic() > self._overdue_s:
            what = "before the first mask" if self._label_infos_needed == 1 else "after the stamps jumped back"
            self._report([f"no LabelInfo came {what}"])
            is_informed = True
        if not self._wanted_masks or self._masks < self._wanted_masks or not is_informed:
            return
        if not self._pairs:
            self._report(["no confidence came with the stamp of a mask"])
        self.get_logger().info(
            f"{count_noun(self._masks, 'mask')}, {self._pairs} with their confidence, {self._label_infos} LabelInfo: "
            + (f"{count_noun(len(self._broken), 'rule')} broken" if self._broken else "every rule holds")
        )
        sys.exit(1 if self._broken else 0)

    def _report(self, broken: Sequence[str]) -> None:
        for sentence in broken:
            if sentence not in self._broken:
                self.get_logger().error(sentence)
            self._broken.add(sentence)


def _key(image: Image) -> tuple[int, int]:
    return image.header.stamp.sec, image.header.stamp.nanosec


def main(args: Sequence[str] | None = None) -> int:
    return run_node(MaskChecker, args)


if __name__ == "__main__":
    sys.exit(main())
