"""One bag's evaluation as a piece of work to hand out: all it needs, what it leaves, and when it is done already.

A job reads and writes files alone, so that it can be run in this process, in another, or on another machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcpc_ros import __version__
from sdcpc_ros.bags.bag_evaluation import REPORT_FORMAT, BagSettings, Model, evaluate_bag
from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.labelled_bag import LabelledBagWriter
from sdcpc_ros.bags.live_evaluation import LivePlan, live_comparison
from sdcpc_ros.bags.segmented_frames import SegmentedFrame, Unusable
from sdcpc_ros.checkpoint import load_checkpoint
from sdcpc_ros.evaluation.html_report import write_report
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

if TYPE_CHECKING:
    from sdcpc_ros.bags.live_report import LiveTiming


@dataclass(frozen=True)
class ModelChoice:
    """Which network, and how it is run; as StreamingSegmenter takes it."""

    path: Path  #: of the checkpoint
    device: str = "cpu"
    backend: str = "eager"
    input_size: tuple[int, int] | None = None  #: (height, width)

    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class JobFiles:
    """What an evaluation leaves in its folder."""

    folder: Path

    @property
    def report(self) -> Path:
        """All numbers."""
        return self.folder / "report.json"

    @property
    def page(self) -> Path:
        """The same for a browser, with pictures."""
        return self.folder / "report.html"

    @property
    def labelled_bag(self) -> Path:
        return self.folder / "labelled_bag"

    def clear(self) -> None:
        """Make the folder, without an earlier evaluation's results: none of them may be taken for this one's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.report, self.page):
            file.unlink(missing_ok=True)
        if (self.labelled_bag / "metadata.yaml").is_file():
            shutil.rmtree(self.labelled_bag)


@dataclass(frozen=True)
class Job:
    """Evaluate one bag into a folder of its own."""

    bag: Path
    output: Path
    model: ModelChoice
    settings: BagSettings
    labelled_bag: bool = False
    live: LivePlan | None = None

    @property
    def files(self) -> JobFiles:
        return JobFiles(self.output)

    def key(self) -> str:
        """Changes when a bag's files, its masks, the model or the settings do; under the same key nothing is new."""
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
        """The report of this very evaluation if it is done already, with all that is wanted beside it."""
        report = read_report(self.files.report)
        wanted = [self.files.page, *([self.files.labelled_bag] if self.labelled_bag else [])]
        if report is None or report.get("key") != self.key() or not all(path.exists() for path in wanted):
            return None
        return report

    def command(self) -> str:
        """What to type to have the same again."""
        settings, model = self.settings, self.model
        words = ["sdcpc", "evaluate-bag", str(self.bag), "--model", str(model.path)]
        options: dict[str, Any] = {
            "--camera": settings.camera,
            "--truth": settings.truth,
            "--start": settings.start_s or None,
            "--duration": settings.duration_s,
            "--max-gap": None if settings.max_gap_s == BagSettings().max_gap_s else settings.max_gap_s,
            "--device": None if model.device == "cpu" else model.device,
            "--backend": None if model.backend == "eager" else model.backend,
        }
        words += [word for name, value in options.items() if value is not None for word in (name, str(value))]
        for name, values in (("--void", settings.void), ("--input-size", model.input_size)):
            words += [name, *map(str, values)] if values else []
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
    """Do it, and return the report. The report's file comes last: what has one is complete.

    `on_start` gets the number of images, `on_frame` is called after each; before, with a live job, `on_live` while the
    bag is played: with None when the node is ready, then with the times of each frame that was published.
    Raises BagError, PlaybackError, CheckpointError or OSError.
    """
    key = job.key()  # before the work, lest a bag that changes meanwhile is taken for done
    model = _loaded(job.model, job.model.sha256())
    job.files.clear()
    watchers: list[Callable[[SegmentedFrame | Unusable], None]] = []
    with ExitStack() as stack:
        comparison = None
        if job.live is not None:
            plan = live_comparison(job.bag, job.output, job.model, job.settings, job.live, on_live)
            comparison = stack.enter_context(plan)
            watchers.append(comparison.watch)
        if job.labelled_bag:
            labels = LabelledBagWriter(
                job.files.labelled_bag, job.bag, model.segmenter.label_set, **_part_of_the_bag(job.settings)
            )
            watchers.append(stack.enter_context(labels).watch)
        watchers.append(lambda frame: on_frame())
        evaluation = evaluate_bag(job.bag, model, job.settings, on_start=on_start, watchers=watchers)
    report = {"format": REPORT_FORMAT, "key": key, "command": job.command(), **evaluation.report}
    if comparison is not None:
        report["live"] = comparison.summary()
    write_report(job.files.page, report, evaluation.pictures)
    write_json(job.files.report, report)
    return report


def read_report(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote; None when there is no such file, or no such content."""
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def write_json(path: Path, values: dict[str, Any]) -> None:
    """A file that appears whole or not at all."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(json.dumps(values, allow_nan=False) + "\n")
    os.replace(beside, path)


def _part_of_the_bag(settings: BagSettings) -> dict[str, Any]:
    return {
        "camera": settings.camera,
        "truth": settings.truth,
        "start_s": settings.start_s,
        "duration_s": settings.duration_s,
    }


@lru_cache(maxsize=1)
def _loaded(choice: ModelChoice, sha256: str) -> Model:
    """The model; the last one is kept, for the bags of a fleet share it."""
    segmenter = StreamingSegmenter(
        load_checkpoint(choice.path), device=choice.device, backend=choice.backend, input_size=choice.input_size
    )
    return Model(segmenter, choice.path.stem, sha256)


def _fingerprints(path: Path) -> list[tuple[str, int, int]]:
    if not path.exists():
        raise BagError(f"there is no bag at '{path}'")
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
