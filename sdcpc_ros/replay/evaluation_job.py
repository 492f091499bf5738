"""The evaluation of one bag as a job: its inputs, its output files, and whether it is done already.

A job reads and writes files only, so it can run in this process, in another one, or on another machine.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sdcpc_ros import __version__
from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.evaluation.html_report import write_report
from sdcpc_ros.evaluation.report_file import REPORT_FORMAT, ReportError, read_report, write_json
from sdcpc_ros.replay.bag_evaluation import BagSettings, Model, ModelChoice, evaluate_bag
from sdcpc_ros.replay.labelled_bag import LabelledBagWriter
from sdcpc_ros.replay.live_evaluation import LivePlan, live_comparison
from sdcpc_ros.replay.live_timing import LiveTiming
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Unusable, load_segmenter
from sdcpc_ros.replay.view import recorder
from sdcpc_ros.runtime.atomic_file import remove_leftovers


@dataclass(frozen=True)
class JobFiles:
    """The output files of an evaluation."""

    folder: Path

    @property
    def report(self) -> Path:
        """All numbers."""
        return self.folder / "report.json"

    @property
    def page(self) -> Path:
        """The report for a browser, with images."""
        return self.folder / "report.html"

    @property
    def labelled_bag(self) -> Path:
        return self.folder / "labelled_bag"

    def clear(self) -> None:
        """Makes the folder and removes the results of an earlier evaluation, finished or not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.report, self.page, self.labelled_bag):
            remove_leftovers(path)
        for file in (self.report, self.page):
            file.unlink(missing_ok=True)
        if (self.labelled_bag / "metadata.yaml").is_file():
            shutil.rmtree(self.labelled_bag)


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
    def files(self) -> JobFiles:
        return JobFiles(self.output)

    def key(self) -> str:
        """A digest of all that the result depends on: the files of the bag and its masks, the model, the settings."""
        wanted = self.settings.truth
        truth = Path(wanted) if wanted is not None and Path(wanted).is_dir() else None
        facts = {
            "format": REPORT_FORMAT,
            "version": __version__,
            "files": _fingerprints(self.bag),
            "truth": [] if truth is None else _fingerprints(truth),
            "model": self.model.sha256(),
            "run": {key: value for key, value in asdict(self.model).items() if key != "path"},
            "settings": asdict(self.settings),
            "live": None if self.live is None else asdict(self.live),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def earlier_report(self) -> dict[str, Any] | None:
        """The report of this very evaluation if all its files are there, else None."""
        wanted = [self.files.page, *([self.files.labelled_bag] if self.labelled_bag else [])]
        try:
            report = read_report(self.files.report)
        except (OSError, ReportError):
            return None
        return report if report.get("key") == self.key() and all(path.exists() for path in wanted) else None

    def command(self) -> str:
        """The command line that repeats the evaluation."""
        settings, model = self.settings, self.model
        words = ["sdcpc", "evaluate-bag", str(self.bag), "--model", str(model.path)]
        options: dict[str, Any] = {
            "--camera": settings.camera,
            "--truth": settings.truth,
            "--start": settings.start_s or None,
            "--duration": settings.duration_s,
            "--every": None if settings.every == 1 else settings.every,
            "--max-gap": None if settings.max_gap_s == BagSettings().max_gap_s else settings.max_gap_s,
            "--device": model.device,
            "--backend": None if model.backend == "eager" else model.backend,
            "--precision": None if model.precision == "auto" else model.precision,
        }
        words += [word for name, value in options.items() if value is not None for word in (name, str(value))]
        for name, values in (("--void", settings.void), ("--input-size", model.input_size)):
            words += [name, *map(str, values)] if values else []
        words += ["--resize-truth"] if settings.resize_truth else []
        words += ["--unknown-colours-void"] if settings.unknown_colours_are_void else []
        words += ["--labelled-bag"] if self.labelled_bag else []
        words += [] if self.live is None else ["--live", *self.live.options()]
        return shlex.join(words)


def run_job(
    job: Job,
    *,
    on_start: Callable[[int], None] = lambda frames: None,
    on_frame: Callable[[], None] = lambda: None,
    on_live: Callable[[LiveTiming | None], None] = lambda timing: None,
) -> dict[str, Any]:
    """Runs the job and returns its report. The report's file is written last: it marks a finished job.

    `on_start` gets the number of images to come, `on_frame` is called after each. A live job calls `on_live` before:
    with None when the node is ready, then with the times so far for each published frame.
    Raises BagError, PlaybackError, CheckpointError or OSError.
    """
    key = job.key()  # before the work, in case the bag changes meanwhile
    model = _load_model(job.model, job.model.sha256())
    job.files.clear()
    settings, comparison = job.settings, None
    watchers: list[Callable[[SegmentedFrame | Unusable], None]] = []
    with ExitStack() as stack:
        if job.live is not None:
            plan = live_comparison(job.bag, job.output, job.model, settings, job.live, on_live)
            comparison = stack.enter_context(plan)
            watchers.append(comparison.add)
        if job.labelled_bag:
            writer = LabelledBagWriter(
                job.files.labelled_bag,
                job.bag,
                model.segmenter.label_set,
                camera=settings.camera,
                truth=settings.truth,
                start_s=settings.start_s,
                duration_s=settings.duration_s,
            )
            watchers.append(stack.enter_context(writer).write)
        if job.rerun is not None:
            watchers.append(stack.enter_context(recorder(model.segmenter.label_set, job.bag.name, job.rerun)))
        watchers.append(lambda frame: on_frame())
        evaluation = evaluate_bag(job.bag, model, settings, on_start=on_start, watchers=watchers)
    report = {"format": REPORT_FORMAT, "key": key, "command": job.command(), **evaluation.report}
    if comparison is not None:
        report["live"] = comparison.summary()
    write_report(job.files.page, report, evaluation.pictures)
    write_json(job.files.report, report)
    return report


@lru_cache(maxsize=1)
def _load_model(choice: ModelChoice, sha256: str) -> Model:
    """The last model is kept, since the bags of a fleet share it."""
    how = {key: value for key, value in vars(choice).items() if key != "path"}
    segmenter = load_segmenter(choice.path, **how)
    return Model(segmenter, choice.path.stem, sha256)


def _fingerprints(path: Path) -> list[tuple[str, int, int]]:
    if not path.exists():
        raise BagError(f"there is no bag at '{path}'")
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
