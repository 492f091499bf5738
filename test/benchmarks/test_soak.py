"""The verdicts of the soak from samples made by hand; its stamps, its chart."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.pages import Verdict, write_line_charts
from benchmarks.soak import BagStamps, Sample, judge, page, write_results

STEADY = [Sample(10.0 * i, 500.0, 20, 40, 30.0, 50.0, 300, i) for i in range(1, 31)]


def broken(samples: list[Sample]) -> list[str]:
    return [verdict.rule for verdict in judge(samples) if not verdict.holds]


def test_a_steady_node_holds_every_rule():
    assert broken(STEADY) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda i: {"rss_mib": 500.0 + i}, "memory"),
        (lambda i: {"threads": 20 + i // 20}, "no more threads"),
        (lambda i: {"files": 40 + i // 20}, "no more file"),
        (lambda i: {"p99_ms": 50.0 + i}, "p99"),
        (lambda i: {"masks": 0 if i == 20 else 300}, "masks in every"),
    ],
)
def test_each_rule_is_broken_by_what_it_forbids(change, rule):
    (found,) = broken([replace(sample, **change(i)) for i, sample in enumerate(STEADY)])
    assert found.startswith(rule)


def test_what_happens_while_it_warms_up_does_not_count():
    warming = [replace(sample, rss_mib=200.0, threads=9, p99_ms=900.0) for sample in STEADY[:6]]
    assert broken(warming + STEADY[6:]) == []


def test_too_few_samples_are_no_verdict():
    with pytest.raises(ValueError, match="too few"):
        judge(STEADY[:2])


def test_stamps_loop_and_jump_as_a_bags():
    stamps = BagStamps(0)
    times = [stamps.at(i / 30) for i in range(30 * 60)]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    jumps = [step for step in steps if abs(step - 1 / 30) > 1e-6]
    assert 8 <= len(jumps) <= 14 and min(jumps) < 0  # 60 s: three loops, eight seeks
    assert min(times) >= 100 and max(times) < 120


def test_the_results_can_be_read(tmp_path: Path):
    samples = [*STEADY[:4], replace(STEADY[4], p99_ms=float("nan")), *STEADY[5:]]
    write_results(samples, tmp_path)
    assert len((tmp_path / "soak.csv").read_text().splitlines()) == 31
    chart = ElementTree.parse(tmp_path / "soak.svg").getroot()
    assert {"memory, MiB", "latency p99, ms", "minutes"} <= set(chart.itertext())
    lines = [shape for element in chart.iter() if len(shape := element.get("d", "").split()) > 60]
    assert sorted(shape.count("M") for shape in lines) == [1, 1, 1, 2]  # four charts, one of them with a gap


def test_the_page_tells_each_verdict_and_how_it_came_about():
    verdicts = [*judge(STEADY), Verdict("nothing breaks", "1 thing", False)]
    told = page(STEADY, verdicts, "a network, two cameras", "python -m benchmarks.soak --minutes 5")
    assert all(f"| {verdict.rule} | {verdict.measured} |" in told for verdict in verdicts)
    assert told.count("**broken**") == 1
    assert "a network, two cameras" in told and "`python -m benchmarks.soak --minutes 5`" in told


def test_a_chart_of_nothing_is_a_chart(tmp_path: Path):
    write_line_charts(tmp_path / "empty.svg", [], {"a < b": []}, "minutes")
    assert "a < b" in set(ElementTree.parse(tmp_path / "empty.svg").getroot().itertext())
