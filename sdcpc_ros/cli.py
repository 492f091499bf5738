"""The `sdcpc` command. Each subcommand is a module of `sdcpc_ros.commands`, loaded when it is the one asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import sys
from collections.abc import Sequence

from sdcpc_ros import __version__
from sdcpc_ros.runtime.installation import install_advice
from sdcpc_ros.runtime.openmp import limit_omp_spin
from sdcpc_ros.runtime.process_memory import configure_malloc

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
    "evaluate-bag": (
        "replay bags through the node's segmenter and report",
        "Evaluate rosbag2 bags: every frame, in order, through the node's segmenter; scores, a page to look at, gates.",
    ),
    "make-bag": (
        "make a bag of a folder of images and labels",
        "Write a folder of images, with or without label images, as a rosbag2 bag.",
    ),
    "compare": (
        "compare evaluations of one recording",
        "Compare reports of `sdcpc evaluate-bag` on one bag with the first of them: what differs, how surely.",
    ),
    "segment": (
        "paint or label a video, images or a bag",
        "Segment a video, images or a bag, without ROS: a video with the class colours over it, or label images.",
    ),
    "view": (
        "look at pictures, masks and scores in Rerun",
        "Show pictures, masks, confidence, scores and resets of a bag, a video or a running node in Rerun.",
    ),
    "train": (
        "train a model on labelled video",
        "Train by a recipe, or go on where a stopped run left off, to OUTPUT/model.safetensors.",
    ),
    "import-weights": (
        "bring in a public segmenter, or encoder weights to train from",
        "With --segmenter: write a checkpoint of a whole public segmenter, which runs as it is, steadied over time. "
        "With --encoder: write a checkpoint whose encoder holds public weights (SegFormer as Hugging Face spells it, "
        "ResNet as torchvision and timm do, EfficientNet-Lite as timm and EfficientNet-PyTorch do) and whose other "
        "layers are freshly initialised: a starting point for training.",
    ),
    "import-onnx": (
        "bring in any segmenter as an ONNX file",
        "Write one self-contained model file of an ONNX segmenter and its labels. onnxruntime runs it, and the node "
        "steadies it over time. What the file does not say is printed with the value that is taken.",
    ),
    "doctor": (
        "what keeps the ROS node from working here",
        "Look at this machine, its ROS and the live graph: one line each, with the fix. Exit status 1 on a fault.",
    ),
    "export": (
        "write what a robot loads: ONNX, a compiled package, a TensorRT engine",
        "Write a model for one size of the network's input: as ONNX, as an exported PyTorch program, or for one of the "
        "backends aot, onnxruntime and tensorrt. All are stateless: a frame and what earlier ones left go in, logits "
        "and what this one leaves come out.",
    ),
    "models": ("the models that come with the package", "List the shipped models: name, classes, size and file."),
    "info": ("what a model says about itself", "Print a model's classes, configuration and training."),
}

#: Exit status if the reader of stdout has left: that of a process which SIGPIPE ended.
_READER_LEFT = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 1 after one sentence on stderr (2, from argparse, for wrong usage)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    # As the node does: before PyTorch is imported, and threads start.
    configure_malloc()
    limit_omp_spin()
    parsed = build_parser(chosen=arguments[0] if arguments else "").parse_args(arguments)
    try:
        status = parsed.run(parsed) or 0
        sys.stdout.flush()
        return status
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return _READER_LEFT
        print(f"sdcpc {parsed.command}: {_sentence(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if install_advice(str(error.name)) is None:
            raise
        print(f"sdcpc {parsed.command}: {_missing(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"sdcpc {parsed.command}: interrupted", file=sys.stderr)
        return 130


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """The whole command line; only `chosen`, the subcommand about to be parsed, is loaded and knows its options."""
    parser = argparse.ArgumentParser(
        prog="sdcpc",
        description="Temporally consistent semantic segmentation of video: show, evaluate, train, inspect.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, description) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=description)
        if name == chosen:
            try:
                module = importlib.import_module(f"sdcpc_ros.commands.{name.replace('-', '_')}")
            except ModuleNotFoundError as error:
                command.exit(1, f"sdcpc {name}: {_missing(error)}\n")
            module.add_arguments(command)
            command.set_defaults(run=module.run, parser=command)
    return parser


def _complete() -> None:
    """Answers the shell's question what may stand here and ends the process, if argcomplete is installed."""
    try:
        import argcomplete
    except ModuleNotFoundError:
        return
    words = os.environ.get("COMP_LINE", "").split()
    argcomplete.autocomplete(build_parser(chosen=words[1] if len(words) > 1 else ""))


def _reader_has_left() -> bool:
    """Whether the reader of stdout, a pipe, has closed it, as `| head` does. Silences Python's flush at exit then."""
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), 0)  # asks for POLLERR alone
    if not stdout.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _missing(error: ModuleNotFoundError) -> str:
    advice = install_advice(str(error.name))
    package = str(error.name).split(".")[0]
    return f"no Python package '{package}'" + (f"; to get it: {advice}" if advice else "")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
