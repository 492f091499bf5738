"""Options of every command that runs a network: which, where and how."""

from __future__ import annotations

import argparse

from sdcpc_ros import DEFAULT_MODEL

#: As in `sdcpc_ros.inference`, which imports PyTorch; a test holds them together.
BACKENDS = ("auto", "eager", "inductor", "aot", "onnxruntime", "tensorrt")
PRECISIONS = ("auto", "float32", "float16", "bfloat16")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH", help="a shipped model or a file, default %(default)s"
    )
    add_device_options(parser)


def add_device_options(parser: argparse._ActionsContainer, *, repeatable: bool = False) -> None:
    """To a parser, or to one of its groups.

    repeatable: without backend auto, which changes the backend when another is built, within a run and at no fixed
    frame: results that are compared would differ from run to run.
    """
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (the GPU where PyTorch finds one), cpu, cuda or cuda:N, default %(default)s",
    )
    parser.add_argument(
        "--backend",
        default="eager" if repeatable else "auto",
        choices=[name for name in BACKENDS if name != "auto" or not repeatable],
        help="how the network is run, default %(default)s",
    )
    add_precision_option(parser)


def add_precision_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of weights, activations and memories; auto is float16 on a GPU and float32 on a CPU, default %(default)s",
    )
