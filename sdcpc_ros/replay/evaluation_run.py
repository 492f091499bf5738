"""Runs `sdcpc evaluate-bag`: makes the jobs, shows progress, prints the result and returns the exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sdcpc_ros.evaluation.gates import Gate, missed_gates
from sdcpc_ros.evaluation.html_report import write_fleet_page
from sdcpc_ros.evaluation.report_file import write_json
from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.replay.bag_source import BagSettings
from sdcpc_ros.replay.evaluation_job import Job
from sdcpc_ros.replay.fleet import Outcome, fleet_report, output_folders, run_here, run_in_processes, run_on_ray
from sdcpc_ros.replay.live_run import LivePlan
from sdcpc_ros.replay.node_process import NodeTopics
from sdcpc_ros.replay.segmented_frames import ModelChoice
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.runtime.wording import count_noun

OK, MISSED, SOME_FAILED = 0, 1, 3
#: The columns of tables, by the keys in reports.
_SHARES = {
    "mIoU": "miou",
    "weighted IoU": "weighted_iou",
    "mVC8": "mvc8",
    "mVC16": "mvc16",
    "steady": "steady",
    "confidence": "confidence",
}


def evaluate_bags(arguments: argparse.Namespace, gates: Sequence[Gate]) -> int:
    """Runs the command and returns the exit status. Raises ValueError or OSError for an error of all bags."""
    jobs = _jobs(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    by_job: dict[Job, Outcome] = {}
    with ProgressBar() as bar, closing(_outcomes(arguments, jobs, bar)) as running:
        for outcome in running:
            by_job[outcome.job] = outcome
            if len(jobs) > 1:
                bar.update(doing=f"{len(by_job)} of {len(jobs)} bags")
                if outcome.status == "failed":
                    bar.print(f"{outcome.job.output.name}: {outcome.problem}")
    outcomes = [by_job[job] for job in jobs]
    if len(jobs) == 1:
        return _print_result(outcomes[0], gates, console)
    fleet = fleet_report(outcomes, gates, arguments.output.absolute())  # as the jobs have it
    write_json(arguments.output / "fleet.json", fleet)
    write_fleet_page(arguments.output / "fleet.html", fleet)
    console.print(fleet_table(fleet))
    for what, name in (("numbers", "fleet.json"), ("page", "fleet.html")):
        console.print(f"{what}: {escape(str(arguments.output / name))}", soft_wrap=True)
    return SOME_FAILED if fleet["failed"] else MISSED if fleet["missed"] else OK


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    """Raises BagError, CheckpointError or BackendError for options that no bag could be evaluated with."""
    bags = list(dict.fromkeys(Path(os.path.abspath(bag)) for bag in arguments.bags))
    settings = BagSettings(
        camera=arguments.camera,
        truth=arguments.truth,
        void=tuple(arguments.void),
        resize_truth=arguments.resize_truth,
        unknown_colours_are_void=arguments.unknown_colours_void,
        start_s=arguments.start,
        duration_s=arguments.duration,
        every=arguments.every,
        **({} if arguments.max_gap is None else {"max_gap_s": arguments.max_gap}),
    )
    path = resolve_model(arguments.model).absolute()
    load_checkpoint(path)  # a missing model is one error, not one for each bag
    size = None if arguments.input_size is None else (arguments.input_size[0], arguments.input_size[1])
    # Resolved here, since the report's command names the device.
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = ModelChoice(path, device, arguments.backend, size, arguments.precision)
    running = None if arguments.live_node is None else NodeTopics.of(arguments.live_node)
    live = LivePlan(arguments.live_rate or 1.0, running) if arguments.live else None
    folders = output_folders(bags, arguments.output.absolute())
    rerun = None if arguments.rerun is None else arguments.rerun.absolute()
    how = (model, settings, arguments.labelled_bag, live, rerun)
    return [Job(bag, folder, *how) for bag, folder in zip(bags, folders)]


def _outcomes(arguments: argparse.Namespace, jobs: Sequence[Job], bar: ProgressBar) -> Generator[Outcome, None, None]:
    force, workers = arguments.force, arguments.workers
    if arguments.ray is not None:
        return run_on_ray(jobs, arguments.ray, workers or len(jobs), force=force)
    if workers is not None and len(jobs) > 1:
        return run_in_processes(jobs, min(workers, len(jobs)), force=force)
    return run_here(jobs, force=force, bar=bar)


def _print_result(outcome: Outcome, gates: Sequence[Gate], console: Console) -> int:
    job, report = outcome.job, outcome.report
    if report is None:
        print(f"sdcpc evaluate-bag: {outcome.problem}", file=sys.stderr)
        return MISSED
    console.print(report_table(report))
    if outcome.status == "reused":
        console.print("Nothing has changed since this was evaluated; --force does it again.")
    if report["problems"]:
        unusable = report["bag"]["unusable"]
        counted = f"{count_noun(unusable, 'image')} could not be used; " if unusable else ""
        console.print(f"{counted}{escape(report['problems'][0])}", soft_wrap=True)
    named = {"numbers": job.report_path, "page": job.page_path, "labelled bag": job.labelled_bag_path}
    for what, path in {**named, "recording": job.rerun}.items():
        if path is not None and path.exists():
            console.print(f"  {what:<13}{escape(str(path))}", soft_wrap=True)
    missed = missed_gates(gates, report)
    for sentence in missed:
        print(f"sdcpc evaluate-bag: {sentence}", file=sys.stderr)
    return MISSED if missed else OK


def report_table(report: dict[str, Any]) -> Table:
    """A bag's numbers for the terminal; shares in percent."""
    bag, scores, timing = report["bag"], report["scores"], report["timing"]
    table = Table(title=f"{report['model']['name']} on {bag['name']}", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right", style="bold")
    per_frame = timing["ms_per_frame"]
    rows = {
        "frames": str(scores["frames"]),
        "with ground truth": str(scores["judged_frames"]),
        **{f"{title} %": _percent(scores[key]) for title, key in _SHARES.items()},
        "ms a frame, p50 / p95": f"{per_frame['p50']:.0f} / {per_frame['p95']:.0f}",
        "wall time / network time": f"{timing['wall_over_network']:.2f}",
    }
    live = report.get("live")
    if live is not None:
        rows["live: frames without a mask"] = f"{live['frames_dropped']} of {live['frames_published']}"
        for title in ("latency", "jitter"):
            p50, p95 = live[f"{title}_ms"]["p50"], live[f"{title}_ms"]["p95"]
            rows[f"live: {title} p50 / p95, ms"] = "-" if p50 is None else f"{p50:.0f} / {p95:.0f}"
        rows["live: frames labelled as offline"] = f"{live['equal']} of {live['compared']}"
        rows |= {f"live: differ, {cause}": str(count) for cause, count in live["causes"].items()}
    for row in rows.items():
        table.add_row(*row)
    table.add_section()
    for entry in report["classes"]:
        table.add_row(f"IoU % {escape(entry['name'])}", _percent(entry["iou"]))
    return table


def fleet_table(fleet: dict[str, Any]) -> Table:
    """A line for each bag and one for all; shares in percent."""
    table = Table(title=f"{count_noun(len(fleet['bags']), 'bag')}, {fleet['failed']} failed", title_justify="left")
    table.add_column("bag")
    for name in ("frames", *_SHARES):
        table.add_column(name, justify="right")
    table.add_column("")

    def cells(scores: dict[str, Any] | None) -> list[str]:
        if scores is None:
            return ["-"] * (1 + len(_SHARES))
        return [str(scores["frames"]), *(_percent(scores[key]) for key in _SHARES.values())]

    for entry in fleet["bags"]:
        remark = "; ".join(entry.get("missed", [])) or entry["problem"] or entry["status"]
        style = "red" if entry["status"] == "failed" or entry.get("missed") else None
        table.add_row(escape(entry["name"]), *cells(entry.get("scores")), escape(remark), style=style)
    table.add_section()
    table.add_row("all", *cells(fleet["scores"]), "")
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
