"""Score a model on labelled video, as a stream and frame by frame with the same weights."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcpc_ros.commands.model_options import add_device_options, add_model_option, check_file_option

if TYPE_CHECKING:
    from sdcpc_ros.datasets.video_dataset import VideoDataset
    from sdcpc_ros.labels.label_set import LabelSet

#: The kinds of `dataset_kinds`, and the rendered street.
DATASETS = ("camvid", "cityscapes", "vspw", "bag", "synthetic")
_DEFAULT_SPLIT = "val"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    add_model_option(parser)
    on_disk = parser.add_argument_group("data sets on disk (layouts: docs/datasets.md)")
    on_disk.add_argument("--root", type=Path, metavar="DIR", help="the data set's folder; a bag, or a folder of bags")
    on_disk.add_argument("--split", help=f"default {_DEFAULT_SPLIT}; for bags: those in ROOT/SPLIT, by default in ROOT")
    synthetic = parser.add_argument_group("--dataset synthetic")
    synthetic.add_argument("--seed", type=int, help="seed of the street, default 0; training uses 1000 and up")
    synthetic.add_argument("--frames", type=int, help="number of frames, default 90")
    tests = parser.add_argument_group(
        "tests of the temporal path, one row a test, streaming beside single frame; N,... is a list"
    )
    tests.add_argument("--every", type=_counts, default=(), metavar="N,...", help="only every N-th frame; 1: all")
    tests.add_argument(
        "--cuts",
        type=_counts,
        default=(),
        metavar="N,...",
        help="two clips alternate every N frames under one stamp sequence; the first frame after each cut is scored",
    )
    tests.add_argument(
        "--turns",
        type=_shares,
        default=(),
        metavar="SHARE,...",
        help="a window of half the width moves sideways by this share of its width a frame; above 0, up to 1",
    )
    tests.add_argument("--each-video", action="store_true", help="score each video of the split separately")
    add_device_options(parser, repeatable=True)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the scores to this file")


def run(arguments: argparse.Namespace) -> None:
    _check_options(arguments)

    from rich.console import Console

    from sdcpc_ros.evaluation.evaluate import evaluate, evaluation_table, labelled_clips
    from sdcpc_ros.evaluation.report_file import write_json
    from sdcpc_ros.evaluation.temporal_tests import run_temporal_tests, temporal_test_table, temporal_tests
    from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

    path = resolve_model(arguments.model)
    checkpoint = load_checkpoint(path)
    dataset = _opened(arguments, checkpoint.label_set)
    which = {name: getattr(arguments, name) for name in ("every", "cuts", "turns", "each_video")}
    tests = temporal_tests(dataset, **which)
    labelled_clips(dataset)  # raises where nothing is labelled
    segmenter = StreamingSegmenter(
        checkpoint,
        device=arguments.device,
        backend=arguments.backend,
        precision=arguments.precision,
        max_gap_s=math.inf,  # each clip of the data set is a stream
    )
    if tests:
        results = run_temporal_tests(segmenter, tests)
        table = temporal_test_table(results)
        scores = {"dataset": dataset.name, "tests": [result.to_dict() for result in results]}
    else:
        evaluation = evaluate(segmenter, dataset)
        table, scores = evaluation_table(evaluation), evaluation.to_dict()
    Console().print(table)
    if arguments.json is not None:
        how = {
            "model": path.stem,
            "device": str(segmenter.device),
            "backend": segmenter.backend,
            "precision": segmenter.precision,
            "model_size": list(segmenter.model_size),
        }
        write_json(arguments.json, {**how, **scores}, indent=2)


def _opened(arguments: argparse.Namespace, label_set: LabelSet) -> VideoDataset:
    """The data set. `label_set`: the model's; it names the ids in a bag without label_set.json."""
    if arguments.dataset == "synthetic":
        from sdcpc_ros.datasets.synthetic_street import SyntheticStreet

        return SyntheticStreet(seed=arguments.seed or 0, length=90 if arguments.frames is None else arguments.frames)

    from sdcpc_ros.datasets.dataset_kinds import open_dataset

    split = arguments.split or (None if arguments.dataset == "bag" else _DEFAULT_SPLIT)
    return open_dataset(arguments.dataset, arguments.root, split, label_set=label_set)


def _check_options(arguments: argparse.Namespace) -> None:
    on_disk = arguments.dataset != "synthetic"
    if on_disk and arguments.root is None:
        arguments.parser.error(f"--dataset {arguments.dataset} needs --root")
    for option in ("seed", "frames") if on_disk else ("root", "split"):
        if getattr(arguments, option) is not None:
            arguments.parser.error(f"--{option} does not go with --dataset {arguments.dataset}")
    check_file_option(arguments.parser, "--json", arguments.json)


def _counts(text: str) -> tuple[int, ...]:
    return _list(text, int, lambda n: n >= 1, "whole numbers of 1 or more")


def _shares(text: str) -> tuple[float, ...]:
    return _list(text, float, lambda share: 0 < share <= 1, "numbers over 0 and up to 1")


def _list(text: str, number: Callable[[str], Any], allowed: Callable[[Any], bool], what: str) -> tuple[Any, ...]:
    """Numbers separated by commas, each once, in their order."""
    for word in text.split(","):
        try:
            good = allowed(number(word))
        except ValueError:
            good = False
        if not good:
            raise argparse.ArgumentTypeError(f"'{word}' in '{text}'; {what}, separated by commas, are allowed")
    return tuple(dict.fromkeys(number(word) for word in text.split(",")))
