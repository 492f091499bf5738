from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from sdcpc_ros.evaluation.pages.svg import ACCENT, Chart, plain


def drawn(name: str = "chart", text: str = "hello") -> ElementTree.Element:
    with Chart(name, f"a chart of {text}", 200, 100) as chart:
        axes = chart.axes(10, 10, 190, 90)
        (line,) = axes.plot([0, 1, 2], [0, 1, 0], "o-", color=ACCENT)
        axes.text(1, 1, text)
        chart.tip(line, f"tip: {text}")
        return ElementTree.fromstring(chart.svg())


def test_colours_are_the_pages_own_and_nothing_of_matplotlibs_is_left():
    styles = " ".join(element.get("style", "") for element in drawn().iter())
    assert "var(--accent)" in styles
    assert "#040404" not in styles and "DejaVu" not in styles
    assert not [element for element in drawn().iter() if element.tag in ("metadata", "style")]


def test_the_edges_of_axes_are_where_they_were_asked_for():
    with Chart("edges", "edges", 200, 100) as chart:
        box = chart.axes(20, 10, 180, 70).get_position()
    assert (box.x0, box.x1, box.y0, box.y1) == pytest.approx((0.1, 0.9, 0.3, 0.9))


def test_charts_of_a_page_do_not_share_ids():
    first, second = ({e.get("id") for e in drawn(name).iter()} - {None} for name in ("first", "second"))
    assert first and not first & second


def test_the_same_chart_is_the_same_text():
    assert ElementTree.tostring(drawn()) == ElementTree.tostring(drawn())


def test_any_text_is_drawn_as_it_is():
    text = "$a_1$ <b>&amp; #040404 \\frac 名前"
    root = drawn(text=text)
    assert [element.text for element in root.iter("text") if element.text == text]
    assert [element.text for element in root.iter("title")] == [f"tip: {text}"]
    assert root.get("aria-label") == f"a chart of {text}"


def test_control_characters_become_spaces():
    assert plain("a\x00b\x1b[31m\nc\ud800") == "a b [31m c "
