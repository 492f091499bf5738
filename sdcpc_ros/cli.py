"""The `sdcpc` command. Each subcommand is a module of `sdcpc_ros.commands`, loaded when it is the one asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

#: Subcommand -> what `sdcpc --help` says of it, and what its own help begins with.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": (
        "play a bag to the ROS node and show what it makes of it",
        "Play a bag, or the synthetic street, to the ROS node; record, measure and draw what comes back.",
    ),
    "evaluate": (
        "score a model on labelled video",
        "Score a model on labelled video, as a stream and frame by frame with the same weights.",
    ),
    "train": (
        "train a model on labelled video",
        "Train by a recipe, or go on where a stopped run left off, to OUTPUT/model.safetensors.",
    ),
    "import-weights": (
        "make a starting point for training from public encoder weights",
        "Write a checkpoint whose encoder holds public weights (SegFormer as Hugging Face spells it, ResNet as "
        "torchvision and timm do, EfficientNet-Lite as timm and EfficientNet-PyTorch do) and whose other layers are "
        "freshly initialised: a starting point for training.",
    ),
    "export": (
        "write what a robot loads: ONNX, a compiled package, a TensorRT engine",
        "Write a model for one size of the network's input: as ONNX, as an exported PyTorch program, or compiled for "
        "the backends aot and tensorrt. All are stateless: a frame and what earlier ones left go in, logits and what "
        "this one leaves come out.",
    ),
    "info": ("what a model says about itself", "Print a model's classes, configuration and training."),
}
#: Third-party package -> the extra of ours that brings it.
_EXTRAS = {"rosbags": "bags", "av": "bags"}


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


def _parser(chosen: str) -> argparse.ArgumentParser:
    """The whole command line; only `chosen`, the subcommand about to be parsed, is loaded and knows its options."""
    parser = argparse.ArgumentParser(
        prog="sdcpc",
        description="Temporally consistent semantic segmentation of video: show, evaluate, train, inspect.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, description) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=description)
        if name == chosen:
            try:
                module = importlib.import_module(f"sdcpc_ros.commands.{name.replace('-', '_')}")
            except ModuleNotFoundError as error:
                command.exit(1, f"sdcpc {name}: {_missing(error)}\n")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _missing(error: ModuleNotFoundError) -> str:
    extra = _EXTRAS.get(str(error.name).split(".")[0])
    return f"no Python package '{error.name}'" + (f"; pip install 'sdcpc_ros[{extra}]' brings it" if extra else "")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
