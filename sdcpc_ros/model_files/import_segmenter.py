"""A whole public segmenter from a folder as the Hugging Face hub gives it: weights, classes, normalisation, licence."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdcpc_ros.labels.label_set import LabelSet, LabelSetError, label_set_of_names, names_by_id
from sdcpc_ros.model_files.checkpoint import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Checkpoint,
    CheckpointError,
    as_colour,
    check_output,
    read_safetensors,
    save_checkpoint,
)
from sdcpc_ros.network.config import Colour
from sdcpc_ros.network.encoders import MIX_TRANSFORMERS, MixTransformer
from sdcpc_ros.network.public_keys import encoder_state
from sdcpc_ros.network.segformer import DecodeHead, SegFormerConfig

#: Where the preprocessor does not say.
_DEFAULT_SIZE = (512, 512)
_CONFIG, _WEIGHTS, _PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
_DECODE_HEAD = "decode_head."
#: What `MixTransformer` has built in: fields of SegFormer's config.json that may not differ.
_FIXED: dict[str, Any] = {
    "num_attention_heads": [1, 2, 5, 8],
    "sr_ratios": [8, 4, 2, 1],
    "mlp_ratios": [4, 4, 4, 4],
    "patch_sizes": [7, 3, 3, 3],
    "strides": [4, 2, 2, 2],
    "num_channels": 3,
    "hidden_act": "gelu",
}
_LICENCE_LENGTH = 20_000
_NO_LICENCE = "not stated beside the weights: look at their source (NVIDIA's SegFormer weights: non-commercial use)"


def import_segformer(
    source: str | Path,
    output: str | Path,
    *,
    label_set: LabelSet | None = None,
    input_size: tuple[int, int] | None = None,
    config_fields: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write and return a checkpoint of the SegFormer in `source`, with its decode head.

    source: a folder with config.json, model.safetensors and, where there is one, preprocessor_config.json, or its
    model.safetensors. label_set: instead of the classes that config.json names. input_size: (height, width), px,
    instead of the preprocessor's. config_fields: fields of SegFormerConfig that differ from their defaults.
    Raises CheckpointError naming the file and what is wrong with it, ValueError for a bad configuration.
    """
    folder, weights = _locate(Path(source))
    check_output(output, weights)
    described = _read_json(folder / _CONFIG)
    encoder = _encoder(described, folder / _CONFIG)
    tensors, _ = read_safetensors(weights)
    head = _decode_head(tensors, weights, encoder)
    classes = head["classifier.weight"].shape[0] if "classifier.weight" in head else 0
    label_set = label_set or _label_set(described, folder)
    if len(label_set) != classes:
        raise CheckpointError(
            f"{weights}: its classifier has {classes} classes, but label set '{label_set.name}' has {len(label_set)}"
        )
    values = {
        "encoder": encoder,
        "decoder_channels": described.get("decoder_hidden_size", 256),
        **(config_fields or {}),
        "num_classes": classes,
    }
    config = SegFormerConfig.from_dict(values)
    mean, std, size, preprocessing = _preprocessing(folder / _PREPROCESSOR)
    try:
        state = _state(tensors, head, config)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{weights}: as SegFormer with {encoder}: {error}") from error
    checkpoint = Checkpoint(
        config=config,
        label_set=label_set,
        mean=mean,
        std=std,
        input_size=input_size or size,
        state_dict=state,
        training={
            "imported_from": f"{folder.resolve().name}/{weights.name}",
            "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "preprocessing": preprocessing,
            "licence": _licence(folder),
        },
    )
    checkpoint.build_model()  # raises where a shape does not fit
    save_checkpoint(output, checkpoint)
    return checkpoint


def _decode_head(tensors: Mapping[str, Tensor], weights: Path, encoder: str) -> dict[str, Tensor]:
    """The tensors of the decode head, without their prefix."""
    head = {name.removeprefix(_DECODE_HEAD): t for name, t in tensors.items() if name.startswith(_DECODE_HEAD)}
    if not head:
        raise CheckpointError(
            f"{weights}: has no decode head (no tensor '{_DECODE_HEAD}...'), so it gives no classes; "
            f"`sdcpc import-weights --encoder {encoder}` takes the encoder as a starting point for training"
        )
    return head


def _state(tensors: Mapping[str, Tensor], head: Mapping[str, Tensor], config: SegFormerConfig) -> dict[str, Tensor]:
    """The state of `SegFormer` from the file's tensors, and those of its decode head."""
    with torch.device("meta"):
        encoder = MixTransformer(*MIX_TRANSFORMERS[config.encoder], eps=config.layer_norm_eps, drop_path=0.0)
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith(_DECODE_HEAD)}
    state = {f"encoder.{name}": tensor for name, tensor in encoder_state(body, encoder).items()}
    return state | {f"decode_head.{name}": tensor for name, tensor in DecodeHead.from_published(head).items()}


def _locate(source: Path) -> tuple[Path, Path]:
    """The folder and the file of weights."""
    if not source.is_dir():
        return source.parent, source
    weights = source / _WEIGHTS
    if weights.is_file():
        return source, weights
    if (source / f"{_WEIGHTS}.index.json").is_file():
        raise CheckpointError(f"{source}: weights in several files are not read; save the model as one {_WEIGHTS}")
    pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in sorted(source.glob(pattern))]
    if pickles:
        raise CheckpointError(
            f"{source}: holds {pickles[0]} but no {_WEIGHTS}; pickled weights can run code and are never read. Convert "
            f'ones that you trust: safetensors.torch.save_file(torch.load("{pickles[0]}", weights_only=True), '
            f'"{_WEIGHTS}")'
        )
    raise CheckpointError(f"{source}: no {_WEIGHTS} in this folder; a folder as the hub gives it is needed")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; a folder as the hub gives it has one")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: a JSON object is needed, not {type(values).__name__}")
    return values


def _encoder(described: dict[str, Any], path: Path) -> str:
    """The name of the Mix Transformer that config.json describes."""
    if described.get("model_type") != "segformer":
        raise CheckpointError(f"{path}: model_type is {described.get('model_type')!r}; 'segformer' is needed")
    for field, needed in _FIXED.items():
        if described.get(field, needed) != needed:
            raise CheckpointError(f"{path}: {field} is {described[field]}; {needed} is supported")
    sizes, depths = described.get("hidden_sizes"), described.get("depths")
    for name, (channels, blocks) in MIX_TRANSFORMERS.items():
        if sizes == list(channels) and depths == list(blocks):
            return name
    raise CheckpointError(f"{path}: hidden_sizes {sizes} with depths {depths} are none of SegFormer B0 to B5")


def _label_set(described: dict[str, Any], folder: Path) -> LabelSet:
    id2label = described.get("id2label")
    if not isinstance(id2label, dict) or not id2label:
        raise CheckpointError(f"{folder / _CONFIG}: has no id2label; name the classes with --label-set")
    try:
        names = names_by_id(id2label)
        return label_set_of_names(folder.resolve().name or "segformer", names)
    except LabelSetError as error:
        raise CheckpointError(f"{folder / _CONFIG}: id2label: {error}") from error


def _preprocessing(path: Path) -> tuple[Colour, Colour, tuple[int, int], str]:
    """Mean and std in units of 0..255, (height, width) in px, and where they are from.

    From preprocessor_config.json, or defaults if there is none.
    """
    if not path.is_file():
        return IMAGENET_MEAN, IMAGENET_STD, _DEFAULT_SIZE, f"defaults, as there is no {path.name}"
    values = _read_json(path)
    try:
        factor = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if values.get("do_normalize", True):
            mean = as_colour(values.get("image_mean", [0.485, 0.456, 0.406]))
            std = as_colour(values.get("image_std", [0.229, 0.224, 0.225]))
        mean, std = (as_colour([value / factor for value in colour]) for colour in (mean, std))
        return mean, std, _size(values.get("size", _DEFAULT_SIZE)), path.name
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: not a usable preprocessor configuration ({error!r})") from error


def _size(value: Any) -> tuple[int, int]:
    """(height, width) from 512, [512, 1024], {"height": ., "width": .} or {"shortest_edge": .}."""
    if isinstance(value, dict):
        value = value["shortest_edge"] if "shortest_edge" in value else (value["height"], value["width"])
    height, width = value if isinstance(value, (list, tuple)) else (value, value)
    return int(height), int(width)


def _licence(folder: Path) -> str:
    """What the folder says of its licence: the name in README.md's header, and the text of a licence file."""
    parts = []
    readme = folder / "README.md"
    if readme.is_file():
        header = re.match(r"---\n(.*?)\n---", readme.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        lines = re.findall(r"^(license(?:_name|_link)?):\s*(.+)$", header[1], re.MULTILINE) if header else []
        if lines:
            parts.append(", ".join(f"{name}: {value.strip()}" for name, value in lines))
    files = [path for path in sorted(folder.glob("LICEN[SC]E*")) if path.is_file()]
    parts += [path.read_text(encoding="utf-8", errors="replace")[:_LICENCE_LENGTH] for path in files[:1]]
    return "\n".join(parts) or _NO_LICENCE
