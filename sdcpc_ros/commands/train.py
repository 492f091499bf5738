"""Train by a recipe, or resume an interrupted run; write OUTPUT/model.safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the recipe, YAML")
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="the recipe's data set")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for the model, its logs and its state"
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="CHECKPOINT",
        help="initial weights, for example of `sdcpc import-weights`; default random",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: the GPU if PyTorch finds one, default %(default)s",
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="VIDEO",
        help="do not train on this video of the training split, for example 0006R0 of CamVid; may be repeated",
    )
    parser.add_argument(
        "--score",
        action="store_true",
        help="then score the model on the validation split, at several frame rates, after cuts, in turns, and on the "
        "left-out videos, into OUTPUT/scores.json",
    )


def run(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from sdcpc_ros.evaluation.temporal_tests import temporal_test_table
    from sdcpc_ros.training.distributed import is_main_process
    from sdcpc_ros.training.recipe import load_recipe
    from sdcpc_ros.training.scoring import SCORES, score, scoring
    from sdcpc_ros.training.trainer import train

    root, left_out = arguments.root, arguments.leave_out
    # Before the training, as it may raise.
    tests = scoring(load_recipe(arguments.config, left_out), root) if arguments.score else None
    model = train(arguments.config, root, arguments.output, arguments.start, arguments.device, left_out)
    if tests is None or not is_main_process():
        return
    Console().print(temporal_test_table(score(model, tests, arguments.device)))
    for sentence in tests.skipped:
        print(f"not tested: {sentence}")
    print(f"wrote {model.with_name(SCORES)}", flush=True)
