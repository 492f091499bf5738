"""`sdcpc evaluate`: score a model on labelled video."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcpc_ros import DEFAULT_MODEL

if TYPE_CHECKING:
    from sdcpc_ros.datasets.video_dataset import VideoDataset
    from sdcpc_ros.label_set import LabelSet

#: Those of `dataset_kinds`, and the street, which is nowhere on disk.
DATASETS = ("camvid", "cityscapes", "vspw", "bag", "synthetic")
_DEFAULT_SPLIT = "val"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="a shipped model or a file, default %(default)s"
    )
    on_disk = parser.add_argument_group("for what is on disk (docs/datasets.md shows the layouts)")
    on_disk.add_argument("--root", type=Path, metavar="DIR", help="the data set's folder; a bag, or a folder of bags")
    on_disk.add_argument("--split", help=f"{_DEFAULT_SPLIT}, if not given; of bags those in ROOT/SPLIT, else at ROOT")
    synthetic = parser.add_argument_group("for --dataset synthetic")
    synthetic.add_argument("--seed", type=int, help="which street, 0 if not given; training uses 1000 and up")
    synthetic.add_argument("--frames", type=int, help="how many frames, 90 if not given")
    parser.add_argument("--device", default="cpu", help="torch device, default %(default)s")
    parser.add_argument("--backend", default="eager", help="how the network is run, default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores here too")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> None:
    _check_options(arguments)

    from rich.console import Console

    from sdcpc_ros.checkpoint import load_checkpoint, resolve_model
    from sdcpc_ros.evaluation.evaluate import evaluate
    from sdcpc_ros.evaluation.labelled_video import labelled_video
    from sdcpc_ros.evaluation.report import evaluation_table, progress_bar
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

    path = resolve_model(arguments.model)
    checkpoint = load_checkpoint(path)
    video = labelled_video(_opened(arguments, checkpoint.label_set))
    segmenter = StreamingSegmenter(checkpoint, device=arguments.device, backend=arguments.backend)
    evaluation = evaluate(segmenter, video, progress=progress_bar)
    Console().print(evaluation_table(evaluation))
    if arguments.json is not None:
        how = {
            "model": path.stem,
            "device": str(segmenter.device),
            "backend": segmenter.backend,
            "model_size": list(segmenter.model_size),
        }
        arguments.json.write_text(json.dumps({**how, **evaluation.to_dict()}, indent=2, allow_nan=False) + "\n")


def _opened(arguments: argparse.Namespace, label_set: LabelSet) -> VideoDataset:
    """The data set. `label_set`, the model's, is what the ids in a bag mean where nothing beside it says otherwise."""
    if arguments.dataset == "synthetic":
        from sdcpc_ros.datasets.street_dataset import StreetDataset

        return StreetDataset([_given(arguments.seed, 0)], length=_given(arguments.frames, 90))

    from sdcpc_ros.dataset_kinds import open_dataset

    split = arguments.split if arguments.dataset == "bag" else _given(arguments.split, _DEFAULT_SPLIT)
    return open_dataset(arguments.dataset, arguments.root, split, label_set=label_set)


def _check_options(arguments: argparse.Namespace) -> None:
    on_disk = arguments.dataset != "synthetic"
    if on_disk and arguments.root is None:
        arguments.parser.error(f"--dataset {arguments.dataset} needs --root")
    for option in ("seed", "frames") if on_disk else ("root", "split"):
        if getattr(arguments, option) is not None:
            arguments.parser.error(f"--{option} does not go with --dataset {arguments.dataset}")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        arguments.parser.error(f"--json: no folder '{arguments.json.parent}'")


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value
