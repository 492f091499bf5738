"""Helpers to play and record bags over DDS: a spinning node, message classes, and a recorder."""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from sdcpc_ros.bags.errors import PlaybackError
from sdcpc_ros.bags.messages import RawMessage
from sdcpc_ros.bags.writer import BagWriter

_POLL_S = 0.02
_SPIN_S = 0.1
_QUEUE_DEPTH = 50  # images wait here while the disk is busy


def message_class(message_type: str) -> Any:
    """The Python class of a type as `sensor_msgs/msg/Image`. Raises PlaybackError if ROS here does not have it."""
    if re.fullmatch(r"[a-z][a-z0-9_]*/msg/[A-Z][A-Za-z0-9]*", message_type):
        package, _, name = message_type.split("/")
        with suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(f"{package}.msg"), name)
    raise PlaybackError(f"the message type '{message_type}' is not installed here")


def wait_until(condition: Callable[[], bool], timeout_s: float, keep_going: Callable[[], bool] = lambda: True) -> bool:
    """Polls until the condition holds. False if `timeout_s` passes, or `keep_going` is False, before."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline or not keep_going():
            return False
        time.sleep(_POLL_S)
    return True


@contextmanager
def spinning_node(name: str) -> Iterator[Node]:
    """A ROS node in its own context; a thread spins it until the block ends."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node(name, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    ended = threading.Event()

    def spin() -> None:
        with suppress(ExternalShutdownException):
            while not ended.is_set():
                executor.spin_once(timeout_sec=_SPIN_S)

    thread = threading.Thread(target=spin, name=f"{name} spin")
    thread.start()
    try:
        yield node
    finally:
        ended.set()
        thread.join()  # before the shutdown: an executor that has not begun to spin would fail
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


class BagRecorder:
    """Subscribes (reliably) to topics, given with their message types, and writes what arrives to a bag.

    The bytes are written unchanged. A message's time in the bag is its arrival, on the system's clock. The node must be
    spun; the spinning thread calls `on_message`.
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
