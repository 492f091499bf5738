"""Records topics into a bag, as `ros2 bag record` does: the bytes unchanged, with the time of arrival."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from rclpy.node import Node
from rclpy.qos import QoSProfile

from sdcpc_ros.bags.messages import RawMessage
from sdcpc_ros.bags.writer import BagWriter
from sdcpc_ros.replay.player import message_class

_QUEUE_DEPTH = 50  # images wait here while the disk is busy


class BagRecorder:
    """Subscribes (reliably) to topics, given with their message types, and writes what arrives to a bag.

    A message's time in the bag is its arrival, on the system's clock. The node must be spun; the spinning thread calls
    `on_message`.
    """

    def __init__(
        self,
        node: Node,
        bag: BagWriter,
        topics: Mapping[str, str],
        on_message: Callable[[RawMessage], None] = lambda message: None,
    ) -> None:
        self.received: Counter[str] = Counter()  #: messages by topic
        self.last: dict[str, RawMessage] = {}  #: the newest message by topic
        self._bag, self._on_message = bag, on_message
        for topic, message_type in topics.items():
            record = self._recording(topic, message_type)
            node.create_subscription(
                message_class(message_type), topic, record, QoSProfile(depth=_QUEUE_DEPTH), raw=True
            )

    def _recording(self, topic: str, message_type: str) -> Callable[[bytes], None]:
        def record(data: bytes) -> None:
            message = RawMessage(topic, message_type, time.time_ns(), data)
            self._bag.write(message)
            self._on_message(message)
            self.last[topic] = message
            self.received[topic] += 1

        return record
