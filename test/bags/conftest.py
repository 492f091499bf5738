"""Six images of a street and their labels, and the evaluation of bags that hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.replay.bag_evaluation import Model, evaluate_bag
from sdcpc_ros.replay.bag_source import BagSettings


@pytest.fixture(scope="module")
def pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and their labels."""
    street = SyntheticStreet(seed=2, size=(64, 96), length=6, rate_hz=10.0)
    return [street[index] for index in range(6)]


@pytest.fixture
def evaluated(tiny_model: Model) -> Callable[..., dict[str, Any]]:
    """The report of a bag, by the network that knows nothing."""

    def evaluate(path: Path, **settings: Any) -> dict[str, Any]:
        return evaluate_bag(path, tiny_model, BagSettings(**settings)).report

    return evaluate
