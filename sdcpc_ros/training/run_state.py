"""The state of a run on disk, from which a stopped run resumes: one safetensors file, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdcpc_ros.runtime.atomic_file import atomic_path, remove_leftovers
from sdcpc_ros.training.recipe import Recipe, RecipeError, recipe_from


def save_state(path: Path, recipe: Recipe, parts: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
    """Write tensors, by part and name, and JSON values. Raises OSError."""
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, named in parts.items()
        for name, tensor in named.items()
    }
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
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        values = json.loads(metadata["values"])
        theirs = recipe_values(recipe_from(json.loads(metadata["recipe"])))  # fields that are new since: their defaults
    except (SafetensorError, KeyError, ValueError) as error:
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
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, rest = name.split("/", 1)
        parts.setdefault(part, {})[rest] = tensor
    return parts, values


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe for JSON, without the fields that do not change the weights; a resumed run may change those."""
    values = {name: _plain(value) for name, value in vars(recipe).items()}
    for name in ("workers", "save_every", "validation"):
        del values[name]
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {name: _plain(element) for name, element in value.items()}
    return _plain(vars(value)) if hasattr(value, "__dataclass_fields__") else value


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter and name."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": tensor
        for index, named in state.items()
        for name, tensor in named.items()
        if isinstance(tensor, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for parameter, named in optimizer.state.items():  # in memory as the parameter is: sums run in the order they ran in
        for key, value in named.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                named[key] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
