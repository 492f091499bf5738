"""`sdcpc plot-training`: the curves of a training run as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="OUTPUT", help="the output folder of `sdcpc train`")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a .png, .svg or .pdf, OUTPUT/curves.png if not given"
    )


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.training.curves import plot_training

    output = arguments.output or arguments.folder / "curves.png"
    plot_training(arguments.folder, output)
    print(f"wrote {output}")
