"""The numbers of ClassStatistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.streaming.class_statistics import class_statistics


@given(size=st.tuples(st.integers(1, 8), st.integers(1, 8)), seed=st.integers(0, 2**32 - 1))
def test_shares_and_means_are_those_of_the_pixels(size, seed):
    random = np.random.default_rng(seed)
    labels = random.choice([0, 3, 254, IGNORE], size).astype(np.uint8)
    confidence = random.integers(0, 256, size, np.uint8)
    answer = class_statistics(labels, confidence)
    assert answer["class_ids"] == sorted(set(labels.ravel().tolist()) - {IGNORE})
    for class_id, share, mean in zip(answer["class_ids"], answer["pixel_share"], answer["mean_confidence"]):
        where = labels == class_id
        assert share == pytest.approx(where.sum() / labels.size)
        assert mean == pytest.approx(confidence[where].mean() / 255)
    assert sum(answer["pixel_share"]) == pytest.approx((labels != IGNORE).mean())
