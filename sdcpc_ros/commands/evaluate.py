"""`sdcpc evaluate`: score a model on labelled video."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, choices=("camvid", "synthetic"))
    parser.add_argument(
        "--model", required=True, metavar="NAME_OR_PATH", help="a shipped model, or a .safetensors file"
    )
    camvid = parser.add_argument_group("for --dataset camvid")
    camvid.add_argument("--root", type=Path, metavar="DIR", help="folder that holds SPLIT/images and SPLIT/labels")
    camvid.add_argument("--split", help="val, if not given")
    synthetic = parser.add_argument_group("for --dataset synthetic")
    synthetic.add_argument("--seed", type=int, help="which street, 0 if not given; training uses 1000 and up")
    synthetic.add_argument("--frames", type=int, help="how many frames, 90 if not given")
    parser.add_argument(
        "--mvc", choices=("clean", "reference"), default="clean", help="how mVC counts, default %(default)s"
    )
    parser.add_argument("--device", default="cpu", help="torch device, default %(default)s")
    parser.add_argument("--backend", default="eager", help="how the network is run, default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores here too")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> None:
    _check_options(arguments)

    from rich.console import Console

    from sdcpc_ros.checkpoint import load_checkpoint, resolve_model
    from sdcpc_ros.evaluation.evaluate import evaluate
    from sdcpc_ros.evaluation.labelled_video import camvid_video, street_video
    from sdcpc_ros.evaluation.report import evaluation_table, progress_bar
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

    if arguments.dataset == "camvid":
        video = camvid_video(arguments.root, arguments.split or "val")
    else:
        video = street_video(_given(arguments.seed, 0), _given(arguments.frames, 90))
    path = resolve_model(arguments.model)
    segmenter = StreamingSegmenter(load_checkpoint(path), device=arguments.device, backend=arguments.backend)
    evaluation = evaluate(segmenter, video, mvc_mode=arguments.mvc, progress=progress_bar)
    Console().print(evaluation_table(evaluation))
    if arguments.json is not None:
        how = {
            "model": path.stem,
            "device": segmenter.device,
            "backend": segmenter.backend,
            "model_size": list(segmenter.model_size),
        }
        arguments.json.write_text(json.dumps({**how, **evaluation.to_dict()}, indent=2, allow_nan=False) + "\n")


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.dataset == "camvid" and arguments.root is None:
        arguments.parser.error("--dataset camvid needs --root")
    others = {"camvid": ("seed", "frames"), "synthetic": ("root", "split")}[arguments.dataset]
    for option in others:
        if getattr(arguments, option) is not None:
            arguments.parser.error(f"--{option} does not go with --dataset {arguments.dataset}")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        arguments.parser.error(f"--json: no folder '{arguments.json.parent}'")


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value
