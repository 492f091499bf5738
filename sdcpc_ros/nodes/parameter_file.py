"""Reads ROS parameter files (YAML) as rcl does, and selects the parameters of a node. No ROS in here."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

_PARAMETERS_KEY = "ros__parameters"


class ParameterFileError(ValueError):
    """A parameter file that cannot be used; the message names it and the reason."""


def read_parameter_file(path: str | Path) -> dict[str, dict[str, Any]]:
    """Node name, or a pattern of names such as `/**` -> its parameters by full name. `~` is expanded.

    Raises ParameterFileError with a sentence if there is no such file, or rcl would refuse it.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        what = "it is a folder" if file.is_dir() else "no such file"
        raise ParameterFileError(f"the parameter file '{file}' cannot be read: {what}")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())
        raise ParameterFileError(f"the parameter file '{file}' cannot be read as YAML: {words}") from None
    nodes = {"/" + name.strip("/"): values for name, values in _nodes(content)}
    if not nodes:
        raise ParameterFileError(
            f"the parameter file '{file}' has no '{_PARAMETERS_KEY}'; "
            f"needed: a node's name or '/**', below it '{_PARAMETERS_KEY}', below that the parameters"
        )
    return {name: dict(_flat(values)) for name, values in nodes.items()}


def parameters_of(nodes: Mapping[str, Mapping[str, Any]], node_name: str) -> dict[str, Any]:
    """The parameters of the node with this full name; later entries of the file override earlier ones."""
    values: dict[str, Any] = {}
    for pattern, parameters in nodes.items():
        if _matches(pattern, node_name):
            values |= parameters
    return values


def files_for_others(arguments: Sequence[str], node_name: str) -> Iterator[str]:
    """Yields a sentence for each `--params-file` that has nothing for the node with this full name."""
    for option, file in itertools.pairwise(arguments):
        if option != "--params-file":
            continue
        try:
            patterns = list(read_parameter_file(file))
        except ParameterFileError:
            continue  # rcl has reported it
        if not any(_matches(pattern, node_name) for pattern in patterns):
            yield (
                f"the parameter file '{file}' is for {', '.join(patterns[:5])}, not for this node, {node_name}: "
                f"nothing in it is used. Name it '/**', or '{node_name}'"
            )


def _matches(pattern: str, node_name: str) -> bool:
    """Whether `pattern` matches the node's full name (`*`: one part, `**`: any)."""
    return re.fullmatch(pattern.replace("/*", r"(/\w+)"), node_name) is not None


def _nodes(content: Any, above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Namespaces may be nested, one mapping in another, until the parameters begin."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if key == _PARAMETERS_KEY and above:
            yield above, value if isinstance(value, dict) else {}
        else:
            yield from _nodes(value, f"{above}/{key}")


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
