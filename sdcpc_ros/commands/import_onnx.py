"""Write one model file from an ONNX segmenter and its labels. onnxruntime runs it, and the node makes its masks more
stable over time. The command prints the values that it assumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sdcpc_ros.commands.model_options import add_config_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the model, .onnx, with its weights inside")
    parser.add_argument(
        "--labels",
        required=True,
        metavar="NAME_OR_FILE",
        help="camvid_11, cityscapes_19, vspw_124, or a YAML file: a list of class names by id, or id: name",
    )
    parser.add_argument("-o", "--output-file", required=True, type=Path, metavar="OUT", help="the model, .safetensors")
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}",
            type=float,
            nargs=3,
            metavar=("R", "G", "B"),
            help=f"{name} of the pixels in 0..255, default ImageNet's; for input in 0..1 use 0 0 0 and 255 255 255",
        )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the input, if the file leaves it open; default 512 512",
    )
    parser.add_argument("--layout", choices=("nchw", "nhwc"), help="layout of the input; default: from its shape")
    parser.add_argument("--channel-order", choices=("rgb", "bgr"), default="rgb", help="default %(default)s")
    parser.add_argument("--output", metavar="NAME", help="the output with the classes, if there are several")
    parser.add_argument("--licence", metavar="TEXT", help="for the record, shown by `sdcpc info`")
    add_config_fields(parser, "temporal=false, reference_offsets=[2,4]")


def run(arguments: argparse.Namespace) -> None:
    from sdcpc_ros.labels.label_set import read_label_set
    from sdcpc_ros.model_files.import_onnx import OnnxOptions, import_onnx

    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name in ("mean", "std", "size", "layout", "channel_order", "output", "licence")
        if (value := getattr(arguments, name)) is not None
    }
    options = OnnxOptions(**given, config_fields=dict(arguments.config_fields))
    import_onnx(arguments.file, arguments.output_file, read_label_set(arguments.labels), options)
    print(f"wrote {arguments.output_file}")
