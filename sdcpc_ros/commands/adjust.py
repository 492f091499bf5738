"""`sdcpc adjust`: a model with other settings and the same weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdcpc_ros import DEFAULT_MODEL
from sdcpc_ros.commands.config_field import add_config_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_PATH",
        help="a shipped model, or a .safetensors file, default %(default)s",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="the checkpoint, .safetensors")
    add_config_fields(parser, "reference_offsets=[2,4,6], vote_floor=0.5")
    parser.add_argument(
        "--prior-shift",
        type=float,
        default=0.0,
        metavar="POWER",
        help="make classes as likely as this power of their frequency says, 0..1: undoes class_balance",
    )
    parser.add_argument(
        "--frequencies", type=Path, metavar="FILE", help="for --prior-shift: class_frequencies.json of a training run"
    )


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.adjust_model import adjust_model
    from sdcpc_ros.checkpoint import resolve_model

    adjust_model(
        resolve_model(arguments.model),
        arguments.output,
        config_fields=dict(arguments.config_fields),
        prior_shift=arguments.prior_shift,
        frequencies=arguments.frequencies,
    )
    print(f"wrote {arguments.output}")
