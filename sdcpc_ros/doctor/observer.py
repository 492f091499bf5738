"""The doctor's own ROS node: it waits for the graph, calls services and counts messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile

#: A call is made twice: an answer may get lost while DDS discovers the endpoints.
_CALLS = 2
_ANSWER_S = 5.0
#: Every wait lasts at least this long: reports come once a second.
_LEAST_WAIT_S = 4.0


@dataclass(frozen=True)
class Report:
    """One part of a node's diagnostics over some seconds: the newest status, and how many images came meanwhile."""

    level: bytes
    message: str
    values: dict[str, str]
    received: int
    seconds: float


class Observer(AbstractContextManager["Observer"]):
    """Its patience counts from the start, as discovery finds everything at once: only the first wait may be long."""

    def __init__(self, patience_s: float) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("sdcpc_doctor", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._give_up_s = time.monotonic() + patience_s

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def waits_for(self, condition: Callable[[], Any]) -> bool:
        """Waits until `condition` is true or the patience ends; returns whether it is true then."""
        self._spin(max(self._give_up_s - time.monotonic(), _LEAST_WAIT_S), until=condition)
        return bool(condition())

    def node_names(self) -> list[str]:
        """Full names; several nodes may have the same."""
        names = self.node.get_node_names_and_namespaces()
        return [f"{namespace.rstrip('/')}/{name}" for name, namespace in names]

    def call(self, service_type: Any, name: str, request: Any) -> Any | None:
        """The response, or None if there is no such service, or no response in time."""
        client = self.node.create_client(service_type, name)
        try:
            if not self.waits_for(client.service_is_ready):
                return None
            for _ in range(_CALLS):
                future = client.call_async(request)
                self._spin(_ANSWER_S, until=future.done)
                if future.done():
                    return future.result()
            return None
        finally:
            self.node.destroy_client(client)

    def reports(self, name: str, listen_s: float) -> dict[str, Report]:
        """Part ("model" or a camera) -> what the node reports of it, from its first report for `listen_s`."""
        first: dict[str, tuple[float, int]] = {}
        found: dict[str, Report] = {}

        def keep(message: DiagnosticArray) -> None:
            for status in message.status:
                whose, _, part = status.name.rpartition(": ")
                if whose != name:
                    continue
                values = {pair.key: pair.value for pair in status.values}
                received, now_s = int(values.get("received", 0)), time.monotonic()
                begun_s, before = first.setdefault(part, (now_s, received))
                found[part] = Report(status.level, status.message, values, received - before, now_s - begun_s)

        subscription = self.node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
        if self.waits_for(lambda: found):
            # At least two reports, for the difference of their counters; a busy machine may delay them.
            self._spin(listen_s)
            self._spin(_ANSWER_S, until=lambda: all(report.seconds > 0 for report in found.values()))
        self.node.destroy_subscription(subscription)
        return found

    def listen(self, topic: str, message_type: Any, qos: QoSProfile, seconds: float) -> list[int]:
        """Sizes in bytes of the messages within this time, from the first one on or after the patience ends."""
        sizes: list[int] = []
        subscription = self.node.create_subscription(
            message_type, topic, lambda data: sizes.append(len(data)), qos, raw=True
        )
        self.waits_for(lambda: sizes)
        sizes.clear()
        self._spin(seconds)
        self.node.destroy_subscription(subscription)
        return sizes

    def _spin(self, seconds: float, until: Callable[[], Any] = lambda: False) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not until():
            self._executor.spin_once(timeout_sec=0.05)
