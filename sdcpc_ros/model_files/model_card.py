"""What a checkpoint says about itself, as Markdown for people."""

from __future__ import annotations

import json
from pathlib import Path

from sdcpc_ros.model_files.checkpoint import ONNX_TENSOR, Checkpoint
from sdcpc_ros.network import NetworkConfig, SDCPCConfig
from sdcpc_ros.network.given_logits import GivenLogitsConfig


def model_card(path: Path, checkpoint: Checkpoint) -> str:
    """Size, classes, input, network configuration and training record of the checkpoint that was read from `path`."""
    height, width = checkpoint.input_size
    label_set = checkpoint.label_set
    record = dict(checkpoint.training)
    licence = record.get("licence", "not recorded")
    lines = [
        f"# {path.stem}",
        "",
        f"- file: {path}, {path.stat().st_size / 1e6:.1f} MB",
        f"- network: {describe(checkpoint.config)}, {_size(checkpoint)}",
        f"- temporal path: {_describe_temporal_path(checkpoint.config)}",
        f"- input: {width} x {height} RGB (width x height)",
        f"- normalisation: mean {_numbers(checkpoint.mean)}, std {_numbers(checkpoint.std)}",
        f"- classes: {len(label_set)}, label set {label_set.name}",
        f"- licence: {_first_line(licence)}",
        "",
        "| id | class | colour (RGB) |",
        "|---|---|---|",
        *(
            f"| {class_id} | {name} | {_numbers(colour)} |"
            for class_id, (name, colour) in enumerate(zip(label_set.class_names, label_set.colours))
        ),
        "",
        "## Network configuration",
        *_bullets(checkpoint.config.to_dict()),
        "",
        "## Training",
        *(_bullets({key: value for key, value in record.items() if key != "licence"}) or ["no record"]),
    ]
    if _first_line(licence) != licence:
        lines += ["", "## Licence", str(licence)]
    return "\n".join(lines)


def describe(config: NetworkConfig) -> str:
    """What the network is, in a few words."""
    if isinstance(config, GivenLogitsConfig):
        return f"an ONNX model that gives {config.output}"
    return f"{'SD-CPC' if isinstance(config, SDCPCConfig) else 'SegFormer'} with {config.encoder}"


def _describe_temporal_path(config: NetworkConfig) -> str:
    """How the network uses earlier frames, in a few words."""
    if not config.temporal:
        return "none: every frame by itself"
    return "DSSA with weights" if isinstance(config, SDCPCConfig) else "DSSA without weights"


def _size(checkpoint: Checkpoint) -> str:
    """The number and types of the parameters; of a foreign model only the size of its file is known."""
    tensors = dict(checkpoint.state_dict)
    if ONNX_TENSOR in tensors:
        return f"{tensors[ONNX_TENSOR].numel() / 1e6:.1f} MB"
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return f"{sum(tensor.numel() for tensor in tensors.values()) / 1e6:.2f} M parameters ({', '.join(types)})"


def _first_line(text: object) -> str:
    """The first line of a text that has several; for models of others whose licence is on record whole."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return lines[0] if lines else ""


def _bullets(values: dict) -> list[str]:
    return [f"- {key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
