"""Feature masks against a brute-force dilation, and label images of every encoding and step."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sdcpc_ros.consumers.feature_mask import IGNORE, KEEP, FeatureMasker, label_pixels

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


def label_image(encoding: str, rows: bytes, width: int, step: int, big: bool = False) -> SimpleNamespace:
    height = len(rows) // step
    return SimpleNamespace(encoding=encoding, height=height, width=width, step=step, data=rows, is_bigendian=int(big))


def test_label_images_of_every_encoding_and_step_are_read():
    ids = np.array([[0, 2, 255], [1, 1, 2]], np.uint8)
    large = np.array([[0, 255, 65535], [256, 300, 300]], np.uint16)
    padded = np.concatenate([ids, np.full((2, 2), 9, np.uint8)], axis=1)
    for image, expected in (
        (label_image("mono8", ids.tobytes(), 3, 3), ids),
        (label_image("8UC1", padded.tobytes(), 3, 5), ids),
        (label_image("16UC1", large.astype("<u2").tobytes(), 3, 6), large),
        (label_image("16UC1", large.astype(">u2").tobytes(), 3, 6, big=True), large),
        (label_image("16SC1", large.astype("<u2").tobytes(), 3, 6), large),  # 65535 are the bits of -1
    ):
        read = label_pixels(image)
        assert np.array_equal(read, expected) and read.dtype == expected.dtype


def test_ids_of_16_bits_are_told_apart():
    masker = FeatureMasker({"road": 255, "car": 300, "tree": 256}, ["car"], dilation=0, ignore_unlabelled=True)
    assert masker(np.array([[255, 300, 256, 65535]], np.uint16)).tolist() == [[KEEP, IGNORE, KEEP, IGNORE]]


@pytest.mark.parametrize(("ignore_unlabelled", "unlabelled"), [(True, IGNORE), (False, KEEP)])
def test_unlabelled_pixels_may_have_an_id_of_their_own(ignore_unlabelled, unlabelled):
    classes = {"unlabelled": 0, "road": 1, "car": 7}
    masker = FeatureMasker(classes, ["car"], dilation=0, ignore_unlabelled=ignore_unlabelled)
    assert masker(np.array([[0, 1, 7, 255]], np.uint8)).tolist() == [[unlabelled, KEEP, IGNORE, unlabelled]]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (label_image("rgb8", bytes(12), 2, 6), "'rgb8'; mono8, 8UC1, 16UC1 or 16SC1"),
        (label_image("mono8", bytes(4), 3, 2), "3 x 2 pixels in mono8 need more"),
        (label_image("mono8", bytes(4), 0, 2), "the label image is 0 x 2 pixels"),
    ],
)
def test_other_images_are_refused(image, words):
    with pytest.raises(ValueError, match=words):
        label_pixels(image)
