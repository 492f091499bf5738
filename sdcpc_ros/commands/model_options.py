"""Options that several commands share: the model, where and how it runs, its configuration, what is written."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcpc_ros import DEFAULT_MODEL

if TYPE_CHECKING:
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

#: As in `sdcpc_ros.inference`, which imports PyTorch; a test compares them.
BACKENDS = ("auto", "eager", "inductor", "aot", "onnxruntime", "tensorrt")
PRECISIONS = ("auto", "float32", "float16", "bfloat16")


def add_model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="a shipped model or a file, default %(default)s"
    )


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """The model as a positional argument."""
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_PATH",
        help="a shipped model, or a .safetensors file, default %(default)s",
    )


def add_device_options(parser: argparse._ActionsContainer, *, repeatable: bool = False) -> None:
    """To a parser, or to one of its groups.

    repeatable: leave out backend auto. It changes the backend within a run, at no fixed frame, so results would differ
    from run to run.
    """
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (the GPU if PyTorch finds one), cpu, cuda or cuda:N, default %(default)s",
    )
    parser.add_argument(
        "--backend",
        default="eager" if repeatable else "auto",
        choices=[name for name in BACKENDS if name != "auto" or not repeatable],
        help="backend that runs the network, default %(default)s",
    )
    add_precision_option(parser)


def add_precision_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="type of weights, activations and memories; auto: float16 on a GPU, float32 on a CPU; default %(default)s",
    )


def add_input_size(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--input-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help=help_text)


def add_output(parser: argparse.ArgumentParser, help_text: str, metavar: str = "OUT") -> None:
    """The output path; it has no default."""
    parser.add_argument("-o", "--output", required=True, type=Path, metavar=metavar, help=help_text)


def check_file_option(parser: argparse.ArgumentParser, option: str, path: Path | None, *inputs: Path) -> None:
    """Ends the command, before its work, if no file can be written there, or it would replace one of the inputs."""
    if path is None:
        return
    if not path.parent.is_dir():
        parser.error(f"{option}: no folder '{path.parent}'")
    if path.is_dir():
        parser.error(f"{option}: '{path}' is a folder; the name of a file is needed")
    if path.exists() and any(each.exists() and path.samefile(each) for each in inputs):
        parser.error(f"{option}: this is the input")


def load_chosen_model(arguments: argparse.Namespace) -> StreamingSegmenter:
    """The model of `add_model_option`, run by `add_device_options`. Raises CheckpointError or BackendError."""
    from sdcpc_ros.model_files.checkpoint import resolve_model
    from sdcpc_ros.replay.segmented_frames import ModelChoice

    path = resolve_model(arguments.model or DEFAULT_MODEL)
    return ModelChoice(path, arguments.device, arguments.backend, precision=arguments.precision).load()


def add_config_fields(parser: argparse.ArgumentParser, examples: str) -> None:
    """`--set FIELD=VALUE`, any number of times; pairs in `config_fields`."""
    parser.add_argument(
        "--set",
        dest="config_fields",
        type=_config_field,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"a field of the network configuration, its value as JSON: {examples}",
    )


def _config_field(text: str) -> tuple[str, Any]:
    """The field and its value, read as JSON, or as a plain string if it is not JSON."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not FIELD=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
