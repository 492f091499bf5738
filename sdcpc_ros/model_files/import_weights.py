"""A starting point for training: a checkpoint whose encoder holds public weights, the rest freshly initialised."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.model_files.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_output,
    normalization,
    read_safetensors,
    save_checkpoint,
)
from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.network.public_keys import encoder_state

#: Encoders whose decode head would outweigh them at 256 channels.
_NARROW_ENCODERS = ("mit_b0", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


def import_weights(
    source: str | Path,
    output: str | Path,
    *,
    encoder: str,
    label_set: LabelSet,
    input_size: tuple[int, int] = (360, 480),
    seed: int = 0,
    config_fields: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write and return a checkpoint whose encoder is `source`, a .safetensors file of public weights.

    `encoder` is one of `sdcpc_ros.network.ENCODERS`; `input_size` (height, width) in px; `seed` decides the rest of the
    weights; `config_fields` are fields of SDCPCConfig that differ from their defaults. Layer norms get Hugging Face's
    epsilon, 1e-5, unless `config_fields` says otherwise (the original MiT weights were trained with 1e-6).
    Raises CheckpointError when the file is no such thing or does not fit, ValueError for a bad configuration.
    """
    path = Path(source)
    check_output(output, path)
    tensors, _ = read_safetensors(path)
    defaults: dict[str, Any] = {"encoder": encoder, "embed_dim": 128 if encoder in _NARROW_ENCODERS else 256}
    if encoder.startswith("mit"):
        defaults["layer_norm_eps"] = 1e-5
    config = SDCPCConfig.from_dict({**defaults, **(config_fields or {}), "num_classes": len(label_set)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SDCPC(config)
    try:
        model.encoder.load_state_dict(encoder_state(tensors, model.encoder))
    except ValueError as error:
        raise CheckpointError(f"{source}: as {config.encoder}: {error}") from error
    mean, std = normalization(encoder)
    checkpoint = Checkpoint(
        config=config,
        label_set=label_set,
        mean=mean,
        std=std,
        input_size=input_size,
        state_dict=model.state_dict(),
        training={
            "encoder_weights": path.name,
            "encoder_weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "seed": seed,
            "steps": 0,
        },
    )
    save_checkpoint(output, checkpoint)
    return checkpoint
