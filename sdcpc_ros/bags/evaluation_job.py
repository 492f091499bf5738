"""One bag's evaluation as a piece of work to hand out: all it needs, what it leaves, and when it is done already.

A job reads and writes files alone, so that it can be run in this process, in another, or on another machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sdcpc_ros import __version__
from sdcpc_ros.bags.bag_evaluation import (
    REPORT_FORMAT,
    BagEvaluation,
    BagSettings,
    MakeState,
    Model,
    evaluate_bag,
    versions,
)
from sdcpc_ros.bags.errors import BagError, StateError
from sdcpc_ros.bags.evaluation_state import DEFAULT_SAVE_EVERY_S, StateKeeper, read_state
from sdcpc_ros.bags.labelled_bag import LabelledBagWriter
from sdcpc_ros.bags.live_evaluation import LivePlan, live_comparison
from sdcpc_ros.bags.segmented_frames import SegmentedFrame, Unusable
from sdcpc_ros.bags.segmenter_loading import load_segmenter
from sdcpc_ros.bags.split_writer import parts_folder, reopen
from sdcpc_ros.evaluation.html_report import write_report

if TYPE_CHECKING:
    from sdcpc_ros.bags.live_report import LiveTiming


@dataclass(frozen=True)
class ModelChoice:
    """Which network, and how it is run; as StreamingSegmenter takes it."""

    path: Path  #: of the checkpoint
    device: str = "cpu"
    backend: str = "eager"
    input_size: tuple[int, int] | None = None  #: (height, width)
    precision: str = "auto"

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

    @property
    def state(self) -> Path:
        """Of an evaluation that was stopped, see `evaluation_state`; gone when it is complete."""
        return self.folder / "evaluation.state"

    def clear(self) -> None:
        """Make the folder, without an earlier evaluation's results: none of them may be taken for this one's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.report, self.page):
            file.unlink(missing_ok=True)
        self.forget_state()
        if (self.labelled_bag / "metadata.yaml").is_file():
            shutil.rmtree(self.labelled_bag)

    def forget_state(self) -> None:
        """Remove what a stopped evaluation left to go on from."""
        self.state.unlink(missing_ok=True)
        shutil.rmtree(parts_folder(self.labelled_bag), ignore_errors=True)


@dataclass(frozen=True)
class Job:
    """Evaluate one bag into a folder of its own."""

    bag: Path
    output: Path
    model: ModelChoice
    settings: BagSettings
    labelled_bag: bool = False
    live: LivePlan | None = None
    save_every_s: float = DEFAULT_SAVE_EVERY_S  #: how often its state is saved, to go on from if it is stopped

    @property
    def files(self) -> JobFiles:
        return JobFiles(self.output)

    def facts(self) -> dict[str, Any]:
        """A bag's files, its masks, the model and the settings."""
        wanted = self.settings.truth
        truth = Path(wanted) if wanted is not None and Path(wanted).is_dir() else None
        return {
            "format": REPORT_FORMAT,
            "version": __version__,
            "files": _fingerprints(self.bag),
            "truth": [] if truth is None else _fingerprints(truth),
            "model": self.model.sha256(),
            "run": {key: value for key, value in asdict(self.model).items() if key != "path"},
            "settings": asdict(self.settings),
            "live": None if self.live is None else asdict(self.live),
        }

    def key(self) -> str:
        """Changes when one of the facts does; under the same key nothing is new."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()

    def state_facts(self) -> dict[str, Any]:
        """What must be the same, in words, for an evaluation to go on to the report that it was on its way to."""
        facts = self.facts()
        return {
            "the bag": [str(self.bag), facts["files"]],
            "the masks": facts["truth"],
            "the model": [str(self.model.path), facts["model"]],
            "the settings": [facts["settings"], facts["run"], self.labelled_bag],
            "a version": [REPORT_FORMAT, versions()],
            "the machine or its number of threads": [machine(self.model.device), torch.get_num_threads()],
        }

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
    on_note: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Do it, and return the report. The report's file comes last: what has one is complete.

    An evaluation that was stopped goes on where its state was last saved, and to the same report; not so a live one,
    which plays the bag as a whole. `on_start` gets the number of images to come, `on_frame` is called after each;
    before, with a live job, `on_live` while the bag is played: with None when the node is ready, then with the times of
    each frame that was published. `on_note` gets sentences: that it goes on, or why it does not.
    Raises BagError, PlaybackError, CheckpointError or OSError.
    """
    key = job.key()  # before the work, lest a bag that changes meanwhile is taken for done
    model = _loaded(job.model, job.model.sha256())
    facts = job.state_facts()
    try:
        earlier = None if job.live is not None else read_state(job.files.state, facts)
        if earlier is not None:
            on_note(f"'{job.bag}' goes on with image {earlier['evaluation']['rewind']['scored'] + 1}")
            evaluation, live = _evaluated(job, model, facts, earlier, on_start, on_frame, on_live)
    except StateError as error:
        on_note(f"'{job.bag}' begins anew; the state of the evaluation that was stopped is of no use: {error}")
        earlier = None
    if earlier is None:
        job.files.clear()
        evaluation, live = _evaluated(job, model, facts, None, on_start, on_frame, on_live)
    report = {"format": REPORT_FORMAT, "key": key, "command": job.command(), **evaluation.report}
    if live is not None:
        report["live"] = live
    write_report(job.files.page, report, evaluation.pictures)
    write_json(job.files.report, report)
    job.files.forget_state()
    return report


def _evaluated(
    job: Job,
    model: Model,
    facts: dict[str, Any],
    earlier: dict[str, Any] | None,
    on_start: Callable[[int], None],
    on_frame: Callable[[], None],
    on_live: Callable[[LiveTiming | None], None],
) -> tuple[BagEvaluation, dict[str, Any] | None]:
    """The evaluation, and the live run's part of the report; what a labelled bag is wanted of is written then.

    What an evaluation that is stopped had saved stays, for another to go on from, unless the bag itself is at fault.
    """
    watchers: list[Callable[[SegmentedFrame | Unusable], None]] = []
    keeper = StateKeeper(job.files.state, facts, job.save_every_s)
    try:
        with ExitStack() as stack:
            comparison = labels = None
            if job.live is not None:
                plan = live_comparison(job.bag, job.output, job.model, job.settings, job.live, on_live)
                comparison = stack.enter_context(plan)
                watchers.append(comparison.watch)
            if job.labelled_bag:
                path = job.files.labelled_bag
                if earlier is not None:
                    reopen(path)  # it may have been complete, and the report not
                labels = LabelledBagWriter(
                    path,
                    job.bag,
                    model.segmenter.label_set,
                    **_part_of_the_bag(job.settings),
                    earlier=None if earlier is None else earlier["labelled_bag"],
                )
                watchers.append(stack.enter_context(labels).watch)
            watchers.append(lambda frame: on_frame())

            def keep(make: MakeState) -> None:
                if job.live is None:
                    keeper.save_if_due(
                        lambda: {"evaluation": make(), "labelled_bag": None if labels is None else labels.cut()}
                    )

            evaluation = evaluate_bag(
                job.bag,
                model,
                job.settings,
                on_start=on_start,
                watchers=watchers,
                earlier=None if earlier is None else earlier["evaluation"],
                keep=keep,
            )
    except BagError:
        job.files.forget_state()
        raise
    return evaluation, None if comparison is None else comparison.summary()


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


def machine(device: str) -> list[str]:
    """What arithmetic is done by: on another kind the last digits may differ."""
    gpu = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else ""
    return [platform.machine(), torch.backends.cpu.get_cpu_capability(), gpu]


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
    how = {key: value for key, value in vars(choice).items() if key != "path"}
    segmenter = load_segmenter(choice.path, **how)
    return Model(segmenter, choice.path.stem, sha256)


def _fingerprints(path: Path) -> list[tuple[str, int, int]]:
    if not path.exists():
        raise BagError(f"there is no bag at '{path}'")
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
