"""Signs, under any OpenCV that the package allows: how it writes differs between 4 and 5."""

from __future__ import annotations

import numpy as np
import pytest

from sdcpc_ros.datasets.street import roadside


def signs(kind: str) -> list[roadside.Texture]:
    return [roadside.sign(np.random.default_rng(seed), kind) for seed in range(16)]


@pytest.mark.parametrize("kind", roadside.SIGN_CHANCES)
def test_every_kind_of_sign_is_drawn(kind: str) -> None:
    for sign in signs(kind):
        assert sign.colour.shape == (96, 96, 3)
        assert sign.alpha is not None and 0.2 < (sign.alpha > 127).mean() < 1
        assert sign.colour[sign.alpha > 127].std() > 5
    assert len({sign.colour.tobytes() for sign in signs(kind)}) > 1 or kind == "triangle"


def test_limits_are_written_inside_the_ring_and_can_be_told_apart() -> None:
    written = {(sign.colour.max(axis=2) < 80).tobytes() for sign in signs("round")}
    masks = [np.frombuffer(mask, bool).reshape(96, 96) for mask in written]
    limits = [mask for mask in masks if mask.any()]  # the other round sign has no ink
    assert len(limits) == 3
    for limit in limits:
        rows, columns = np.nonzero(limit)
        assert rows.min() >= 28 and 55 <= rows.max() <= 66  # capitals end at the baseline
        assert columns.min() >= 18 and columns.max() <= 78
        assert columns.max() - columns.min() > 35  # both digits
        assert 0.03 < limit.mean() < 0.15
    assert all((first != second).sum() > 50 for first, second in zip(limits, limits[1:] + limits[:1]))
