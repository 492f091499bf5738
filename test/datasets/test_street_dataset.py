"""The synthetic street as a data set."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest

from sdcpc_ros.datasets.synthetic_street import StreetDataset, SyntheticStreet
from sdcpc_ros.labels.label_set import CAMVID_11

SIZE = (48, 64)


@pytest.fixture(scope="module")
def streets() -> StreetDataset:
    return StreetDataset([7, 3], length=4, size=SIZE, rate_hz=10)


def test_one_run_a_seed(streets: StreetDataset) -> None:
    assert (streets.name, streets.label_set) == ("synthetic street, seeds 7, 3", CAMVID_11)
    assert streets.runs == [range(4), range(4, 8)]
    assert streets.labelled == list(range(8))
    assert streets.rate_hz == pytest.approx(10)
    assert StreetDataset([2], length=1, size=SIZE).name == "synthetic street, seed 2"


def test_frames_are_the_streets(streets: StreetDataset) -> None:
    drawn = SyntheticStreet(seed=3, size=SIZE, length=4, rate_hz=10)
    image, labels = streets[5]
    flow, valid = streets.flow(5)
    np.testing.assert_array_equal(image, drawn.image(1))
    np.testing.assert_array_equal(labels, drawn.labels(1))
    np.testing.assert_array_equal(flow, drawn.flow(1)[0])
    np.testing.assert_array_equal(valid, drawn.flow(1)[1])


def test_no_flow_leads_out_of_a_run(streets: StreetDataset) -> None:
    assert [streets.flow(index) is None for index in range(8)] == [False, False, False, True] * 2


def test_a_copy_draws_the_same(streets: StreetDataset) -> None:
    np.testing.assert_array_equal(streets.image(6), deepcopy(streets).image(6))


@pytest.mark.parametrize(
    ("seeds", "length", "message"),
    [
        ([], 4, r"seeds are \[\]; one or more"),
        ([1, 1], 4, "each once"),
        ([1], 0, "length is 0"),
        ([-1], 4, "seed is -1"),
    ],
)
def test_mistakes_are_named(seeds: list[int], length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreetDataset(seeds, length=length, size=SIZE)
