"""The parameters of `parameters.py` in rclpy: declared with descriptors, checked on change, kept as one snapshot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from sdcpc_ros.nodes.parameters import (
    ANY_TIME,
    AT_START,
    UNCONFIGURED,
    Declaration,
    NodeParameters,
    ParameterError,
    declarations_for,
    unknown_parameters,
)


class DeclaredParameters:
    """Declares the node's parameters, checks their changes, and keeps their values in `current`.

    A bad value at the start does not end the node: `read` raises until it has been replaced.
    """

    def __init__(self, node: Node, is_configured: Callable[[], bool]) -> None:
        """is_configured: whether the values of `UNCONFIGURED` parameters are in use, or are being read."""
        self._node = node
        self._is_configured = is_configured
        self._declarations: dict[str, Declaration] = {}
        self._values: dict[str, Any] = {}
        self._refusals: dict[str, str] = {}
        self._current: NodeParameters | None = None
        self._lock = threading.RLock()  # configure reads in a thread of its own
        node.add_on_set_parameters_callback(self._check_change)
        if hasattr(node, "add_pre_set_parameters_callback"):  # from Iron on
            node.add_pre_set_parameters_callback(self._as_declared)
        self._declare_missing([])
        cameras = node.get_parameter("cameras").value
        self._declare_missing(cameras)
        if hasattr(node, "add_post_set_parameters_callback"):  # from Iron on; before, `read` declares
            node.add_post_set_parameters_callback(self._declare_new_cameras)
        given = {name: _plain(parameter.value) for name, parameter in getattr(node, "_parameter_overrides", {}).items()}
        for sentence in unknown_parameters(given, cameras):
            node.get_logger().warning(sentence)
        node.get_logger().debug(f"parameters: {self._values}")

    @property
    def current(self) -> NodeParameters:
        """The values of the last `read`, with later changes. Thread-safe."""
        if self._current is None:
            raise ParameterError("the parameters have not been read")
        return self._current

    def read(self) -> NodeParameters:
        """All values, for configuring. Raises ParameterError with a sentence if a value is not allowed."""
        with self._lock:
            self._declare_missing(self._values["cameras"])
            names = declarations_for(self._values["cameras"])  # without those of former cameras
            refusals = [sentence for name, sentence in self._refusals.items() if name in names]
            if refusals:
                raise ParameterError("; ".join(refusals))
            self._current = NodeParameters.from_values(self._values)
            return self._current

    def _declare_new_cameras(self, changed: Sequence[Parameter]) -> None:
        """So that their parameters can be set before configuring."""
        if any(parameter.name == "cameras" for parameter in changed):
            with self._lock:
                self._declare_missing(self._values["cameras"])

    def _declare_missing(self, camera_names: Sequence[str]) -> None:
        for full_name, declaration in declarations_for(camera_names).items():
            if full_name not in self._declarations:
                self._declare(full_name, declaration)
                self._declarations[full_name] = declaration

    def _declare(self, full_name: str, declaration: Declaration) -> None:
        # First without a type or range, to see the value from the command line or file before rclpy raises for it.
        given = self._node.declare_parameter(full_name, declaration.default, ParameterDescriptor(dynamic_typing=True))
        self._node.undeclare_parameter(full_name)
        value = declaration.as_declared(_plain(given.value))
        if value is None and declaration.default == [""]:
            value = declaration.default  # an empty list in a file has no type, so rclpy gives no value
        sentence = declaration.refusal(value, full_name)
        if sentence:
            value = declaration.default
            if declaration.changes == AT_START:
                self._node.get_logger().error(f"{sentence}; the default {value!r} is used")
            else:
                self._refusals[full_name] = sentence
        self._node.declare_parameter(full_name, value, _descriptor(declaration), ignore_override=True)
        self._values[full_name] = value

    def _check_change(self, proposed: Sequence[Parameter]) -> SetParametersResult:
        for parameter in proposed:
            sentence = self._refusal(parameter)
            if sentence:
                return SetParametersResult(successful=False, reason=sentence)
        changed = {parameter.name: _plain(parameter.value) for parameter in proposed if parameter.name in self._values}
        with self._lock:
            self._values |= changed
            for name in changed:
                self._refusals.pop(name, None)
            if self._current is not None:
                at_any_time = {n: v for n, v in changed.items() if self._declarations[n].changes == ANY_TIME}
                self._current = replace(self._current, **at_any_time)
        return SetParametersResult(successful=True)

    def _as_declared(self, proposed: list[Parameter]) -> list[Parameter]:
        """Converts integers to doubles for parameters that are doubles."""
        return [
            Parameter(parameter.name, value=self._declarations[parameter.name].as_declared(parameter.value))
            if parameter.name in self._declarations and parameter.type_ == Parameter.Type.INTEGER
            else parameter
            for parameter in proposed
        ]

    def _refusal(self, parameter: Parameter) -> str | None:
        declaration = self._declarations.get(parameter.name)
        if declaration is None:
            return None  # use_sim_time, quality-of-service overrides
        is_change = self._node.has_parameter(parameter.name)
        if is_change and declaration.changes == UNCONFIGURED and self._is_configured():
            return f"{parameter.name} can only change while the node is unconfigured: deactivate and clean up first"
        return declaration.refusal(_plain(parameter.value), parameter.name)


def _plain(value: Any) -> Any:
    """A list for a tuple: rclpy returns arrays of strings as either."""
    return list(value) if isinstance(value, tuple) else value


def _descriptor(declaration: Declaration) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=declaration.description,
        additional_constraints=f"May change {declaration.changes}. Allowed: {declaration.allowed_in_words or 'any'}.",
        read_only=declaration.changes == AT_START,
    )
    if declaration.range is not None:
        low, high = declaration.range
        if isinstance(declaration.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        else:
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return descriptor
