"""Write a model for one size of the network's input: as ONNX, as an exported PyTorch program, or for one of the
backends aot, onnxruntime and tensorrt. All are stateless: their inputs are a frame and the memories of earlier
frames, their outputs are logits and the memory of this frame.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from sdcpc_ros.commands.model_options import add_input_size, add_model_argument, add_output, add_precision_option

if TYPE_CHECKING:
    from sdcpc_ros.model_files.checkpoint import Checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument(
        "--format",
        required=True,
        choices=("aot", "onnx", "onnxruntime", "tensorrt", "torch"),
        help="aot: compiled by AOTInductor for this processor; onnx: for any runtime; onnxruntime: the same for the "
        "backend of that name; tensorrt: an engine for this GPU; torch: a program for torch.export.load",
    )
    add_output(parser, "the file; for aot, onnxruntime and tensorrt the folder, which becomes SDCPC_CACHE on the robot")
    add_input_size(parser, "network input size, as input_height and input_width of the node; default: the model's")
    parser.add_argument(
        "--device",
        help="auto (the GPU if PyTorch finds one), cpu, cuda or cuda:N, default cuda for tensorrt and cpu for the "
        "others",
    )
    add_precision_option(parser)


def run(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from sdcpc_ros.inference import Step, checked_device, checked_precision, precision_name
    from sdcpc_ros.inference.exporting import export_step
    from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
    from sdcpc_ros.streaming.geometry import MAX_SIDE, MIN_SIDE

    path = resolve_model(arguments.model)
    checkpoint = load_checkpoint(path)
    height, width = size = tuple(arguments.input_size or checkpoint.input_size)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise ValueError(f"--input-size is {height} {width}; {MIN_SIDE} to {MAX_SIDE} each is allowed")
    device = checked_device(arguments.device or ("cuda" if arguments.format == "tensorrt" else "cpu"))
    model = checkpoint.build_model()
    dtype = checked_precision(arguments.precision, device, model)
    step = Step(model, checkpoint.mean, checkpoint.std, device, dtype)
    console = Console(stderr=True)
    with console.status(
        f"{arguments.format} for {width}x{height}, {precision_name(dtype)}, on {device}: seconds to minutes"
    ):
        written = export_step(step, size, arguments.format, arguments.output, metadata(path.stem, checkpoint, size))
    print(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")
    if arguments.format in ("aot", "onnxruntime", "tensorrt"):
        print(
            f"the node runs it with SDCPC_CACHE={arguments.output} in its environment, and the parameters "
            f"backend: {arguments.format}, precision: {precision_name(dtype)}, input_height: {height}, "
            f"input_width: {width}"
        )


def metadata(name: str, checkpoint: Checkpoint, size: tuple[int, int]) -> dict[str, str]:
    """The metadata of an exported file: text, and JSON for structured values."""
    from sdcpc_ros import __version__

    return {
        "model": name,
        "sdcpc_ros": __version__,
        "label_set": json.dumps(checkpoint.label_set.to_dict()),
        "input_size": json.dumps(list(size)),  # height, width
        "reference_offsets": json.dumps(list(checkpoint.config.reference_offsets)),  # frames back, in any order
        # For the record: the network takes uint8 RGB and applies it itself.
        "normalization": json.dumps({"mean": list(checkpoint.mean), "std": list(checkpoint.std), "applied": "inside"}),
    }
