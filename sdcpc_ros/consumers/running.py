"""Runs the small nodes until a signal, or until they end by themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node


class Done(Exception):
    """Raised by a callback to end the node with an exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class Refused(ValueError):
    """A node cannot start; the message tells the reason in a sentence."""


def run_node(create: Callable[[], Node], args: Sequence[str] | None) -> int:
    """Returns the exit status: 0 after a signal, that of Done, or 1 with a sentence on stderr if `create` fails."""
    rclpy.init(args=args)
    try:
        rclpy.spin(create())
    except Done as done:
        return done.status
    except (Refused, ParameterException) as error:  # the latter: a parameter of the wrong type, or out of its range
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()
    return 0


def label_info_type() -> Any | None:
    """vision_msgs/LabelInfo if it is installed, else None."""
    try:
        from vision_msgs.msg import LabelInfo
    except ImportError:
        return None
    return LabelInfo
