"""Finds given parameters that the node does not use: misspelt names, files for other nodes. No ROS in here."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdcpc_ros.nodes.parameter_file import ParameterFileError, matches, read_parameter_file
from sdcpc_ros.nodes.parameters import CAMERA_DECLARATIONS, declarations_for

_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")
_PREFIXES_OF_EVERY_NODE = ("qos_overrides.", "diagnostic_updater.")


def unknown_parameters(given: Mapping[str, Any], cameras: Sequence[str]) -> Iterator[str]:
    """Yields a sentence for each parameter that the node does not have, with the nearest known name.

    given: value by full name. Parameters of unknown cameras are ignored if they have their default: the shipped file
    has the parameters of 'camera' even if the launch argument `cameras` names others.
    """
    known = [*declarations_for(cameras), *_OF_EVERY_NODE]
    for name, value in given.items():
        if name in known or name.startswith(_PREFIXES_OF_EVERY_NODE):
            continue
        camera, _, setting = name.rpartition(".")
        if setting in CAMERA_DECLARATIONS:
            if value == CAMERA_DECLARATIONS[setting].default:
                continue
            nearest = [f"{near}.{setting}" for near in difflib.get_close_matches(camera, cameras, n=1)]
            otherwise = f": no camera '{camera}' is in cameras ({', '.join(cameras)})"
        else:
            nearest, otherwise = difflib.get_close_matches(name, known, n=1), ""
        text = f"the node has no parameter '{name}'; it is ignored"
        text += f". Did you mean '{nearest[0]}'?" if nearest else otherwise
        yield text


def files_for_others(arguments: Sequence[str], node_name: str) -> Iterator[str]:
    """Yields a sentence for each `--params-file` that has nothing for the node with this full name."""
    for option, file in itertools.pairwise(arguments):
        if option != "--params-file":
            continue
        try:
            patterns = list(read_parameter_file(file))
        except ParameterFileError:
            continue  # rcl has reported it
        if patterns and not any(matches(pattern, node_name) for pattern in patterns):
            yield (
                f"the parameter file '{file}' is for {', '.join(patterns[:5])}, not for this node, {node_name}: "
                f"nothing in it is used. Name it '/**', or '{node_name}'"
            )
