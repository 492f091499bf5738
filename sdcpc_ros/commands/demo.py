"""Play a bag, or the synthetic street, to the ROS node; record, measure and draw its masks."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from sdcpc_ros.commands.model_options import add_model_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bag", type=Path, metavar="PATH", help="play this bag instead of the synthetic street")
    add_model_option(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), metavar="DIR", help="results folder, default %(default)s"
    )
    parser.add_argument(
        "--seconds", type=_positive, metavar="S", help="seconds to play (default: 10 s of the street, all of a bag)"
    )
    parser.add_argument(
        "--rate", type=_positive, default=1.0, help="playing speed: 0.5 is half the recording's, default %(default)s"
    )
    parser.add_argument("--camera", metavar="TOPIC", help="the bag's camera, needed if it has several")


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.replay.demo import run_demo

    run_demo(
        arguments.bag,
        arguments.model,
        arguments.output,
        seconds=arguments.seconds,
        rate=arguments.rate,
        camera=arguments.camera,
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
