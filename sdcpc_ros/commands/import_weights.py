"""`sdcpc import-weights`: make a starting point for training from public encoder weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdcpc_ros.commands.config_field import add_config_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the public weights, .safetensors")
    parser.add_argument(
        "--encoder", required=True, help="mit_b0 to mit_b5, resnet18, 50 or 101, efficientnet_lite0 to 2"
    )
    parser.add_argument(
        "--label-set",
        required=True,
        metavar="NAME_OR_FILE",
        help="camvid_11, cityscapes_19, vspw_124, or a JSON file: name, class_names, colours",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="the checkpoint, .safetensors")
    parser.add_argument("--input-size", type=int, nargs=2, default=(360, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--seed", type=int, default=0, help="of the other layers, default %(default)s")
    add_config_fields(parser, "output_stride=8, reference_offsets=[2,4]")


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.import_weights import import_weights
    from sdcpc_ros.label_set import read_label_set

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
