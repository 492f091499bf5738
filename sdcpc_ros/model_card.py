"""What a checkpoint says about itself, as Markdown for people."""

from __future__ import annotations

import json
from pathlib import Path

from sdcpc_ros.checkpoint import Checkpoint


def model_card(path: Path, checkpoint: Checkpoint) -> str:
    """Size, classes, input, network configuration and training record of the checkpoint that was read from `path`."""
    parameters = sum(tensor.numel() for tensor in checkpoint.state_dict.values())
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.state_dict.values()})
    height, width = checkpoint.input_size
    label_set = checkpoint.label_set
    lines = [
        f"# {path.stem}",
        "",
        f"- file: {path}, {path.stat().st_size / 1e6:.1f} MB",
        f"- network: SD-CPC with {checkpoint.config.encoder}, {parameters / 1e6:.2f} M parameters ({', '.join(types)})",
        f"- input: {width} x {height} RGB (width x height)",
        f"- normalisation: mean {_numbers(checkpoint.mean)}, std {_numbers(checkpoint.std)}",
        f"- classes: {len(label_set)}, label set {label_set.name}",
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
        *(_bullets(checkpoint.training) or ["no record"]),
    ]
    return "\n".join(lines)


def _bullets(values: dict) -> list[str]:
    return [f"- {key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
