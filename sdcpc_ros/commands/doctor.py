"""Check this machine, its ROS and the live graph: one line a check, with the fix. Exit status 1 on a fault."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from sdcpc_ros.commands.model_options import add_model_option
from sdcpc_ros.doctor import FAULT, NOTE, OK, WARNING, Finding

_STYLES = {OK: "green", NOTE: "dim", WARNING: "yellow", FAULT: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_option(parser)
    parser.add_argument(
        "--node", default="/segmentation_node", metavar="NAME", help="the running node, default %(default)s"
    )
    parser.add_argument(
        "--image-topic",
        action="append",
        metavar="TOPIC",
        help="image topic of a node that is not running yet, default camera/image_raw; may be repeated",
    )
    parser.add_argument(
        "--compressed",
        action="store_true",
        help="the image topics are CompressedImage; default: the publisher's type",
    )
    parser.add_argument("--use-sim-time", action="store_true", help="a node that is not running yet will use /clock")
    parser.add_argument(
        "--listen", type=float, default=2.0, metavar="S", help="seconds to listen to images, default %(default)s"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=15.0,
        metavar="S",
        help="seconds to wait for discovery before something counts as missing, default %(default)s",
    )
    parser.add_argument("--no-graph", action="store_true", help="check this machine only")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.text import Text

    for option in ("listen", "patience"):
        seconds = getattr(arguments, option)
        if not 0 < seconds <= 3600:
            arguments.parser.error(f"--{option} is {seconds:g}; a number of seconds above 0, up to 3600, is needed")
    console, levels = Console(soft_wrap=True, highlight=False), []
    for finding in _findings(arguments):
        console.print(Text(finding.line(), style=_STYLES[finding.level] if finding.level != OK else ""))
        levels.append(finding.level)
    faults, warnings = levels.count(FAULT), levels.count(WARNING)
    console.print(f"checks: {len(levels)}, faults: {faults}, warnings: {warnings}")
    return 1 if faults else 0


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    from sdcpc_ros.doctor.machine import check_machine
    from sdcpc_ros.doctor.ros_installation import check_ros, is_importable

    yield from check_machine(arguments.model)
    yield from check_ros()
    if arguments.no_graph or not is_importable("rclpy"):
        return
    from sdcpc_ros.doctor.live_graph import check_graph

    node = "/" + arguments.node.strip("/")
    default = f"{node.rpartition('/')[0]}/camera/image_raw" + ("/compressed" if arguments.compressed else "")
    transport = "compressed" if arguments.compressed else "auto"
    topics = [(topic, transport) for topic in arguments.image_topic or [default]]
    yield from check_graph(node, (topics, arguments.use_sim_time), arguments.listen, arguments.patience)
