"""The page of a comparison: one HTML file without scripts or links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.comparison import (
    Compared,
    Comparison,
    ComparisonSettings,
    Difference,
    GateResult,
    plot_groups,
)
from sdcpc_ros.evaluation.pages.rendering import count_noun, write_page
from sdcpc_ros.evaluation.pages.time_sections import frame_times
from sdcpc_ros.evaluation.pages.timeline import Strip, timeline
from sdcpc_ros.evaluation.report_file import column

_SIDE_BY_SIDE = (("Mean IoU", "miou"), ("mVC8", "mvc8"), ("Steady pixels", "steady"), ("Confidence", "confidence"))


def write_comparison(path: str | Path, comparison: Comparison, gates: list[GateResult], command: str = "") -> None:
    """Writes the page of a comparison with its gates; `command` reproduces it."""
    baseline, settings = comparison.baseline, comparison.settings
    context = {
        "title": f"{baseline['bag']['name']}: comparison",
        "name": baseline["bag"]["name"],
        "facts": [
            ("camera", baseline["bag"]["camera"]),
            ("frames", str(comparison.frames)),
            ("baseline", f"{comparison.baseline_name} ({baseline['model']['name']})"),
            ("ground truth", baseline["bag"]["truth"]),
        ],
        "sections": [
            _section(comparison, each, [gate for gate in gates if gate.report == each.name])
            for each in comparison.compared
        ],
        "method": _method(settings),
        "command": command,
        "footer": f"Made by sdcpc_ros {baseline['versions'].get('sdcpc_ros', '')}.",
    }
    write_page(path, "comparison.html.jinja", context)


def _method(settings: ComparisonSettings) -> str:
    by_chance = 100 * (1 - settings.level)
    return (
        f"The intervals hold {100 * settings.level:g} % of {settings.replicates} draws from the frames (seed "
        f"{settings.seed}). Runs of consecutive frames are drawn, since neighbouring frames are alike, and the same "
        "ones for both sides. An interval without zero means better or worse beyond chance. Of many classes, about "
        f"{by_chance:.2g} in a hundred have such an interval by chance. Times also depend on other work of the "
        "machine, which the intervals do not include."
    )


def _section(comparison: Comparison, compared: Compared, gates: list[GateResult]) -> dict[str, Any]:
    return {
        "name": compared.name,
        "model": compared.report["model"]["name"],
        "summary": _summary(compared),
        "gates": [
            (result.gate.text, f"{result.value:+.2f}", "failed" if result.failed else "passed") for result in gates
        ],
        "rows": [
            _row(each, positions, begins_group=index == 0)
            for group in plot_groups(compared.differences.values())
            for index, (each, positions) in enumerate(group)
        ],
        "timeline": _timeline(comparison.baseline, compared.report),
        "settings": _settings_that_differ(comparison.baseline, compared.report),
        "block": count_noun(compared.block, "frame"),
    }


def _summary(compared: Compared) -> str:
    if compared.same_labels:
        return "Every label of every frame is the same as the baseline's."
    sentences = []
    for name in ("miou", "mvc8", "mvc16"):
        each = compared.differences.get(name)
        if each is None:
            continue
        if each.verdict in ("better", "worse"):
            verdict = f"{each.verdict} beyond chance ({each.interval})"
        elif each.low is None or each.high is None:
            verdict = "with too few frames for an interval"
        else:
            verdict = f"within chance ({each.interval})"
        sentences.append(f"{each.title} {each.difference:+.2f} points, {verdict}")
    return (
        "; ".join(sentences) + "." if sentences else "There is no ground truth to compare with; see the steady pixels."
    )


def _row(each: Difference, positions: tuple[float, float, float], *, begins_group: bool) -> dict[str, Any]:
    left, at, right = (50 * (1 + position) for position in positions)
    return {
        "name": f"{each.title}, {each.unit}",
        "note": f"{each.title}: {each.difference:+.2f}, {each.interval}, {each.verdict}",
        "cells": (f"{each.baseline:.2f}", f"{each.value:.2f}", f"{each.difference:+.2f}", each.interval),
        "left": f"{left:.2f}",
        "at": f"{at:.2f}",
        "width": f"{right - left:.2f}",
        "verdict": each.verdict,
        "begins_group": begins_group,
    }


def _timeline(baseline: dict[str, Any], report: dict[str, Any]) -> dict[str, Any] | None:
    strips = []
    for title, name in _SIDE_BY_SIDE:
        ours, theirs = (100 * column(each, name) for each in (baseline, report))
        if not (np.isnan(ours).all() or np.isnan(theirs).all()):
            strips.append(Strip({f"{title}: baseline": ours, "this": theirs}))
    return timeline(*frame_times(baseline), strips) if strips else None


def _settings_that_differ(baseline: dict[str, Any], report: dict[str, Any]) -> list[tuple[str, str, str]]:
    def flat(each: dict[str, Any]) -> dict[str, str]:
        model = {"model": each["model"]["name"], "model's SHA-256": each["model"]["sha256"]}
        return {name: str(value) for name, value in {**model, **each["settings"], **each["versions"]}.items()}

    ours, theirs = flat(baseline), flat(report)
    names = [*ours, *(name for name in theirs if name not in ours)]
    pairs = [(name, ours.get(name, "–"), theirs.get(name, "–")) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]
