"""`sdcpc train`: train by a recipe, or go on where a stopped run left off."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the recipe, YAML")
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="the recipe's data set")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="for the model, its logs and its state"
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with these weights, as of `sdcpc import-weights`; at random if not given",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="cuda where there is a GPU, if not given")


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.training.trainer import train

    train(arguments.config, arguments.root, arguments.output, arguments.start, arguments.device)
