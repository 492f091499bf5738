"""How the small nodes run: until a signal, or until they are done by themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node


class Done(Exception):
    """Raised by a callback to end the node with an exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


def run_node(create: Callable[[], Node], args: Sequence[str] | None) -> int:
    """The exit status: 0 after a signal, that of Done, or 1 with a sentence on stderr for a ValueError at the start."""
    rclpy.init(args=args)
    node: Node | None = None
    try:
        node = create()
        rclpy.spin(node)
    except Done as done:
        return done.status
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def label_info_type() -> Any | None:
    """vision_msgs/LabelInfo, where it is installed."""
    try:
        from vision_msgs.msg import LabelInfo
    except ImportError:
        return None
    return LabelInfo
