"""`sdcpc demo`: play a bag to the ROS node and show what it makes of it."""

from sdcpc_ros.replay.demo import add_arguments, run

__all__ = ["add_arguments", "run"]
