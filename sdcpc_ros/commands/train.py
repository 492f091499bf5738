"""`sdcpc train`: train by a recipe, or resume an interrupted run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdcpc_ros.training.scoring import Scoring


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
        help="initial weights, as from `sdcpc import-weights`; default random",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: the GPU where PyTorch finds one, default %(default)s",
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="VIDEO",
        help="do not train on this video of the training split, as 0006R0 of CamVid; may be repeated",
    )
    parser.add_argument(
        "--score",
        action="store_true",
        help="then score the model on the validation split at several frame rates, after cuts and in turns, and on the "
        "videos that are left out, into OUTPUT/scores.json",
    )


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.training.trainer import train

    what = _scoring(arguments) if arguments.score else None  # before the training, as it may raise
    places = arguments.config, arguments.root, arguments.output
    model = train(*places, arguments.start, arguments.device, arguments.leave_out)
    if what is not None:
        _score(model, what, arguments.device)


def _scoring(arguments: argparse.Namespace) -> Scoring:
    from sdcpc_ros.training.recipe import load_recipe
    from sdcpc_ros.training.scoring import scoring

    return scoring(load_recipe(arguments.config, arguments.leave_out), arguments.root)


def _score(model: Path, what: Scoring, device: str) -> None:
    from rich.console import Console

    from sdcpc_ros.evaluation.temporal_tests import temporal_test_table
    from sdcpc_ros.training.distributed import is_main_process
    from sdcpc_ros.training.scoring import SCORES, score

    if not is_main_process():
        return
    Console().print(temporal_test_table(score(model, what, device)))
    for sentence in what.skipped:
        print(f"not tested: {sentence}")
    print(f"wrote {model.with_name(SCORES)}", flush=True)
