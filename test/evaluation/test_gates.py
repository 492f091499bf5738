from __future__ import annotations

import pytest

from sdcpc_ros.evaluation.gates import MEASURES, Measure, missed_gates


def measure(name: str) -> Measure:
    (found,) = (measure for measure in MEASURES if measure.name == name)
    return found


REPORT = {
    "scores": {"miou": 0.6, "mvc8": None},
    "timing": {"ms_per_frame": {"p95": 41.0}},
    "bag": {"unusable": 2},
}


@pytest.mark.parametrize(
    ("name", "threshold", "sentence"),
    [
        ("miou", 0.6, None),
        ("miou", 0.6001, "scores.miou is 0.6, --min-miou 0.6001 is missed"),
        ("ms", 41, None),
        ("ms", 40.5, "timing.ms_per_frame.p95 is 41, --max-ms 40.5 is missed"),
        ("unusable", 1, "bag.unusable is 2, --max-unusable 1 is missed"),
        ("mvc8", 0.0, "scores.mvc8 is not known, --min-mvc8 0 is missed"),
        ("latency", 100, "live.latency_ms.p95 is not known, --max-latency 100 is missed"),
    ],
)
def test_what_is_missed_is_said_in_numbers(name, threshold, sentence):
    assert missed_gates([measure(name).gate(threshold)], REPORT) == ([] if sentence is None else [sentence])


def test_all_that_are_missed_are_told():
    gates = [measure("miou").gate(0.9), measure("ms").gate(50), measure("unusable").gate(0)]
    assert len(missed_gates(gates, REPORT)) == 2


@pytest.mark.parametrize(("name", "threshold"), [("miou", 60), ("miou", -0.1), ("miou", float("nan")), ("ms", -1)])
def test_a_threshold_that_cannot_be_is_refused(name, threshold):
    with pytest.raises(ValueError, match="needed"):
        measure(name).gate(threshold)


def test_options_are_all_different():
    assert len({measure.destination for measure in MEASURES}) == len(MEASURES)
