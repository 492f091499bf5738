"""Checkpoints: safetensors files that carry all that is needed to use the weights, and nothing that can run code.

The file's metadata, one JSON object under the key `sdcpc`, holds the format version, the network configuration, the
label set, the input normalisation and size, and a record of the training. A file that lacks any of it is refused.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.model_files.onnx_session import OnnxSession
from sdcpc_ros.network import SDCPC, NetworkConfig, SDCPCConfig, StreamNetwork
from sdcpc_ros.network.config import Colour
from sdcpc_ros.network.given_logits import GivenLogits, GivenLogitsConfig, Runner
from sdcpc_ros.network.public_keys import describe_mismatch
from sdcpc_ros.network.segformer import SegFormer, SegFormerConfig
from sdcpc_ros.runtime.atomic_file import atomic_path
from sdcpc_ros.runtime.git_lfs import pointer_reason
from sdcpc_ros.runtime.installation import share_folders

FORMAT_VERSION = 1
#: ImageNet's statistics, RGB in units of 0..255: what most public encoder weights were trained with, and ours too.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_METADATA_KEY = "sdcpc"
#: The one tensor of a checkpoint that holds an ONNX model: the bytes of the file.
ONNX_TENSOR = "onnx"
_CONFIGS: dict[str, type[NetworkConfig]] = {
    config.architecture: config for config in (SDCPCConfig, SegFormerConfig, GivenLogitsConfig)
}


def normalization(encoder: str) -> tuple[Colour, Colour]:
    """Mean and standard deviation, RGB in units of 0..255, that an encoder's public weights were trained with."""
    if encoder.startswith("efficientnet_lite"):
        return (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
    return IMAGENET_MEAN, IMAGENET_STD


class CheckpointError(ValueError):
    """A checkpoint is missing, unreadable, or does not fit what is asked of it."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights and what they mean."""

    config: NetworkConfig
    label_set: LabelSet
    mean: Colour  #: of RGB, in units of 0..255
    std: Colour  #: of RGB, in units of 0..255
    input_size: tuple[int, int]  #: (height, width) of the images it was trained for, px
    state_dict: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)  #: data, split, command, seed, ...: for people

    def __post_init__(self) -> None:
        if len(self.label_set) != self.config.num_classes:
            raise CheckpointError(
                f"the network has {self.config.num_classes} classes but label set '{self.label_set.name}' "
                f"has {len(self.label_set)}"
            )
        check_input(self.mean, self.std, self.input_size)

    def build_model(self) -> StreamNetwork:
        """The network with these weights, in evaluation mode, float32. Raises CheckpointError when they do not fit."""
        if isinstance(self.config, GivenLogitsConfig):
            return GivenLogits(self.config, self.mean, self.std, self._onnx_runner(self.config)).eval()
        model: SDCPC | SegFormer
        with torch.device("meta"):  # no memory or time for random weights that are replaced at once
            if isinstance(self.config, SDCPCConfig):
                model = SDCPC(self.config)
            else:
                model = SegFormer(self.config, self.mean, self.std)
        _check_tensors(self.state_dict, model.state_dict())
        # Copies: two models of one checkpoint must not share tensors.
        weights = {
            name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
            for name, tensor in self.state_dict.items()
        }
        model.load_state_dict(weights, assign=True)
        return model.eval().requires_grad_(False)

    def _onnx_runner(self, config: GivenLogitsConfig) -> Runner:
        if set(self.state_dict) != {ONNX_TENSOR} or self.state_dict[ONNX_TENSOR].dtype != torch.uint8:
            raise CheckpointError(f"the file describes an ONNX model, but its one tensor is not '{ONNX_TENSOR}', uint8")
        session = OnnxSession(self.state_dict[ONNX_TENSOR].numpy().tobytes())
        return session.runner(config.input_name, config.output_name)


def check_input(mean: Colour, std: Colour, size: tuple[int, int]) -> None:
    """Raises CheckpointError for a normalisation or a (height, width) that a checkpoint cannot have."""
    if not (len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) >= 1e-6):
        raise CheckpointError(f"normalisation needs three means and three stds above 0, all finite, not {mean}, {std}")
    if len(size) != 2 or not all(32 <= side <= 16384 for side in size):
        raise CheckpointError(f"the input size is {size}; (height, width), each in 32..16384, is needed")


def _check_tensors(found: dict[str, Tensor], needed: dict[str, Tensor]) -> None:
    missing, unexpected = sorted(set(needed) - set(found)), sorted(set(found) - set(needed))
    misshaped = [
        f"{name} is {tuple(found[name].shape)}, {tuple(needed[name].shape)} is needed"
        for name in sorted(set(needed) & set(found))
        if found[name].shape != needed[name].shape
    ]
    misshaped += [
        f"{name} is {found[name].dtype}, {needed[name].dtype} is needed"
        for name in sorted(set(needed) & set(found))
        if found[name].is_floating_point() != needed[name].is_floating_point()
    ]
    if problems := describe_mismatch(missing, unexpected, misshaped):
        raise CheckpointError(f"the weights do not fit the network that their own metadata describes: {problems}")


def check_output(path: str | os.PathLike[str], source: Path) -> None:
    """Raises CheckpointError if a checkpoint at `path` could not be read, or would replace the file it is made of."""
    path = Path(path)
    if path.suffix != ".safetensors" or path.is_dir():
        raise CheckpointError(f"{path}: a model file needs a name that ends in .safetensors")
    if path.exists() and source.exists() and path.samefile(source):
        raise CheckpointError(f"{path}: this is the input; the model needs another name")


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears whole or not at all. Raises OSError."""
    path = Path(path)
    metadata = {
        "format_version": FORMAT_VERSION,
        "network": checkpoint.config.to_dict(),
        "architecture": checkpoint.config.architecture,
        "label_set": checkpoint.label_set.to_dict(),
        "normalization": {"mean": list(checkpoint.mean), "std": list(checkpoint.std)},
        "input_size": list(checkpoint.input_size),
        "training": checkpoint.training,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state_dict.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises CheckpointError naming the file and what is wrong with it."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such model file")
    if path.suffix == ".onnx":
        raise CheckpointError(
            f"{path}: an ONNX file becomes a model by `sdcpc import-onnx {path.name} --labels LABELS -o "
            f"{path.stem}.safetensors`"
        )
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path}: only .safetensors files are read, as a pickle can run code. To convert a trusted file: "
            f'safetensors.torch.save_file(torch.load("{path.name}", weights_only=True), "{path.stem}.safetensors")'
        )
    if pointer := pointer_reason(path):
        raise CheckpointError(f"{path}: {pointer}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file, truncated perhaps ({error})") from error


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint. Raises CheckpointError with a sentence that names the file and what is wrong with it."""
    path = Path(path)
    state_dict, metadata = read_safetensors(path)
    if _METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path}: carries no sdcpc metadata; bring foreign weights in with `sdcpc import-weights`"
        )
    try:
        values = json.loads(metadata[_METADATA_KEY])
        if (version := values["format_version"]) != FORMAT_VERSION:
            raise CheckpointError(
                f"has checkpoint format {version!r}; this version of sdcpc_ros reads {FORMAT_VERSION}"
            )
        return Checkpoint(
            config=_config(values.get("architecture", SDCPCConfig.architecture), values["network"]),
            label_set=LabelSet.from_dict(values["label_set"]),
            mean=as_colour(values["normalization"]["mean"]),
            std=as_colour(values["normalization"]["std"]),
            input_size=(int(values["input_size"][0]), int(values["input_size"][1])),
            state_dict=state_dict,
            training=dict(values["training"]),
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its sdcpc metadata is damaged ({error!r})") from error


def _config(architecture: str, values: dict[str, Any]) -> NetworkConfig:
    """Raises ValueError naming an unknown architecture or a bad field."""
    if architecture not in _CONFIGS:
        raise ValueError(f"network architecture '{architecture}' is unknown; known are {', '.join(_CONFIGS)}")
    return _CONFIGS[architecture].from_dict(values)


def as_colour(values: Any) -> Colour:
    """Three numbers. Raises TypeError or ValueError."""
    first, second, third = values
    return float(first), float(second), float(third)


def resolve_model(name_or_path: str) -> Path:
    """The file of a shipped model, by name, or of another, by path. Raises CheckpointError listing what is shipped."""
    path = Path(os.path.expanduser(name_or_path))  # Path.expanduser raises for an unknown user
    if path.is_file():
        return path
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{name_or_path}: no such model file")
    shipped = shipped_models()
    if name_or_path in shipped:
        return shipped[name_or_path]
    raise CheckpointError(
        f"no model '{name_or_path}': neither a file nor a shipped model ({', '.join(sorted(shipped)) or 'none found'})"
    )


def shipped_models() -> dict[str, Path]:
    """Name -> file of the models that come with the package: in its source tree, or installed to share/sdcpc_ros."""
    models: dict[str, Path] = {}
    for folder in share_folders():
        for file in sorted(folder.glob("models/*.safetensors")):
            models.setdefault(file.stem, file)
    return models
