"""Record topics into a bag, as `ros2 bag record` does: the bytes as they come, under the time they came at."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from rclpy.node import Node
from rclpy.qos import QoSProfile

from sdcpc_ros.bags.messages import RawMessage
from sdcpc_ros.bags.player import message_class
from sdcpc_ros.bags.writer import BagWriter

_QUEUE_DEPTH = 50  # images wait here while the disk is busy
_POLL_S = 0.02


class BagRecorder:
    """Subscribes (reliably) to topics, given with their message types, and writes what arrives to a bag.

    A message's time in the bag is when it arrived here, on the system's clock. The node must be spun; `on_message` is
    called by the thread that spins it.
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
        self._bag = bag
        self._on_message = on_message
        self._node = node
        for topic, message_type in topics.items():
            node.create_subscription(
                message_class(message_type),
                topic,
                self._recording(topic, message_type),
                QoSProfile(depth=_QUEUE_DEPTH),
                raw=True,
            )

    def _recording(self, topic: str, message_type: str) -> Callable[[bytes], None]:
        def record(data: bytes) -> None:
            message = RawMessage(topic, message_type, time.time_ns(), data)
            self._bag.write(message)
            self._on_message(message)
            self.last[topic] = message
            self.received[topic] += 1

        return record

    def wait_for_publishers(
        self, topics: Iterable[str], timeout_s: float, keep_going: Callable[[], bool] = lambda: True
    ) -> bool:
        """Wait until somebody publishes each topic. False when `timeout_s` passes, or `keep_going` says no, before."""
        deadline = time.monotonic() + timeout_s
        for topic in topics:
            while self._node.count_publishers(topic) == 0:
                if time.monotonic() > deadline or not keep_going():
                    return False
                time.sleep(_POLL_S)
        return True
