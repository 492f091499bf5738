"""Any ONNX segmenter and its labels in one model file: what the file says is read, and tried on one image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.model_files.checkpoint import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ONNX_TENSOR,
    Checkpoint,
    CheckpointError,
    check_input,
    check_output,
    save_checkpoint,
)
from sdcpc_ros.model_files.onnx_session import INPUT_TYPES, OnnxError, OnnxSession
from sdcpc_ros.network.config import Colour
from sdcpc_ros.network.given_logits import GivenLogits, GivenLogitsConfig, as_logits
from sdcpc_ros.runtime.git_lfs import pointer_reason

_DEFAULT_SIZE = (512, 512)


@dataclass(frozen=True)
class OnnxOptions:
    """What the user says of a model; None where the file or a default decides."""

    mean: Colour | None = None  #: of RGB, in units of 0..255
    std: Colour | None = None  #: of RGB, in units of 0..255
    size: tuple[int, int] | None = None  #: (height, width), px
    layout: str | None = None  #: of the input, nchw or nhwc
    channel_order: str = "rgb"
    output: str | None = None  #: the name of the output
    licence: str = "not stated: look at where the model came from"
    config_fields: Mapping[str, Any] = field(default_factory=dict)  #: fields of GivenLogitsConfig


def import_onnx(source: str | Path, output: str | Path, labels: LabelSet, options: OnnxOptions) -> Checkpoint:
    """Write and return a checkpoint that holds the ONNX file `source`, tried on one random image.

    Prints what was read, found or assumed. Raises CheckpointError naming the file and what is wrong with it, ValueError
    for options that do not suit it.
    """
    path = Path(source)
    check_output(output, path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if pointer := pointer_reason(path):
        raise CheckpointError(f"{path}: {pointer}")
    model = path.read_bytes()
    try:
        session = OnnxSession(model)
        inputs, outputs = session.ports()
        values = _input_fields(inputs, options)
        values["output_name"] = _output_name(outputs, options.output)
        size, fixed = _size(inputs[0], values["input_layout"], options.size)
        mean, std = _normalisation(values["input_type"], options)
        check_input(mean, std, size)
        trial = GivenLogitsConfig.from_dict({**values, **options.config_fields, "num_classes": len(labels)})
        found = _run(session, trial, mean, std, size)
        values |= _output_fields(found, labels)
        if not fixed:
            try:
                _run(session, trial, mean, std, (size[0] + 8, size[1] + 8))
            except OnnxError:
                fixed = True
    except OnnxError as error:
        raise CheckpointError(f"{path}: {error}") from error
    values |= {"fixed_size": list(size) if fixed else None, "num_classes": len(labels), **options.config_fields}
    config = GivenLogitsConfig.from_dict(values)
    as_logits(config, found)  # raises where the user's fields do not fit
    checkpoint = Checkpoint(
        config=config,
        label_set=labels,
        mean=mean,
        std=std,
        input_size=size,
        state_dict={ONNX_TENSOR: torch.from_numpy(np.frombuffer(model, np.uint8).copy())},
        training={
            "imported_from": path.name,
            "sha256": hashlib.sha256(model).hexdigest(),
            "licence": options.licence,
        },
    )
    _report(checkpoint, tuple(found.shape), options)
    save_checkpoint(output, checkpoint)
    return checkpoint


def _input_fields(inputs: list[Any], options: OnnxOptions) -> dict[str, Any]:
    if len(inputs) != 1:
        raise OnnxError(f"has {len(inputs)} inputs ({_listed(inputs)}); one, the image, is allowed")
    port = inputs[0]
    if port.type not in INPUT_TYPES:
        raise OnnxError(f"its input '{port.name}' is {port.type}; {', '.join(INPUT_TYPES)} are allowed")
    if len(port.shape) != 4 or (isinstance(port.shape[0], int) and port.shape[0] != 1):
        raise OnnxError(
            f"its input '{port.name}' is {_shape(port)}; one image, (1, 3, H, W) or (1, H, W, 3), is needed"
        )
    layout = options.layout or ("nhwc" if port.shape[3] == 3 and port.shape[1] != 3 else "nchw")
    channels = port.shape[1 if layout == "nchw" else 3]
    if isinstance(channels, int) and channels != 3:
        raise OnnxError(f"its input '{port.name}' is {_shape(port)}, which as {layout} has {channels} channels, not 3")
    return {
        "input_name": port.name,
        "input_type": INPUT_TYPES[port.type],
        "input_layout": layout,
        "channel_order": options.channel_order,
    }


def _output_name(outputs: list[Any], asked: str | None) -> str:
    names = [port.name for port in outputs]
    if asked is None and len(names) != 1:
        raise OnnxError(f"has {len(names)} outputs ({_listed(outputs)}); name one with --output")
    if asked is not None and asked not in names:
        raise OnnxError(f"has no output '{asked}'; its outputs are {_listed(outputs)}")
    return asked or names[0]


def _size(port: Any, layout: str, asked: tuple[int, int] | None) -> tuple[tuple[int, int], bool]:
    """(height, width) to run at, px, and whether the file allows no other."""
    sides = port.shape[2:] if layout == "nchw" else port.shape[1:3]
    size = asked or _DEFAULT_SIZE
    if not all(isinstance(side, int) for side in sides):
        return size, False
    own = (sides[0], sides[1])
    if asked is not None and asked != own:
        raise OnnxError(f"takes images of {own[1]}x{own[0]} px only, not {asked[1]}x{asked[0]}")
    return own, True


def _normalisation(input_type: str, options: OnnxOptions) -> tuple[Colour, Colour]:
    if input_type == "uint8":
        if options.mean is not None or options.std is not None:
            raise OnnxError("takes uint8 pixels as they are; --mean and --std do not go with it")
        return IMAGENET_MEAN, IMAGENET_STD  # undone before the model
    return options.mean or IMAGENET_MEAN, options.std or IMAGENET_STD


def _run(session: OnnxSession, config: GivenLogitsConfig, mean: Colour, std: Colour, size: tuple[int, int]) -> Tensor:
    """The model's output for one random image."""
    run = session.runner(config.input_name, config.output_name)
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return run(GivenLogits(config, mean, std, run).as_input(image))


def _output_fields(found: Tensor, labels: LabelSet) -> dict[str, Any]:
    """What the output is, from its shape and values."""
    classes, shape = len(labels), tuple(found.shape)
    maps = found[0] if found.dim() == 4 and shape[0] == 1 else found
    if found.is_floating_point() and found.numel() and maps.dim() == 3 and classes in (maps.shape[0], maps.shape[2]):
        layout = "nchw" if maps.shape[0] == classes else "nhwc"
        if not bool(found.isfinite().all()):
            raise OnnxError("gives numbers that are not finite for a random image")
        shares = bool(((maps >= 0) & (maps <= 1 + 1e-3)).all())
        return {"output": "probabilities" if shares else "logits", "output_layout": layout}
    is_id = (found >= 0) & (found == found.round() if found.is_floating_point() else True)
    if sum(side != 1 for side in shape) == 2 and found.numel() and bool(is_id.all()):
        largest = int(found.max())
        if largest >= classes and largest != 255:
            raise OnnxError(
                f"gives class ids up to {largest}, but the labels have {classes} classes, 0 to {classes - 1}"
            )
        return {"output": "ids"}
    raise OnnxError(
        f"its output is {shape}; with {classes} classes in the labels (1, {classes}, h, w), (1, h, w, {classes}) or "
        "class ids (1, h, w) are needed"
    )


def _report(checkpoint: Checkpoint, shape: tuple[int, ...], options: OnnxOptions) -> None:
    config, (height, width) = checkpoint.config, checkpoint.input_size
    assert isinstance(config, GivenLogitsConfig)
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (checkpoint.mean, checkpoint.std))
    assumed = " (assumed: ImageNet's; --mean and --std say otherwise)" if options.mean is None else ""
    normalisation = f"mean {mean}, std {std}, of 0..255{assumed}"
    if config.input_type == "uint8":
        normalisation = "none: uint8 pixels"
    sides = "no other" if config.fixed_size else "others of the image's aspect ratio too"
    order = "" if options.channel_order == "bgr" else " (assumed; --channel-order bgr says otherwise)"
    print(f"input '{config.input_name}': {config.input_type}, {config.input_layout}, {config.channel_order}{order}")
    print(f"size: {width} x {height} (width x height), {sides}")
    print(f"normalisation: {normalisation}")
    print(f"output '{config.output_name}': {config.output}, {shape}")


def _shape(port: Any) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in port.shape) + ")"


def _listed(ports: list[Any]) -> str:
    return ", ".join(f"'{port.name}' {_shape(port)}" for port in ports) or "none"
