"""The state of an evaluation on disk, for one that is stopped to go on from: whole, of this very job, or not used.

One file beside the results: a SHA-256, and safetensors with the arrays, and with the rest as JSON in two of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sdcpc_ros.bags.errors import StateError

DEFAULT_SAVE_EVERY_S = 30.0
#: No more of the time than this goes into saving: after a save that was slow the next one waits longer.
LARGEST_SHARE = 0.01
_ARRAY = "__array__"
_DIGEST_BYTES = hashlib.sha256().digest_size


def write_state(path: Path, facts: dict[str, Any], state: Any) -> None:
    """Write `state`, nested dicts and lists of arrays and JSON values, and the `facts` that it depends on.

    The file is there whole or as it was before, whatever happens meanwhile. Raises OSError.
    """
    arrays: dict[str, np.ndarray] = {}
    arrays["values"] = _text(_without_arrays(state, arrays))
    arrays["facts"] = _text(facts)
    content = save(arrays)
    beside = path.with_name(f".{path.name}.partial")
    with beside.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a machine that loses power keeps the old file or has this one
    os.replace(beside, path)


def read_state(path: Path, facts: dict[str, Any]) -> Any:
    """What `write_state` wrote; None without a file.

    Raises StateError when it is damaged, or was written with other facts; the sentence names those.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise StateError("it is damaged")
    try:
        arrays = load(content)
        theirs, values = (json.loads(arrays.pop(name).tobytes()) for name in ("facts", "values"))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"it cannot be read ({error!r})") from error
    ours = json.loads(json.dumps(facts))
    changed = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    if changed:
        raise StateError(f"what it was made with has changed since: {', '.join(changed)}")
    return _with_arrays(values, arrays)


class StateKeeper:
    """Saves the state of an evaluation from time to time, at a bounded cost."""

    def __init__(
        self,
        path: Path,
        facts: dict[str, Any],
        every_s: float = DEFAULT_SAVE_EVERY_S,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._path, self._facts, self._every_s, self._clock = path, facts, every_s, clock
        self._cost_s = 0.0  # of the last save
        self._saved_s = clock()

    def save_if_due(self, make: Callable[[], Any]) -> bool:
        """Save what `make` makes, if the last one is long enough ago. Raises OSError."""
        started_s = self._clock()
        if started_s - self._saved_s < max(self._every_s, self._cost_s / LARGEST_SHARE):
            return False
        write_state(self._path, self._facts, make())
        self._saved_s = self._clock()
        self._cost_s = self._saved_s - started_s
        return True


def _text(values: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(values, allow_nan=False).encode(), np.uint8)


def _without_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(value)
        return {_ARRAY: name}
    if isinstance(value, dict):
        return {name: _without_arrays(one, arrays) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(one, arrays) for one in value]
    return value


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return arrays[value[_ARRAY]].copy()  # those that were read cannot be written to
        return {name: _with_arrays(one, arrays) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_arrays(one, arrays) for one in value]
    return value
