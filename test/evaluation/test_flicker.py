from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.evaluation.metrics import FlickerMap
from sdcpc_ros.labels.label_set import IGNORE


def test_only_changes_where_the_truth_stays_are_flicker():
    flicker = FlickerMap()
    truth = np.array([[0, 0, 1, IGNORE]], np.uint8)
    assert flicker.update(np.array([[0, 0, 1, 1]], np.uint8), truth) is None
    moved = np.array([[0, 0, 2, IGNORE]], np.uint8)  # the third pixel's class changes, the fourth has none
    assert flicker.update(np.array([[0, 3, 2, 2]], np.uint8), moved) == 0.5
    rate = flicker.rate()
    np.testing.assert_array_equal(rate, np.array([[0, 1, np.nan, np.nan]], np.float32))


def test_without_truth_every_pixel_is_judged_and_a_break_is_no_change():
    flicker = FlickerMap()
    zeros, ones = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
    assert flicker.rate().shape == (0, 0)
    flicker.update(zeros, None)
    flicker.break_stream()
    assert flicker.update(ones, None) is None
    assert flicker.update(ones, None) == 1.0
    assert flicker.update(zeros, zeros) is None  # a truth appears: nothing to compare it with
    np.testing.assert_array_equal(flicker.rate(), np.zeros((2, 2), np.float32))


def test_frames_of_another_size_are_judged_but_have_no_place_in_the_map():
    flicker = FlickerMap()
    for labels in (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8)):
        flicker.update(labels, None)
    flicker.break_stream()
    flicker.update(np.zeros((3, 3), np.uint8), None)
    assert flicker.update(np.ones((3, 3), np.uint8), None) == 0.0
    assert flicker.rate().shape == (2, 2) and not flicker.rate().any()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=6))
def test_the_map_and_the_shares_count_the_same(seeds):
    flicker, shares = FlickerMap(), []
    for seed in seeds:
        random = np.random.default_rng(seed)
        labels, truth = (random.choice([0, 1, IGNORE], (3, 4)).astype(np.uint8) for _ in range(2))
        shares.append(flicker.update(labels, truth))
    assert flicker.changes is not None and flicker.chances is not None
    assert (flicker.changes <= flicker.chances).all()
    assert all(share is None or 0 <= share <= 1 for share in shares)
