"""What the small nodes share: parameters, the LabelInfo, and running until a signal or until they end by themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions

from sdcpc_ros.nodes.stop_signals import exit_on_stop_signals, interrupt_on_stop_signals
from sdcpc_ros.nodes.topics import LABEL_INFO, message_type


def run_node(create: Callable[[], Node], args: Sequence[str] | None) -> int:
    """Returns the exit status: 0 after a signal, or 1 with a sentence on stderr if `create` raises a ValueError.

    A callback ends the node with another status by `sys.exit`.
    """
    exit_on_stop_signals()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        try:
            node = create()
        except (ValueError, ParameterException) as error:  # the latter: of the wrong type, or out of its range
            print(f"error: {error}", file=sys.stderr)
            return 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        interrupt_on_stop_signals()
        while True:
            executor.spin_once(timeout_sec=0.2)  # Python raises KeyboardInterrupt in between
    except KeyboardInterrupt:
        return 0
    finally:
        exit_on_stop_signals()  # launch may send several
        rclpy.try_shutdown()


def subscribe_to_label_info(node: Node, callback: Callable[[Any], None], topic: str = "label/label_info") -> bool:
    """Also hears the last LabelInfo that was sent before. Returns False where vision_msgs is not installed."""
    label_info = message_type(LABEL_INFO.type_name)
    if label_info is None:
        return False
    latched = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(label_info, topic, callback, latched)
    return True


def read_parameter(node: Node, name: str, default: Any, description: str, most: int = 0) -> Any:
    """The value of a parameter that is declared here and set at start only. most: of a number; the least is 0."""
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if most:
        descriptor.integer_range = [IntegerRange(from_value=0, to_value=most)]
    # rclpy would take an empty list for an array of bytes, and an empty array has the value None.
    value = node.declare_parameter(name, Parameter.Type.STRING_ARRAY if default == [] else default, descriptor).value
    return [] if value is None else value
