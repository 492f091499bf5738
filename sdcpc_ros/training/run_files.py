"""The files of a training run: the state to resume from, the logs, and the weights and record of its checkpoints."""

from __future__ import annotations

import csv
import dataclasses
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.model_files.checkpoint import read_safetensors
from sdcpc_ros.runtime.atomic_file import atomic_path, remove_leftovers
from sdcpc_ros.training.distributed import DistributedContext
from sdcpc_ros.training.recipe import Recipe, RecipeError, recipe_from

#: Terms that weights inherit from their data set.
_TERMS = {
    "camvid": "the weights carry CamVid's terms: non-commercial research use",
    "cityscapes": "the weights carry Cityscapes' terms: non-commercial research use",
    "vspw": "the weights carry VSPW's terms: non-commercial research use",
}


def save_state(path: Path, recipe: Recipe, parts: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
    """Write tensors, by part and name, and JSON values. Raises OSError."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _flat(parts).items()}
    metadata = {"values": json.dumps(values), "recipe": json.dumps(recipe_values(recipe))}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_state(path: Path, recipe: Recipe) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The tensors and values of `save_state`, or None without a file.

    Raises RecipeError if the file is unreadable or of another recipe.
    """
    remove_leftovers(path)
    if not path.exists():
        return None
    try:
        tensors, metadata = read_safetensors(path)
        values = json.loads(metadata["values"])
        theirs = recipe_values(recipe_from(json.loads(metadata["recipe"])))  # fields that are new since: their defaults
    except (KeyError, ValueError) as error:
        raise RecipeError(f"{path} is not readable as a run's state ({error!r}); remove it to start afresh") from error
    ours = recipe_values(recipe)
    differences = [
        f"{name} {theirs.get(name)!r}, not {ours.get(name)!r}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    if differences:
        raise RecipeError(
            f"{path} was saved by another recipe, with {'; '.join(differences)}; train into another folder or remove it"
        )
    return _grouped(tensors), values


def _flat(groups: Mapping[Any, Mapping[str, Any]]) -> dict[str, Tensor]:
    """The tensors of all groups by "group/name"; other values are left out."""
    return {
        f"{group}/{name}": value
        for group, named in groups.items()
        for name, value in named.items()
        if isinstance(value, Tensor)
    }


def _grouped(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The inverse of `_flat`."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, rest = name.split("/", 1)
        groups.setdefault(group, {})[rest] = tensor
    return groups


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe for JSON, without the fields that do not change the weights; a resumed run may change those."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return {name: value for name, value in values.items() if name not in ("workers", "save_every", "validation")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter and name."""
    return _flat(optimizer.state_dict()["state"])


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    state = {int(index): named for index, named in _grouped(tensors).items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for parameter, named in optimizer.state.items():  # in memory as the parameter is: sums run in the order they ran in
        for key, value in named.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                named[key] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append a line to a log; a new file begins with the names of its columns, of which "step" is the first."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def cut_log(path: Path, step: int) -> None:
    """Removes the lines of a log after `step`; a run that resumes there writes them again."""
    if not path.exists():
        return
    header, *lines = path.read_bytes().splitlines(keepends=True) or [b""]
    whole = [line for line in lines if line.endswith(b"\n")]  # a full disk may have cut the last one
    kept = [line for line in whole if (number := line.split(b",")[0].strip()).isdigit() and int(number) <= step]
    if not kept:
        path.unlink()  # its header may have been cut short
    elif len(kept) < len(lines):
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"".join([header, *kept]))


def training_record(
    recipe: Recipe, world: DistributedContext, dataset: VideoDataset, command: str, reached: dict[str, Any]
) -> dict[str, Any]:
    """How weights came about, for people: data, terms, command and machine. reached: steps, hours, scores."""
    street = " and the synthetic street" if recipe.uses_street else ""
    processor = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else platform.processor()
    return {
        "data": f"{dataset.name} ({len(dataset.labelled)} labelled frames){street}",
        "licence": _TERMS.get(recipe.dataset, "the weights carry the terms of the data they were trained on"),
        "command": command,
        "recipe": recipe_values(recipe),
        **reached,
        "hardware": f"{world.size} x {processor or platform.machine()}",
        "torch": torch.__version__,
    }


def weights_to_ship(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters in half precision, half the size; buffers, whose variances may be too large for it, as they are."""
    parameters = {name for name, _ in network.named_parameters()}
    return {name: tensor.half() if name in parameters else tensor for name, tensor in weights.items()}
