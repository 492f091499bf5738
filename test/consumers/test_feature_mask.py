"""Feature masks against a brute-force dilation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sdcpc_ros.consumers.feature_mask import IGNORE, KEEP, FeatureMasker

CLASSES = {"road": 0, "car": 1, "person": 2}
LABELS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, 255]))


@given(labels=LABELS, dilation=st.integers(0, 3), ignore_unlabelled=st.booleans())
def test_what_moves_is_ignored_with_a_margin(labels, dilation, ignore_unlabelled):
    masker = FeatureMasker(CLASSES, ["person", "bus"], dilation=dilation, ignore_unlabelled=ignore_unlabelled)
    mask = masker(labels)
    assert mask.shape == labels.shape and mask.dtype == np.uint8 and set(np.unique(mask)) <= {KEEP, IGNORE}
    moves = (labels == 2) | (ignore_unlabelled & (labels == 255))
    assert not mask[moves].any()
    rows, columns = np.nonzero(moves)
    for y, x in np.ndindex(labels.shape):
        distance = np.maximum(abs(rows - y), abs(columns - x)).min() if rows.size else np.inf
        if distance > dilation:
            assert mask[y, x] == KEEP  # the margin is no wider than asked, and the image's border adds none
        if ((rows == y) & (abs(columns - x) <= dilation)).any() or ((columns == x) & (abs(rows - y) <= dilation)).any():
            assert mask[y, x] == IGNORE


def test_classes_that_are_not_there_are_named():
    with pytest.raises(
        ValueError, match=r"none of the dynamic classes \(bus\) is among those of the masks \(road, car"
    ):
        FeatureMasker(CLASSES, ["bus"], dilation=0, ignore_unlabelled=False)


def test_ids_of_16_bits_are_told_apart():
    masker = FeatureMasker({"road": 255, "car": 300, "tree": 256}, ["car"], dilation=0, ignore_unlabelled=True)
    ids = np.array([[255, 300, 256, 65535]], np.uint16)
    assert masker(ids).tolist() == masker(ids.view(np.int16)).tolist() == [[KEEP, IGNORE, KEEP, IGNORE]]


@pytest.mark.parametrize(("ignore_unlabelled", "unlabelled"), [(True, IGNORE), (False, KEEP)])
def test_unlabelled_pixels_may_have_an_id_of_their_own(ignore_unlabelled, unlabelled):
    classes = {"unlabelled": 0, "road": 1, "car": 7}
    masker = FeatureMasker(classes, ["car"], dilation=0, ignore_unlabelled=ignore_unlabelled)
    assert masker(np.array([[0, 1, 7, 255]], np.uint8)).tolist() == [[unlabelled, KEEP, IGNORE, unlabelled]]
