from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sdcpc_ros.evaluation.pages.class_charts import Bar, class_bars, confusion_chart, largest_confusions
from sdcpc_ros.evaluation.pages.svg import shorten
from sdcpc_ros.evaluation.pages.timeline import Line, Mark, Strip, downsample, timeline


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def tips(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("title")]


def test_bars_are_as_long_as_their_values():
    bars = [Bar(name, (10, 20, 30), value, name) for name, value in (("full", 1.0), ("half", 0.5), ("none", 0.0))]
    svg = class_bars("bars", "bars", bars, 400)
    assert texts(svg) == ["full", "100.0", "half", "50.0", "none", "0.0"]
    lengths = []
    for path in ElementTree.fromstring(svg).iter("path"):
        if "var(--accent)" in path.get("style", ""):
            numbers = [float(word) for word in path.get("d", "").split() if word not in "MLz"]
            lengths.append(max(numbers[::2]) - min(numbers[::2]))
    assert lengths[1] == pytest.approx(lengths[0] / 2, abs=0.01) and lengths[2] == pytest.approx(0, abs=0.01)


def test_rows_of_the_confusion_matrix_are_shares_of_the_truth():
    matrix = np.array([[90, 10, 0], [0, 0, 0], [1, 0, 999]])
    svg = confusion_chart("confusion", ("a", "b", "c"), matrix, np.zeros(3, int), 400)
    assert "a taken for b: 10.0 %".replace(" %", "\u202f%") in tips(svg)
    assert [text for text in texts(svg) if text.isdigit()] == ["90", "10", "100"]
    assert texts(svg).count("b") == 1  # a column, but no row: the truth holds none
    assert "no label" not in texts(svg)


def test_unlabelled_pixels_have_a_column():
    svg = confusion_chart("confusion", ("a", "b"), np.diag([5, 5]), np.array([5, 0]), 400)
    assert "no label" in texts(svg)
    assert "a taken for no label: 50.0\u202f%" in tips(svg)


def test_the_largest_confusions_come_first_and_never_a_class_with_itself():
    matrix = np.array([[60, 30, 10], [0, 0, 0], [0, 50, 50]])
    found = [(each["truth"], each["given"], each["share"]) for each in largest_confusions(("a", "b", "c"), matrix)]
    assert found == [("c", "b", 0.5), ("a", "b", 0.3), ("a", "c", 0.1)]


def test_long_names_are_shortened():
    assert shorten("sign_symbol") == "sign symbol"
    assert shorten("a" * 30) == "a" * 21 + "…"


@given(arrays(np.float64, st.integers(1, 3000), elements=st.floats(0, 100) | st.just(np.nan)))
def test_thinning_keeps_the_extremes(values):
    times = np.arange(len(values), dtype=float)
    x, least, mean, most = downsample(times, values)
    assert len(x) == len(least) == len(mean) == len(most) <= 600
    assert (np.diff(x) > 0).all()
    if np.isnan(values).all():
        assert np.isnan(mean).all()
    else:
        assert np.nanmin(least) == np.nanmin(values) and np.nanmax(most) == np.nanmax(values)
        known = ~np.isnan(mean)
        assert (least[known] <= mean[known] + 1e-9).all() and (mean[known] <= most[known] + 1e-9).all()


def test_a_short_series_is_drawn_as_it_is():
    times, values = np.arange(5.0), np.array([1.0, np.nan, 3.0, 4.0, np.nan])
    x, _, mean, _ = downsample(times, values)
    np.testing.assert_array_equal(x, times)
    np.testing.assert_array_equal(mean, values)


def test_marks_are_named_once_and_drawn_in_every_strip():
    times = np.arange(100.0)
    strips = [Strip([Line("first", times)]), Strip([Line("second", times)], "ms", 30.0, "median 30 ms", True)]
    marks = [Mark(10, "gap in time"), Mark(11, "gap in time"), Mark(80, "other size")]
    svg = timeline("time", "over time", times, "seconds", strips, 800, marks)
    assert texts(svg).count("gap in time") == 1  # the second would lie over the first
    assert "other size" in texts(svg)
    assert len(tips(svg)) == 6
    assert {"first", "second", "seconds", "··· median 30 ms"} <= set(texts(svg))


def test_an_outlier_is_told_rather_than_flattening_the_rest():
    values = np.full(200, 30.0)
    values[3] = 4000.0
    svg = timeline("time", "t", np.arange(200.0), "seconds", [Strip([Line("a", values)], "ms", from_zero=True)], 800)
    assert any("↑ 4000 ms" in text for text in texts(svg))


@pytest.mark.parametrize("values", [[np.nan, np.nan], [5.0, 5.0], [0.0, 0.0], [100.0, 100.0]])
def test_series_without_a_range_are_drawn(values):
    assert timeline("time", "t", np.arange(2.0), "seconds", [Strip([Line("a", np.array(values))])], 300)


def test_a_single_frame_is_drawn():
    assert timeline("time", "t", np.zeros(1), "seconds", [Strip([Line("a", np.ones(1))])], 300, [Mark(0, "gap")])
