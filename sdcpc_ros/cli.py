"""The `sdcpc` command. Each subcommand reads its arguments and calls into the package; nothing is worked out here.

Modules that take long to load are imported by the subcommand that needs them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 1 after one sentence on stderr (2, from argparse, for wrong usage)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parsed = _parser(chosen=arguments[0] if arguments else "").parse_args(arguments)
    try:
        return parsed.run(parsed) or 0
    except (ValueError, OSError) as error:
        print(f"sdcpc {parsed.command}: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"sdcpc {parsed.command}: interrupted", file=sys.stderr)
        return 130


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    return str(error)


def _parser(chosen: str) -> argparse.ArgumentParser:
    """The whole command line; `chosen` is the subcommand that is about to be parsed."""
    parser = argparse.ArgumentParser(
        prog="sdcpc",
        description="Temporally consistent semantic segmentation of video: show, evaluate, train, inspect.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands, chosen == "demo")
    _add_evaluate(commands)
    _add_train(commands)
    _add_import_weights(commands)
    _add_info(commands)
    return parser


# --- demo -----------------------------------------------------------------------------------------------------------


def _add_demo(commands: Any, chosen: bool) -> None:
    parser = commands.add_parser(
        "demo",
        help="play a bag to the ROS node and show what it makes of it",
        description="Play a bag, or the synthetic street, to the ROS node; record, measure and draw what comes back.",
    )
    if chosen:  # the demo declares its own options, and takes long to load
        try:
            from sdcpc_ros.bags import demo
        except ModuleNotFoundError as error:
            parser.exit(1, f"sdcpc demo: no Python package '{error.name}'; pip install 'sdcpc_ros[bags]' brings it\n")
        demo.add_arguments(parser)
        parser.set_defaults(run=demo.run)


# --- evaluate -------------------------------------------------------------------------------------------------------


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="score a model on labelled video",
        description="Score a model on labelled video, as a stream and frame by frame with the same weights.",
    )
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
    parser.set_defaults(run=lambda arguments: _evaluate(parser, arguments))


def _evaluate(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    _check_dataset_options(parser, arguments)

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


def _check_dataset_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.dataset == "camvid" and arguments.root is None:
        parser.error("--dataset camvid needs --root")
    others = {"camvid": ("seed", "frames"), "synthetic": ("root", "split")}[arguments.dataset]
    for option in others:
        if getattr(arguments, option) is not None:
            parser.error(f"--{option} does not go with --dataset {arguments.dataset}")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        parser.error(f"--json: no folder '{arguments.json.parent}'")


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


# --- train ----------------------------------------------------------------------------------------------------------


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model on CamVid and the synthetic street",
        description="Train by a recipe, or go on where a stopped run left off, to OUTPUT/model.safetensors.",
    )
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
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.training.trainer import train

    print(f"wrote {train(arguments.config, arguments.root, arguments.output, arguments.start)}")


# --- import-weights -------------------------------------------------------------------------------------------------


def _add_import_weights(commands: Any) -> None:
    parser = commands.add_parser(
        "import-weights",
        help="make a starting point for training from public encoder weights",
        description=(
            "Write a checkpoint whose encoder holds public weights (SegFormer as Hugging Face spells it, ResNet as "
            "torchvision and timm do) and whose other layers are freshly initialised: a starting point for training."
        ),
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the public weights, .safetensors")
    parser.add_argument("--encoder", required=True, help="mit_b0 to mit_b5, resnet18, resnet50 or resnet101")
    parser.add_argument(
        "--label-set",
        required=True,
        metavar="NAME_OR_FILE",
        help="camvid_11, or a JSON file: name, class_names, colours",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="the checkpoint, .safetensors")
    parser.add_argument("--input-size", type=int, nargs=2, default=(360, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seed", type=int, default=0, help="of the other layers, default %(default)s")
    parser.add_argument(
        "--set",
        dest="config_fields",
        type=_config_field,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of the network configuration, its value as JSON: output_stride=8, reference_offsets=[2,4]",
    )
    parser.set_defaults(run=_import_weights)


def _config_field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not FIELD=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value  # a bare word


def _import_weights(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.import_weights import import_weights, read_label_set

    import_weights(
        arguments.file,
        arguments.output,
        encoder=arguments.encoder,
        label_set=read_label_set(arguments.label_set),
        input_size=tuple(arguments.input_size),
        seed=arguments.seed,
        config_fields=dict(arguments.config_fields),
    )
    print(f"wrote {arguments.output}")


# --- info -----------------------------------------------------------------------------------------------------------


def _add_info(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="what a model says about itself",
        description="Print a model's classes, configuration and training.",
    )
    parser.add_argument("model", metavar="NAME_OR_PATH", help="a shipped model, or a .safetensors file")
    parser.set_defaults(run=_info)


def _info(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.checkpoint import load_checkpoint, resolve_model
    from sdcpc_ros.model_card import model_card

    path = resolve_model(arguments.model)
    print(model_card(path, load_checkpoint(path)))


if __name__ == "__main__":
    sys.exit(main())
