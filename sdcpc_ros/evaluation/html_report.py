"""The page of one bag's report, and that of a fleet with a line for each bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sdcpc_ros.evaluation.pages.frame_pictures import ReportPictures, flicker_values, frame_values
from sdcpc_ros.evaluation.pages.rendering import display_name, percent, write_page
from sdcpc_ros.evaluation.pages.timeline import live_chart, resets, seconds_after_start, time_chart
from sdcpc_ros.evaluation.report_file import check_report, label_set_of
from sdcpc_ros.runtime.wording import count_noun


def write_report(path: str | Path, report: dict[str, Any], pictures: ReportPictures | None = None) -> None:
    """Writes the page of a report, with `pictures` if given. Raises ReportError if the report is incomplete."""
    frames = check_report(report)["frames"]
    times = [seconds_after_start(report, index) for index in range(len(frames["number"]))]
    at = dict(zip(frames["number"], times))
    differences = (report.get("live") or {}).get("differences", [])
    pictures = pictures or ReportPictures()
    write_page(
        path,
        "report.html.jinja",
        report=report,
        label_set=label_set_of(report),
        span_s=(max(frames["stamp_ns"]) - min(frames["stamp_ns"])) / 1e9,
        configuration=configuration(report),
        confusion=_confusion(report),
        time_chart=time_chart(report),
        resets=[(frames["number"][index], times[index], cause) for index, cause in resets(report)],
        live_chart=live_chart(report),
        different=[
            (each["number"], at.get(each["number"], "–"), percent(each["agreement"], 2), each["why"])
            for each in differences
        ],
        worst=frame_values(report, pictures.worst),
        best=frame_values(report, pictures.best),
        flicker=flicker_values(pictures),
        topics=[(name, *facts) for name, facts in report["bag"]["topics"].items()],
    )


def write_fleet_page(path: str | Path, fleet: dict[str, Any]) -> None:
    """Writes the page of a fleet's report, as `sdcpc evaluate-bag` writes it to fleet.json."""
    write_page(path, "fleet.html.jinja", fleet=fleet, confusion=_confusion(fleet))


def configuration(report: dict[str, Any]) -> dict[str, str]:
    """The bag, the model and all settings of a report, by name."""
    bag, model, settings = report["bag"], report["model"], dict(report["settings"])
    height, width = settings.pop("input_size", None) or model["model_size"]
    fitted = "" if report["settings"].get("input_size") else ", or as many in the camera's shape"
    settings |= {"camera": f"{bag['camera']} ({bag['camera_type']})", "truth": bag["truth"]}
    settings["void"] = ", ".join(map(str, [*settings.get("void", []), 255]))
    return {
        "bag": bag["path"],
        "model": model["name"],
        "model's SHA-256": model["sha256"],
        "label set": f"{model['label_set']['name']}, {count_noun(len(report['classes']), 'class', 'classes')}",
        "network input": f"{width} x {height} px{fitted}",
        **{display_name(name): str(value) for name, value in settings.items() if value not in (None, False)},
    }


def _confusion(report: dict[str, Any]) -> dict[str, Any] | None:
    """The confusion matrix of a report or a fleet in shares of its rows; None if nothing was judged.

    Rows without pixels are left out. A last column holds unlabelled pixels, if there are any.
    """
    matrix, unlabelled = (np.array(report.get(name, []), np.int64) for name in ("confusion", "unlabelled"))
    if not (matrix.any() or unlabelled.any()):
        return None
    names = [display_name(each["name"]) for each in report["classes"]]
    columns = names
    if unlabelled.any():
        matrix, columns = np.column_stack([matrix, unlabelled]), [*names, "no label"]
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    wrong = shares[:, : len(names)] * (1 - np.eye(len(names)))
    largest = [divmod(flat, len(names)) for flat in np.argsort(-wrong, axis=None, kind="stable")[:5].tolist()]
    return {
        "columns": columns,
        "rows": [(names[row], shares[row].tolist()) for row in np.flatnonzero(totals)],
        "largest": [(wrong[at], names[at[0]], names[at[1]]) for at in largest if wrong[at]],
    }
