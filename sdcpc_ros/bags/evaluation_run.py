"""`sdcpc evaluate-bag` from its options to its exit status: jobs, progress, and what is printed in the end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from sdcpc_ros.bags.bag_evaluation import BagSettings
from sdcpc_ros.bags.evaluation_job import Job, ModelChoice, read_report, run_job, write_json
from sdcpc_ros.bags.fleet import Outcome, Outcomes, output_folders, run_here, run_ray, run_workers
from sdcpc_ros.bags.fleet_report import fleet_report, fleet_table
from sdcpc_ros.bags.live_evaluation import LivePlan
from sdcpc_ros.bags.node_process import terminated_as_interrupted
from sdcpc_ros.checkpoint import load_checkpoint, resolve_model
from sdcpc_ros.evaluation.gates import Gate, missed_gates

if TYPE_CHECKING:
    from sdcpc_ros.bags.live_report import LiveTiming

OK, MISSED, SOME_FAILED = 0, 1, 3


def evaluate_bags(arguments: argparse.Namespace, gates: Sequence[Gate]) -> int:
    """Do what the options say; the exit status. Raises ValueError or OSError for what is wrong with all the bags."""
    jobs = _jobs(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    console, errors = Console(highlight=False), Console(highlight=False, stderr=True)
    by_job: dict[Job, Outcome] = {}
    with (
        terminated_as_interrupted(),
        _Bars(errors, len(jobs)) as bars,
        closing(_outcomes(arguments, jobs, bars)) as running,
    ):
        for outcome in running:
            by_job[outcome.job] = outcome
            bars.finished(outcome)
    outcomes = [by_job[job] for job in jobs]
    if len(jobs) == 1:
        return _tell_one(outcomes[0], gates, console)
    fleet = fleet_report(outcomes, gates, arguments.output.absolute())  # as the jobs have it
    write_json(arguments.output / "fleet.json", fleet)
    console.print(fleet_table(fleet))
    from sdcpc_ros.evaluation.fleet_page import write_fleet_report

    write_fleet_report(arguments.output / "fleet.html", fleet)
    console.print(f"numbers: {escape(str(arguments.output / 'fleet.json'))}", soft_wrap=True)
    console.print(f"page: {escape(str(arguments.output / 'fleet.html'))}", soft_wrap=True)
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
    load_checkpoint(path)  # a model that cannot be had is one sentence, not one for each bag
    size = None if arguments.input_size is None else (arguments.input_size[0], arguments.input_size[1])
    # Decided here, once: the report's command names it, and one bag's state is of one device.
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = ModelChoice(path, device, arguments.backend, size, arguments.precision)
    live = LivePlan(arguments.live_rate or 1.0, arguments.live_node) if arguments.live else None
    folders = output_folders(bags, arguments.output.absolute())
    return [
        Job(bag, folder, model, settings, arguments.labelled_bag, live, arguments.save_every)
        for bag, folder in zip(bags, folders)
    ]


def _outcomes(arguments: argparse.Namespace, jobs: list[Job], bars: _Bars) -> Outcomes:
    if arguments.ray is not None:
        return run_ray(jobs, arguments.ray, arguments.workers, force=arguments.force)
    if arguments.workers is not None and len(jobs) > 1:
        return run_workers(jobs, arguments.workers, force=arguments.force, on_frame=bars.frames_done)
    return run_here(jobs, force=arguments.force, run=bars.run)


def _tell_one(outcome: Outcome, gates: Sequence[Gate], console: Console) -> int:
    if outcome.status == "failed":
        print(f"sdcpc evaluate-bag: {outcome.problem}", file=sys.stderr)
        return MISSED
    files = outcome.job.files
    report = read_report(files.report)
    assert report is not None  # for it was written, or read, just now
    console.print(report_table(report))
    if outcome.status == "reused":
        console.print("Nothing has changed since this was evaluated; --force does it again.")
    if report["problems"]:
        left_out = f"{report['bag']['unusable']} images were left out"
        console.print(f"{left_out}; {escape(report['problems'][0])}", soft_wrap=True)
    named = {"numbers": files.report, "page": files.page, "labelled bag": files.labelled_bag}
    for what, path in named.items():
        if path.exists():
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
    table.add_row("frames", str(scores["frames"]))
    table.add_row("with ground truth", str(scores["judged_frames"]))
    for title, key in (("mIoU", "miou"), ("weighted IoU", "weighted_iou"), ("mVC8", "mvc8"), ("mVC16", "mvc16")):
        table.add_row(f"{title} %", _percent(scores[key]))
    table.add_row("pixels that keep their label %", _percent(scores["steady"]))
    table.add_row("confidence %", _percent(scores["confidence"]))
    table.add_row("ms a frame, p50 / p95", f"{timing['ms_per_frame']['p50']:.0f} / {timing['ms_per_frame']['p95']:.0f}")
    table.add_row("wall time / network time", f"{timing['wall_over_network']:.2f}")
    if "live" in report:
        live = report["live"]
        table.add_section()
        table.add_row("live: frames without a mask", f"{live['frames_dropped']} of {live['frames_published']}")
        for name, title in (("latency_ms", "latency"), ("jitter_ms", "jitter")):
            p50, p95 = (live[name][key] for key in ("p50", "p95"))
            table.add_row(f"live: {title} p50 / p95, ms", "-" if p50 is None else f"{p50:.0f} / {p95:.0f}")
        table.add_row("live: frames labelled as offline", f"{live['equal']} of {live['compared']}")
        for cause, count in live["causes"].items():
            table.add_row(f"live: differ, {cause}", str(count))
    table.add_section()
    for entry in report["classes"]:
        table.add_row(f"IoU % {escape(entry['name'])}", _percent(entry["iou"]))
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


class _Bars:
    """Progress on stderr: the frames of the bag at hand, and the bags; silent where stderr is no terminal."""

    def __init__(self, console: Console, bags: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bags: TaskID | None = self._progress.add_task("bags", total=bags) if bags > 1 else None
        self._frames = self._progress.add_task("frames", total=None)

    def run(self, job: Job) -> dict[str, Any]:
        """`run_job` with its progress shown."""
        name = escape(job.output.name)
        playing = f"{name}: starting the node" if job.live is not None else name
        self._progress.reset(self._frames, total=None, description=playing)

        def start(frames: int) -> None:
            self._progress.reset(self._frames, total=frames, description=name)

        def played(timing: LiveTiming | None) -> None:
            done = 0 if timing is None else len(timing.published_ns)
            self._progress.update(self._frames, completed=done, description=f"{name}: playing")

        advance: Callable[[], None] = lambda: self._progress.advance(self._frames)  # noqa: E731
        return run_job(job, on_start=start, on_frame=advance, on_live=played, on_note=self.note)

    def frames_done(self, frames: int) -> None:
        self._progress.update(self._frames, completed=frames)

    def note(self, sentence: str) -> None:
        self._progress.console.print(escape(sentence), soft_wrap=True)

    def finished(self, outcome: Outcome) -> None:
        for sentence in outcome.notes:
            self.note(sentence)
        if self._bags is not None:
            self._progress.advance(self._bags)
            if outcome.status == "failed":
                failed = f"[red]{escape(outcome.job.output.name)}:[/] {escape(outcome.problem)}"
                self._progress.console.print(failed, soft_wrap=True)

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
