"""Signs, under any OpenCV that the package allows: which pictures it draws on differs between 4 and 5."""

from __future__ import annotations

import numpy as np
import pytest

from sdcpc_ros.datasets.street import furniture
from sdcpc_ros.datasets.street.textures import plain

PAPER, INK = (228, 228, 224), (20, 40, 60)


@pytest.mark.parametrize("kind", furniture.SIGN_CHANCES)
def test_every_kind_of_sign_is_drawn(kind):
    signs = [furniture._sign(np.random.default_rng(seed), kind) for seed in range(12)]
    for sign in signs:
        assert sign.colour.shape == (96, 96, 3)
        assert sign.alpha is not None and 0.2 < (sign.alpha > 127).mean() < 1
        assert sign.colour[sign.alpha > 127].std() > 5
    assert len({sign.colour.tobytes() for sign in signs}) > 1 or kind == "triangle"


@pytest.mark.parametrize("limit", ["20", "30", "40"])
def test_a_limit_is_written_inside_the_ring_in_one_colour(limit):
    picture = plain((96, 96), PAPER)
    furniture._write(picture, limit, (22, 62), 1.3, INK, 3)
    written = (picture != np.float32(PAPER)).any(axis=2)
    assert (picture[written] == np.float32(INK)).all()  # nothing between ink and paper
    rows, columns = np.nonzero(written)
    assert rows.min() >= 28 and 55 <= rows.max() <= 66  # capitals end at the baseline
    assert columns.min() >= 18 and columns.max() <= 78
    assert columns.max() - columns.min() > 35  # both digits
    assert 0.03 < written.mean() < 0.15


def test_limits_can_be_told_apart():
    pictures = [plain((96, 96), PAPER) for _ in range(3)]
    for picture, limit in zip(pictures, ("20", "30", "40")):
        furniture._write(picture, limit, (22, 62), 1.3, INK, 3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (pictures[first] != pictures[second]).any(axis=2).sum() > 50
