from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.evaluation.pictures import (
    contact_sheet,
    draw_text,
    legend,
    overlay,
    shrink,
    side_by_side,
    text_width,
)
from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE


def test_an_overlay_is_the_blend_of_image_and_class_colour():
    image = np.full((6, 6, 3), 100, np.uint8)
    labels = np.full((6, 6), 3, np.uint8)
    expected = 0.4 * 100 + 0.6 * np.array(CAMVID_11.colours[3])
    assert np.abs(overlay(image, labels, CAMVID_11, 0.6) - expected).max() <= 1


def test_an_overlay_leaves_unlabelled_pixels_and_marks_borders():
    image = np.full((6, 6, 3), 100, np.uint8)
    labels = np.full((6, 6), 3, np.uint8)
    labels[:, 3:] = 8
    labels[0] = IGNORE
    drawn = overlay(image, labels, CAMVID_11)
    assert (drawn[0] == 100).all()
    assert (drawn[3, 3] > drawn[3, 4]).all()
    assert (image == 100).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 80))
def test_shrinking_never_enlarges_and_makes_sides_even(height, width, max_width):
    labels = np.random.default_rng(0).integers(0, 11, (height, width), dtype=np.uint8)
    small = shrink(labels, max_width)
    assert small.shape[1] <= max(2, min(width, max_width)) and small.shape[0] <= max(2, height)
    assert small.shape[0] % 2 == small.shape[1] % 2 == 0
    assert set(np.unique(small)) <= set(np.unique(labels))
    assert shrink(np.zeros((height, width, 3), np.uint8), max_width).shape == (*small.shape, 3)


def test_text_is_drawn_where_it_is_said_to_be_and_cut_at_the_edge():
    canvas = np.full((40, 200, 3), 255, np.uint8)
    draw_text(canvas, "HELP", 20, 30, 12)
    rows, columns = np.nonzero((canvas < 128).any(axis=2))
    assert 28 <= rows.max() <= 31 and 16 <= rows.min() <= 20
    assert 19 <= columns.min() <= 23 and abs(columns.max() - 20 - text_width("HELP", 12)) <= 4
    for left, baseline in ((-10, 30), (190, 30), (50, 4), (50, 45), (300, 300)):
        draw_text(canvas, "HELP", left, baseline, 12)
    assert canvas.shape == (40, 200, 3)


@pytest.mark.parametrize("width", [120, 480, 960, 2000])
def test_a_legend_shows_every_class_colour(width):
    drawn = legend(CAMVID_11, width)
    assert drawn.shape[1] == width
    seen = {tuple(colour) for colour in drawn.reshape(-1, 3)}
    assert seen >= set(CAMVID_11.colours)


def test_a_contact_sheet_holds_its_rows_between_title_and_legend():
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (200, 200, 10)]
    pictures = [np.full((40, 240, 3), colour, np.uint8) for colour in colours]
    rows = [side_by_side(dict(zip("ab", pair))) for pair in (pictures[:2], pictures[2:])]
    sheet = contact_sheet("title", "subtitle", rows, CAMVID_11)
    centres = []
    for colour in colours:
        ys, xs = np.nonzero((sheet == colour).all(axis=2))
        centres.append((ys.mean(), xs.mean()))
        assert len(ys) > 0.6 * 40 * 240  # less a caption
    (top_left, top_right, bottom_left, bottom_right) = centres
    assert top_left[1] < top_right[1] and bottom_left[1] < bottom_right[1]
    assert top_left[0] < bottom_left[0] and top_right[0] < bottom_right[0]
    assert (sheet[20:80] < 128).any()  # the title
    assert {tuple(colour) for colour in sheet[170:].reshape(-1, 3)} >= set(CAMVID_11.colours)


def test_a_contact_sheet_needs_a_row():
    with pytest.raises(ValueError, match="needs at least one row"):
        contact_sheet("", "", [], CAMVID_11)


def test_side_by_side_keeps_the_pictures_it_is_given():
    left, right = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
    joined = side_by_side({"a": left, "b": right})
    assert joined.shape == (40, 120, 3)
    assert (joined[:15, :60] == 0).all() and (joined[:15, 60:] == 255).all()
    assert not left.any() and (right == 255).all()
