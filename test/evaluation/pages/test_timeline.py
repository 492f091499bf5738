from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sdcpc_ros.evaluation.pages.timeline import Strip, downsample, ticks, timeline


def coordinates(path: str) -> list[list[tuple[float, float]]]:
    """The lines of an SVG path."""
    points = [re.findall(r"(-?[\d.]+) (-?[\d.]+)", line) for line in path.split("M")[1:]]
    return [[(float(x), float(y)) for x, y in line] for line in points]


@given(arrays(np.float64, st.integers(1, 3000), elements=st.floats(0, 100) | st.just(np.nan)))
def test_downsampling_keeps_the_extremes(values):
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


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5), st.integers(2, 8))
def test_ticks_are_few_round_and_inside(low, span, count):
    found = ticks(low, low + span, count)
    assert len(found) <= count + 1
    assert all(low - 1e-6 <= tick <= low + span + 1e-6 for tick in found)
    assert np.ptp(np.diff(found)) < 1e-6 if len(found) > 2 else True


@pytest.mark.parametrize(
    ("ends", "count", "expected"),
    [((0, 10), 6, [0, 2, 4, 6, 8, 10]), ((0.61, 0.79), 3, [0.7]), ((0, 1), 3, [0, 0.5, 1])],
)
def test_known_ticks(ends, count, expected):
    assert ticks(*ends, count) == expected


def test_lines_break_where_there_is_no_value_and_a_lone_value_is_a_dot():
    values = np.array([0.0, 50.0, np.nan, 100.0, np.nan, 50.0])
    (strip,) = timeline(np.arange(6.0), "seconds", [Strip({"a": values})])["strips"]
    line, lone, last = coordinates(strip["lines"][0]["path"])
    assert [x for x, _ in line] == [0.0, 200.0] and line[0][1] > line[1][1]
    assert lone[0] == lone[1] and lone[0][0] == 600.0 and last[0] == last[1]
    assert strip["lines"][0]["band"] == ""


def test_a_long_series_has_a_band_from_least_to_most():
    values = np.tile([20.0, 40.0, 40.0], 600)
    (strip,) = timeline(np.arange(1800.0), "seconds", [Strip({"a": values})])["strips"]
    (band,) = coordinates(strip["lines"][0]["band"])
    (mean,) = coordinates(strip["lines"][0]["path"])
    assert len(band) == 1200 and len(mean) == 600
    assert min(y for _, y in band) < min(y for _, y in mean) <= max(y for _, y in mean) < max(y for _, y in band)


def test_marks_are_named_unless_the_name_would_overlap():
    marks = [(80, "other size"), (10, "gap in time"), (11, "gap in time"), (50, "long " * 20)]
    chart = timeline(np.arange(100.0), "seconds", [Strip({"first": np.arange(100.0)})], marks)
    assert [(mark["name"], mark["shown"]) for mark in chart["marks"]] == [
        ("gap in time", True),
        ("gap in time", False),
        ("long " * 20, False),
        ("other size", True),
    ]
    assert chart["marks"][3]["x"] == pytest.approx(1000 * 80 / 99)


def test_an_outlier_gets_a_note_and_does_not_flatten_the_rest():
    values = np.full(200, 30.0)
    values[3] = 4000.0
    (strip,) = timeline(np.arange(200.0), "seconds", [Strip({"a": values}, "ms")])["strips"]
    assert strip["note"]["text"] == "↑ 4000 ms" and strip["note"]["left"] == pytest.approx(100 * 3 / 199)
    assert max(float(text) for _, text in strip["ticks"]) < 60


@pytest.mark.parametrize("values", [[5.0, 5.0], [0.0, 0.0], [100.0, 100.0]])
def test_series_without_a_range_are_drawn(values):
    (strip,) = timeline(np.arange(2.0), "seconds", [Strip({"a": np.array(values)})])["strips"]
    drawn = coordinates(strip["lines"][0]["path"])
    assert drawn and all(0 <= y <= 100 for line in drawn for _, y in line)


def test_a_quantity_without_values_is_left_out():
    nothing, something = Strip({"a": np.full(2, np.nan), "b": np.ones(2)}), Strip({"c": np.ones(2)})
    (strip,) = timeline(np.arange(2.0), "seconds", [nothing, something])["strips"]
    assert strip["lines"][0]["title"] == "c"


def test_a_single_frame_is_drawn():
    chart = timeline(np.zeros(1), "seconds", [Strip({"a": np.ones(1)})], [(0, "gap")])
    assert coordinates(chart["strips"][0]["lines"][0]["path"]) and chart["marks"][0]["x"] == 0
