"""The evaluation of one bag as a job: its inputs, its output files, and whether it is done already.

A job reads and writes files only, so it can run in this process, in another one, or on another machine.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sdcpc_ros import __version__
from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.html_report import write_report
from sdcpc_ros.evaluation.report_file import REPORT_FORMAT, ReportError, read_report, write_json
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.bag_evaluation import BagEvaluation, Model, evaluate_bag
from sdcpc_ros.replay.bag_source import BagSettings, BagSource
from sdcpc_ros.replay.labelled_bag import labelled_bag_sink
from sdcpc_ros.replay.live_comparison import LiveComparison
from sdcpc_ros.replay.live_run import LivePlan, LiveRun, live_run, require_ros
from sdcpc_ros.replay.segment import rerun_sink
from sdcpc_ros.replay.segmented_frames import ModelChoice, Sink
from sdcpc_ros.runtime.atomic_file import remove_leftovers
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S


@dataclass(frozen=True)
class Job:
    """Evaluates one bag into a folder of its own."""

    bag: Path
    output: Path
    model: ModelChoice
    settings: BagSettings
    labelled_bag: bool = False
    live: LivePlan | None = None
    rerun: Path | None = None  #: a recording to write for Rerun, see `RerunRecording`

    @property
    def report_path(self) -> Path:
        """All numbers."""
        return self.output / "report.json"

    @property
    def page_path(self) -> Path:
        """The report for a browser, with images."""
        return self.output / "report.html"

    @property
    def labelled_bag_path(self) -> Path:
        return self.output / "labelled_bag"

    def clear(self) -> None:
        """Removes the results of an earlier evaluation."""
        for file in (self.report_path, self.page_path):
            file.unlink(missing_ok=True)
        if (self.labelled_bag_path / "metadata.yaml").is_file():
            shutil.rmtree(self.labelled_bag_path)

    def key(self) -> str:
        """A digest of the job's inputs: the files of the bag and its masks, the model, the settings."""
        wanted = self.settings.truth
        truth = Path(wanted) if wanted is not None and Path(wanted).is_dir() else None
        facts = {
            "format": REPORT_FORMAT,
            "version": __version__,
            "files": _fingerprints(self.bag),
            "truth": [] if truth is None else _fingerprints(truth),
            "model": self.model.sha256(),
            "run": self.model.run_options,
            "settings": asdict(self.settings),
            "live": None if self.live is None else asdict(self.live),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def earlier_report(self) -> dict[str, Any] | None:
        """The report of this very evaluation if all its files are there, else None."""
        if not self.page_path.exists() or (self.labelled_bag and not self.labelled_bag_path.exists()):
            return None
        try:
            report = read_report(self.report_path)
        except (OSError, ReportError):
            return None
        return report if report.get("key") == self.key() else None

    def command(self) -> str:
        """The command line that repeats the evaluation."""
        settings, model, live = self.settings, self.model, self.live
        options = {
            "--camera": settings.camera,
            "--truth": settings.truth,
            "--void": settings.void,
            "--resize-truth": settings.resize_truth,
            "--unknown-colours-void": settings.unknown_colours_are_void,
            "--start": settings.start_s,
            "--duration": settings.duration_s,
            "--every": settings.every if settings.every > 1 else None,
            "--max-gap": settings.max_gap_s if settings.max_gap_s != DEFAULT_MAX_GAP_S else None,
            "--device": model.device,
            "--backend": model.backend if model.backend != "eager" else None,
            "--precision": model.precision if model.precision != "auto" else None,
            "--input-size": model.input_size,
            "--labelled-bag": self.labelled_bag,
            "--live": live is not None,
            "--live-rate": None if live is None or live.rate == 1 else live.rate,
            "--live-node": None if live is None or live.running is None else live.running.label,
        }
        words = ["sdcpc", "evaluate-bag", str(self.bag), "--model", str(model.path)]
        for name, value in options.items():
            if value:
                values = () if value is True else value if isinstance(value, tuple) else (value,)
                words += [name, *map(str, values)]
        return shlex.join(words)


def run_job(job: Job, bar: ProgressBar | None = None) -> dict[str, Any]:
    """Runs the job and returns its report. The report's file is written last: it marks a finished job.

    `bar` shows the frames that are played and evaluated. Raises BagError, PlaybackError, CheckpointError or OSError.
    """
    advance, name = bar or ProgressBar(disabled=True), job.output.name
    advance.restart(None, name)
    key = job.key()  # before the work, in case the bag changes meanwhile
    model = _load_model(job.model, job.model.sha256())
    job.output.mkdir(parents=True, exist_ok=True)
    for path in (job.report_path, job.page_path, job.labelled_bag_path):
        remove_leftovers(path)
    try:
        evaluation, comparison = _evaluate(job, model, advance)
    except Exception:  # not KeyboardInterrupt: an interrupted evaluation keeps the results of an earlier one
        job.clear()
        raise
    report = {"format": REPORT_FORMAT, "key": key, "command": job.command(), **evaluation.report}
    if comparison is not None:
        report["live"] = comparison.summary()
    write_report(job.page_path, report, evaluation.pictures)
    write_json(job.report_path, report)
    return report


def _evaluate(job: Job, model: Model, advance: ProgressBar) -> tuple[BagEvaluation, LiveComparison | None]:
    """Writes the labelled bag and the recording, if wanted, in place of the results of an earlier evaluation."""
    label_set, settings, comparison = model.segmenter.label_set, job.settings, None
    sinks: list[Sink] = []
    with ExitStack() as stack:
        if job.live is not None:
            comparison = stack.enter_context(_live_comparison(job, job.live, advance))
            sinks.append(comparison.add)
        if job.labelled_bag:
            sinks.append(stack.enter_context(labelled_bag_sink(job.labelled_bag_path, job.bag, label_set, settings)))
        if job.rerun is not None:
            sinks.append(stack.enter_context(rerun_sink(label_set, job.bag.name, job.rerun)))
        sinks.append(lambda frame: advance())
        evaluation = evaluate_bag(
            job.bag, model, settings, on_start=lambda frames: advance.restart(frames, job.output.name), sinks=sinks
        )
        job.clear()  # before the new labelled bag comes into its place
        return evaluation, comparison


@contextmanager
def _live_comparison(job: Job, plan: LivePlan, bar: ProgressBar) -> Iterator[LiveComparison]:
    """Plays the bag to a node, and yields a comparison for its offline frames."""
    require_ros(" for --live")
    bar.update(doing=f"{job.output.name}: starting the node")
    max_gap_s, config = job.settings.max_gap_s, load_checkpoint(job.model.path).config
    parameters = {"model": job.model.path, **job.model.run_options, "max_gap": max_gap_s}

    def on_progress(run: LiveRun) -> None:
        bar.update(len(run.published_ns), f"{job.output.name}: playing")

    with BagReader(job.bag) as bag:
        source = BagSource(bag, job.settings)
        with live_run(source, job.output, plan, parameters, on_progress=on_progress) as (run, answers):
            offsets, recurrent = config.reference_offsets, config.recurrent
            yield LiveComparison(run, answers, offsets=offsets, max_gap_s=max_gap_s, recurrent=recurrent)


@lru_cache(maxsize=1)
def _load_model(choice: ModelChoice, sha256: str) -> Model:
    """The last model is kept, since the bags of a fleet share it."""
    return Model(choice.load(), choice.path.stem, sha256)


def _fingerprints(path: Path) -> list[tuple[str, int, int]]:
    if not path.exists():
        raise BagError(f"there is no bag at '{path}'")
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
