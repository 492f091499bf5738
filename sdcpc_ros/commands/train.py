"""`sdcpc train`: train by a recipe, or go on where a stopped run left off."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the recipe, YAML")
    parser.add_argument(
        "--root", required=True, type=Path, metavar="DIR", help="CamVid: holds train/images, train/labels"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="for the model, its log and its state"
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with these weights, as of `sdcpc import-weights`; at random if not given",
    )


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.training.trainer import train

    print(f"wrote {train(arguments.config, arguments.root, arguments.output, arguments.start)}")
