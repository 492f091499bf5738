"""Every topic of a camera, declared once: name, type, quality of service and rule. No ROS in here.

`python -m sdcpc_ros.nodes.topics` prints the README's table.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

#: The transport follows the publisher's type, or the topic's name while it has no publisher.
AUTO = "auto"
#: Type of the image topic by transport.
IMAGE_TYPES = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}


@dataclass(frozen=True)
class OutputTopic:
    """A topic that the node publishes: below `~/<camera>/` for each camera, unless the name begins with `/`."""

    name: str
    type_name: str
    rule: str
    depth: int = 5
    transient_local: bool = False  # late subscribers get the last message


LABEL = OutputTopic(
    "label/image_raw",
    "sensor_msgs/Image",
    "One class id per pixel, in `label_encoding` and by `label_map`; 255 (65535 in 16UC1, -1 in 16SC1) = unlabelled. "
    "The header is that of the image. Rows are not padded.",
)
LABEL_COMPRESSED = OutputTopic(
    "label/image_raw/compressed",
    "sensor_msgs/CompressedImage",
    "The mask as lossless PNG, for slow networks: format `mono8; png compressed`, or the `label_encoding` in place of "
    "mono8. Only encoded while someone subscribes.",
)
LABEL_INFO = OutputTopic(
    "label/label_info",
    "vision_msgs/LabelInfo",
    "Class names and ids, as `label_map` has them, and the threshold; sent before the first mask and again when a bag "
    "jumps back or `confidence_threshold` changes. Absent without vision_msgs.",
    depth=1,
    transient_local=True,
)
LABEL_COLOR = OutputTopic(
    "label/color",
    "sensor_msgs/Image",
    "rgb8: the mask in the colours of the label set, for viewers (class ids look nearly black); black = unlabelled or "
    "background. Only drawn while someone subscribes.",
)
LABEL_CAMERA_INFO = OutputTopic(
    "label/camera_info",
    "sensor_msgs/CameraInfo",
    "The camera's calibration, scaled to the mask. With each mask after the first on `<camera>.camera_info_topic`.",
)
CONFIDENCE = OutputTopic(
    "confidence/image_raw",
    "sensor_msgs/Image",
    "mono8: the probability of each pixel's id, 255 = certain; for classes that share an id, the sum. Only computed "
    "while someone subscribes.",
)
OVERLAY = OutputTopic(
    "overlay/image_raw",
    "sensor_msgs/Image",
    "rgb8: class colours over the camera image. Only drawn while someone subscribes.",
)
CLASS_STATISTICS = OutputTopic(
    "class_statistics",
    "sdcpc_ros/ClassStatistics",
    "Share of the pixels and mean confidence of each class in the mask. Only computed while someone subscribes; absent "
    "if the package's messages are not built.",
)
DIAGNOSTICS = OutputTopic(
    "/diagnostics",
    "diagnostic_msgs/DiagnosticArray",
    "Once a second, in every lifecycle state: what each camera received, processed, dropped and rejected; input age, "
    "times per stage, buffer fill, resets by cause; model, backend, memory.",
    depth=10,
)

CAMERA_TOPICS = (
    *(LABEL, LABEL_COMPRESSED, LABEL_COLOR, LABEL_INFO, LABEL_CAMERA_INFO),
    *(CONFIDENCE, OVERLAY, CLASS_STATISTICS),
)


def message_type(type_name: str) -> Any | None:
    """The message class with this name, as `sensor_msgs/Image`; None if its package is not installed or lacks it."""
    package, _, name = type_name.replace("/msg/", "/").partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


def choose_transport(image_topic: str, published: Collection[str], current: str | None = None) -> str:
    """The transport, "raw" or "compressed", of a topic whose transport is `AUTO`.

    published: the types of the topic's publishers. If they do not decide, `current` is kept; without it
    image_transport's naming decides: `.../compressed` is CompressedImage.
    """
    fitting = [transport for transport, type_name in IMAGE_TYPES.items() if type_name in published]
    if len(fitting) == 1:
        return fitting[0]
    return current or ("compressed" if image_topic.endswith("/compressed") else "raw")


def camera_info_beside(image_topic: str) -> str:
    """The calibration's topic by convention: `a/camera_info` for the images `a/image` and `a/image/compressed`."""
    base = image_topic.removesuffix("/compressed")
    return f"{base.rpartition('/')[0]}/camera_info" if "/" in base else "camera_info"


def absolute_name(name: str, node_name: str) -> str:
    """A topic's name as ROS resolves it for the node with this full name, before remapping."""
    if name.startswith("~/"):
        return node_name + name[1:]
    return name if name.startswith("/") else f"{node_name.rpartition('/')[0]}/{name}"


def markdown_table() -> str:
    """The README's table of topics."""
    lines = [
        "| topic | type | quality of service | rule |",
        "|---|---|---|---|",
        "| in: `<camera>.image_topic` | sensor_msgs/Image or CompressedImage | best effort, depth 1 "
        "| The newest frame wins: a waiting frame is dropped and counted when a newer frame arrives. |",
        "| in: `<camera>.camera_info_topic` | sensor_msgs/CameraInfo | best effort, depth 1 | Optional. |",
    ]
    for topic in (*CAMERA_TOPICS, DIAGNOSTICS):
        name = topic.name if topic.name.startswith("/") else f"~/<camera>/{topic.name}"
        qos = f"reliable, {'transient local, ' if topic.transient_local else ''}depth {topic.depth}"
        lines.append(f"| `{name}` | {topic.type_name} | {qos} | {topic.rule} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table())
