from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from sdcpc_ros.evaluation.comparison import ComparisonSettings, compare, comparison_report, plot_groups
from sdcpc_ros.evaluation.comparison_report import comparison_table, interval_plot
from sdcpc_ros.evaluation.report_file import ReportError
from sdcpc_ros.labels.label_set import CITYSCAPES_19

QUICK = ComparisonSettings(replicates=300)


def test_a_worse_model_is_worse_beyond_chance(pair):
    (compared,) = compare(["good", "bad"], pair, QUICK)
    miou = compared.differences["miou"]
    assert miou.baseline == pytest.approx(100 * pair[0]["scores"]["miou"], abs=1e-3)
    assert miou.value == pytest.approx(100 * pair[1]["scores"]["miou"], abs=1e-3)
    assert miou.low < miou.difference < miou.high < 0
    assert miou.verdict == "worse"
    assert compared.differences["mvc8"].verdict == "worse"
    (other_way,) = compare(["bad", "good"], pair[::-1], QUICK)
    mirrored = other_way.differences["miou"]
    assert (mirrored.difference, mirrored.low, mirrored.high) == pytest.approx(
        (-miou.difference, -miou.high, -miou.low)
    )
    assert mirrored.verdict == "better"


def test_equally_good_models_are_mostly_undecided(make_report):
    """Eleven classes and a few scores: with 95 % intervals, one may lie clear of zero by chance."""
    reports = [make_report(frames=60, wrong=0.3, seed=seed)[0] for seed in range(6)]
    (*compared,) = compare([str(seed) for seed in range(6)], reports, QUICK)
    verdicts = [each.differences["miou"].verdict for each in compared]
    assert verdicts.count("undecided") >= 4


def test_a_report_against_itself_is_the_same(pair):
    (compared,) = compare(["a", "b"], [pair[0], pair[0]], QUICK)
    assert compared.same_labels
    assert {each.verdict for each in compared.differences.values()} == {"same"}
    assert {each.difference for each in compared.differences.values()} == {0.0}


def test_the_same_seed_draws_the_same(pair):
    first, again = (comparison_report(compare(["a", "b"], pair, QUICK)) for _ in range(2))
    assert first == again
    other = comparison_report(compare(["a", "b"], pair, ComparisonSettings(replicates=300, seed=5)))
    miou, other_miou = (each["compared"][0]["metrics"]["miou"] for each in (first, other))
    assert miou["difference"] == other_miou["difference"] and miou["low"] != other_miou["low"]


def test_longer_blocks_are_kept_to_the_frames_there_are(pair):
    (compared,) = compare(["a", "b"], pair, ComparisonSettings(replicates=100, block=1000))
    assert compared.block == 40


def test_few_frames_get_no_interval(make_report):
    reports = [make_report(frames=15, seed=seed)[0] for seed in (1, 2)]
    (compared,) = compare(["a", "b"], reports, QUICK)
    assert {(each.low, each.high, each.verdict) for each in compared.differences.values()} == {
        (None, None, "undecided")
    }
    assert json.loads(json.dumps(compared.differences["miou"].to_dict()))["low"] is None


def test_without_a_truth_what_can_be_told_is_compared(make_report):
    reports = [make_report(truth=False, seed=seed)[0] for seed in (1, 2)]
    (comparison,) = compare(["a", "b"], reports, QUICK)
    assert set(comparison.differences) == {"steady", "confidence", "ms"}


def _other_stamps(report):
    report["frames"]["stamp_ns"] = [stamp + 10**9 for stamp in report["frames"]["stamp_ns"]]


def _other_truth(report):
    report["frames"]["truth"][3 * 11 + 4] += 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            _other_stamps,
            "different recordings: frame 0 is stamped 1000000001.000 s in it, 1000000000.000 s in the other",
        ),
        (
            _other_truth,
            r"their ground truths differ: of pavement there are \d+ pixels in frame 3 of it, \d+ in the other",
        ),
        (lambda report: report["bag"].update(camera="/rear"), "it is of /rear, the other of /camera/image_raw"),
    ],
)
def test_reports_of_other_frames_are_refused(pair, change, sentence):
    change(pair[1])
    with pytest.raises(ReportError, match=f"'b' cannot be compared with 'a': .*{sentence}"):
        compare(["a", "b"], pair)


def test_reports_of_other_lengths_or_classes_are_refused(make_report):
    report = make_report(frames=4)[0]
    with pytest.raises(ReportError, match="it holds 5 frames, the other 4"):
        compare(["a", "b"], [report, make_report(frames=5)[0]])
    with pytest.raises(ReportError, match=r"its classes are road, sidewalk.*; those of the other are sky, building"):
        compare(["a", "b"], [report, make_report(frames=4, label_set=CITYSCAPES_19)[0]])
    with pytest.raises(ReportError, match="at least two reports are needed"):
        compare(["a"], [report])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"replicates": 99}, "99 draws are too few"),
        ({"level": 1.0}, "the level is 1.0"),
        ({"level": float("nan")}, "the level is nan"),
        ({"block": 0}, "the block is 0 frames"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, sentence):
    with pytest.raises(ReportError, match=sentence):
        ComparisonSettings(**values)


def test_the_table_tells_the_numbers_and_draws_them_where_there_is_room(pair):
    (comparison,) = compare(["[red]a", "b"], pair, QUICK)
    miou = comparison.differences["miou"]
    for width, plotted in ((130, True), (80, False)):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(comparison_table(comparison, width))
        text = console.export_text()
        assert f"{miou.difference:+.2f}" in text and f"{miou.low:+.2f} to {miou.high:+.2f}" in text
        assert "[red]a" in text
        assert ("●" in text) == plotted
        assert max(map(len, text.splitlines())) <= width and "…" not in text


def test_the_plot_in_letters_is_where_the_numbers_are():
    plot = interval_plot(-0.5, -0.25, 0.0)
    assert len(plot) == 29
    assert (plot.index("├"), plot.index("●"), plot.index("┤")) == (7, 10, 14)
    assert interval_plot(0.0, 0.0, 0.0) == " " * 14 + "●" + " " * 14
    assert interval_plot(-1.0, 0.0, 1.0) == "├" + "─" * 13 + "●" + "─" * 13 + "┤"


def test_plots_share_a_scale_by_kind_and_better_is_on_the_right(pair):
    pair[1]["timing"]["frames_ms"] = [20.0 + number % 5 for number in range(40)]
    differences = compare(["a", "b"], pair, QUICK)[0].differences
    scores, classes, times = plot_groups(differences.values())
    assert {each.metric.name for each, _ in scores} == {"miou", "weighted_iou", "mvc8", "mvc16", "steady", "confidence"}
    assert len(classes) == 11 and [each.metric.name for each, _ in times] == ["ms"]
    for group in (scores, classes, times):
        ends = [abs(position) for _, positions in group for position in positions]
        assert max(ends) == pytest.approx(1.0)
    ((miou, (low, value, high)), *_) = scores
    assert low / value == pytest.approx(miou.low / miou.difference) and low <= value <= high < 0
    ((faster, (low, value, high)),) = times
    assert faster.difference < 0 < low <= value <= high


def test_five_thousand_frames_take_seconds(make_report):
    report, _ = make_report(frames=20)
    for name, values in report["frames"].items():
        report["frames"][name] = values * 250
    report["timing"]["frames_ms"] *= 250
    report["frames"]["stamp_ns"] = np.arange(5_000).tolist()
    settings = ComparisonSettings(replicates=500, block=30)
    (compared,) = compare(["a", "b"], [report, report], settings)
    assert compared.differences["miou"].verdict == "same"
