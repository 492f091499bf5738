"""The subscriptions of one camera: topics after remapping, transport, quality of service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sdcpc_ros.nodes.parameters import CameraParameters
from sdcpc_ros.nodes.topics import AUTO, IMAGE_TYPES, camera_info_beside, choose_transport

_MESSAGE_TYPES = {"raw": Image, "compressed": CompressedImage}


class CameraInputs:
    """The subscriptions of one camera. All methods are for the executor's thread.

    `image_topic` and `camera_info_topic` are full names after remapping, `transport` is "raw" or "compressed".
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: CameraParameters,
        on_image: Callable[[Any], None],
        on_camera_info: Callable[[CameraInfo], None],
    ) -> None:
        self._node, self._parameters = node, parameters
        self._on_image, self._on_camera_info = on_image, on_camera_info
        self.image_topic = node.resolve_topic_name(parameters.image_topic)
        self.camera_info_topic = self._resolve_camera_info()
        self.transport = self._choose_transport()
        self._image_subscription: Any | None = None
        self._camera_info_subscription: Any | None = None

    @property
    def type_name(self) -> str:
        """Type of the image messages that are subscribed, as `sensor_msgs/msg/Image`."""
        return IMAGE_TYPES[self.transport]

    @property
    def accepted_types(self) -> tuple[str, ...]:
        """The types that the camera's publisher may have."""
        return tuple(IMAGE_TYPES.values()) if self._parameters.transport == AUTO else (self.type_name,)

    @property
    def is_subscribed(self) -> bool:
        return self._image_subscription is not None

    def subscribe(self) -> None:
        self.transport = self._choose_transport()
        self._subscribe_to_images()
        self._camera_info_subscription = self._subscribe(CameraInfo, self.camera_info_topic, self._on_camera_info)

    def unsubscribe(self) -> None:
        for subscription in (self._image_subscription, self._camera_info_subscription):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._image_subscription = self._camera_info_subscription = None

    def follow_graph(self) -> bool:
        """With transport auto, subscribes again if the topic has the other type now; returns whether it did."""
        if self._image_subscription is None:
            return False
        transport = self._choose_transport(self.transport)
        if transport == self.transport:
            return False
        self._node.destroy_subscription(self._image_subscription)
        self.transport = transport
        self._subscribe_to_images()
        return True

    def _subscribe_to_images(self) -> None:
        self._image_subscription = self._subscribe(_MESSAGE_TYPES[self.transport], self.image_topic, self._on_image)

    def _subscribe(self, message_type: Any, topic: str, callback: Callable[[Any], None]) -> Any:
        return self._node.create_subscription(
            message_type,
            topic,
            callback,
            # Best effort connects to reliable and best-effort publishers alike.
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _choose_transport(self, current: str | None = None) -> str:
        if self._parameters.transport != AUTO:
            return self._parameters.transport
        published = {info.topic_type for info in self._node.get_publishers_info_by_topic(self.image_topic)}
        return choose_transport(self.image_topic, published, current)

    def _resolve_camera_info(self) -> str:
        """The default is beside the image topic after remapping, unless it is remapped itself."""
        default = self._parameters.camera_info_topic
        resolved = self._node.resolve_topic_name(default)
        if not self._parameters.camera_info_follows or resolved != self._node.resolve_topic_name(
            default, only_expand=True
        ):
            return resolved
        return self._node.resolve_topic_name(camera_info_beside(self.image_topic))
