from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.evaluation.pages.frame_pictures import ExtremeFrames


def offer(extremes: ExtremeFrames, values: list[float]) -> None:
    image, labels = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)
    for number, value in enumerate(values):
        extremes.offer(value, number, image, labels, None)


def test_neighbours_stand_for_each_other():
    extremes = ExtremeFrames(lowest=True, count=2, apart=3)
    offer(extremes, [0.5, 0.4, 0.9, 0.9, 0.3, 0.35])
    assert [(extreme.number, extreme.value) for extreme in extremes.frames] == [(4, 0.3), (1, 0.4)]


def test_the_highest_are_kept_too_and_pictures_are_shrunk():
    extremes = ExtremeFrames(lowest=False, count=1, apart=1, max_width=10)
    image, labels = np.full((20, 40, 3), 7, np.uint8), np.full((20, 40), 3, np.uint8)
    extremes.offer(0.2, 0, image, labels, labels)
    (extreme,) = extremes.frames
    assert extreme.image.shape == (4, 10, 3)
    assert extreme.truth is not None and extreme.truth.shape == extreme.labels.shape == (4, 10)
    offer(extremes, [0.1, 0.8])
    assert [extreme.value for extreme in extremes.frames] == [0.8]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_the_most_extreme_is_always_kept_and_all_lie_apart(values, count, apart, lowest):
    extremes = ExtremeFrames(lowest=lowest, count=count, apart=apart)
    offer(extremes, values)
    kept = extremes.frames
    assert kept[0].value == (min if lowest else max)(values)
    assert len(kept) <= count
    numbers = sorted(extreme.number for extreme in kept)
    assert all(later - earlier >= apart for earlier, later in pairwise(numbers))
    order = [extreme.value for extreme in kept]
    assert order == sorted(order, reverse=not lowest)
