"""A model with other settings and the same weights: another camera's frame rate, steadier labels, fairer classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdcpc_ros.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from sdcpc_ros.network import SDCPCConfig
from sdcpc_ros.network.config import FREE_FIELDS

#: The heads that read classes off features.
_BIASES = ("head.classify.bias", "static_head.bias")


def adjust_model(
    source: str | Path,
    output: str | Path,
    *,
    config_fields: Mapping[str, Any] | None = None,
    prior_shift: float = 0.0,
    frequencies: str | Path | None = None,
) -> Checkpoint:
    """Write and return the checkpoint at `source` with other settings; no training.

    config_fields: fields of SDCPCConfig that no weight depends on (`FREE_FIELDS`). prior_shift: makes classes as
    likely as this power of their frequency says, 0..1; `frequencies` is then the class_frequencies.json of a training
    run. Raises CheckpointError or ValueError with a sentence.
    """
    checkpoint = load_checkpoint(source)
    fields = dict(config_fields or {})
    fixed = sorted(set(fields) - FREE_FIELDS)
    if fixed:
        raise ValueError(
            f"{', '.join(fixed)} cannot be changed without training; what can is {', '.join(sorted(FREE_FIELDS))}"
        )
    if not 0 <= prior_shift <= 1:
        raise ValueError(f"prior_shift is {prior_shift:g}; a number in 0..1 is needed")
    weights = dict(checkpoint.state_dict)
    if prior_shift > 0:
        if frequencies is None:
            raise ValueError(
                "prior_shift needs the frequencies of the classes: a training run's class_frequencies.json"
            )
        shift = prior_shift * _log_frequencies(Path(frequencies), len(checkpoint.label_set))
        for name in _BIASES:
            weights[name] = (weights[name].float() + shift).to(weights[name].dtype)
    adjusted = [*checkpoint.training.get("adjusted", []), {**fields, "prior_shift": prior_shift}]
    result = replace(
        checkpoint,
        config=SDCPCConfig.from_dict({**checkpoint.config.to_dict(), **fields}),
        state_dict=weights,
        training={**checkpoint.training, "adjusted": adjusted},
    )
    save_checkpoint(output, result)
    return result


def _log_frequencies(path: Path, classes: int) -> Tensor:
    """(C,) logarithms of the classes' shares less their mean; what was never seen counts as one in a million."""
    try:
        pixels = torch.tensor(json.loads(path.read_text())["pixels"], dtype=torch.float64)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not the class_frequencies.json of a training run ({error})") from error
    if pixels.shape != (classes,) or (pixels < 0).any() or not pixels.sum() > 0:
        raise CheckpointError(f"{path}: holds {pixels.tolist()}; the pixels of {classes} classes are needed")
    logarithms = (pixels / pixels.sum()).clamp_min(1e-6).log()
    return (logarithms - logarithms.mean()).float()
