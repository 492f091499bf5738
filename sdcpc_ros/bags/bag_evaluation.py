"""Evaluate one bag offline: every frame through the node's segmenter, and all that can be said of it in one report."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdcpc_ros import __version__
from sdcpc_ros.bags.errors import BagError
from sdcpc_ros.bags.ground_truth import GroundTruth, find_ground_truth
from sdcpc_ros.bags.observed import Observed
from sdcpc_ros.bags.prefetch import prefetched
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.bags.rewind import MEMORY_EVERY, Rewind
from sdcpc_ros.bags.segmented_frames import SegmentedFrame, Unusable, bag_frames, segmented
from sdcpc_ros.evaluation.report_pictures import ReportPictures
from sdcpc_ros.evaluation.stream_scores import StreamScores
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

REPORT_FORMAT = "sdcpc bag evaluation 1"

#: Makes the state of an evaluation: nested dicts and lists of arrays and of what JSON holds.
MakeState = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class BagSettings:
    """What of a bag is evaluated, and how. Raises BagError for a value that makes no sense."""

    camera: str | None = None  #: the image topic, None: the only one there is
    truth: str | None = None  #: a topic, a folder of masks, "none"; None: the bag's own ground truth if it has one
    void: tuple[int, ...] = ()  #: ids in the truth that mean "no truth", besides 255
    resize_truth: bool = False  #: a truth of another size is resized to its image, by the nearest pixel
    unknown_colours_are_void: bool = False  #: of a truth in colours: those that no class has mean "no truth"
    start_s: float = 0.0
    duration_s: float | None = None
    every: int = 1  #: only every n-th image, from the first one on
    max_gap_s: float = DEFAULT_MAX_GAP_S  #: as the node's parameter max_gap

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < float("inf"):
            raise BagError(f"the start is {self.start_s} s; zero or a positive number is needed")
        for name, value in (("duration", self.duration_s), ("longest gap", self.max_gap_s)):
            if value is not None and not 0 < value < float("inf"):
                raise BagError(f"the {name} is {value} s; a positive number is needed")
        if self.every < 1:
            raise BagError(f"every n-th image: n is {self.every}; a whole number of 1 or more is needed")
        if any(not 0 <= label <= 255 for label in self.void):
            raise BagError(f"void ids are {list(self.void)}; 0 to 255 are allowed")


@dataclass(frozen=True)
class Model:
    """A segmenter, and what the report says of it."""

    segmenter: StreamingSegmenter
    name: str
    sha256: str  #: of the checkpoint's file


@dataclass(frozen=True)
class BagEvaluation:
    """The report as it goes into JSON, and the pictures that only the page shows."""

    report: dict[str, Any]
    pictures: ReportPictures


def evaluate_bag(
    path: str | Path,
    model: Model,
    settings: BagSettings | None = None,
    *,
    on_start: Callable[[int], None] = lambda frames: None,
    watchers: Sequence[Callable[[SegmentedFrame | Unusable], None]] = (),
    earlier: dict[str, Any] | None = None,
    keep: Callable[[MakeState], None] = lambda make: None,
) -> BagEvaluation:
    """Evaluate a bag. The report is the same for the same bag, model and settings but for what stands under "timing".

    `on_start` gets the number of images that are expected still, each of `watchers` every frame in turn. After each
    frame, and after the watchers, `keep` gets what makes the state of the evaluation; with such a state as `earlier` it
    goes on behind that frame, to the same report. Images that cannot be used are left out and listed.
    Raises BagError when the bag itself cannot be read or judged, or holds no usable image, StateError when it is not
    the bag that `earlier` was made with.
    """
    settings = settings or BagSettings()
    with BagReader(path) as bag:
        camera = bag.camera_topic(settings.camera)
        reader = LabelReader(model.segmenter.label_set.colours, settings.unknown_colours_are_void)
        truth = find_ground_truth(settings.truth, bag, camera, frozenset(settings.void), reader)
        observed = Observed(StreamScores(model.segmenter.label_set))
        rewind = Rewind()
        if earlier is not None:
            observed.restore(earlier["observed"])
            rewind.restore(earlier["rewind"])
            observed.resumed_at.append(rewind.beginning.scored + 1)
        beginning = rewind.beginning
        on_start(max(0, _expected_frames(bag, camera, settings) - _taken(beginning.scored + 1, settings.every)))
        source = bag_frames(
            bag,
            camera,
            truth,
            start_s=settings.start_s,
            duration_s=settings.duration_s,
            every=settings.every,
            first_number=beginning.number,
            place=beginning.place,
            resize_truth=settings.resize_truth,
        )
        frames = segmented(
            model.segmenter,
            source,
            max_gap_s=settings.max_gap_s,
            memory=beginning.memory,
            memory_every=MEMORY_EVERY,
        )
        started = time.perf_counter() - observed.wall_s
        # Three threads: one reads and decodes, one runs the network, this one scores.
        with closing(prefetched(frames, depth=2)) as ahead:
            for frame in ahead:
                if frame.number <= beginning.scored:
                    continue  # it was for the network to remember
                try:
                    observed.take(frame)
                except ValueError as error:
                    raise BagError(f"bag '{path}': the {truth.description} cannot judge the labels: {error}") from error
                for watch in watchers:
                    watch(frame)
                if isinstance(frame, SegmentedFrame):
                    rewind.take(frame)
                    keep(
                        lambda: {
                            "observed": observed.state(time.perf_counter() - started),
                            "rewind": rewind.state(),
                        }
                    )
        wall_s = time.perf_counter() - started
        if not len(observed.scores.log):
            first = f"; the first: {observed.problems[0]}" if observed.problems else ""
            raise BagError(f"bag '{path}' has no usable image on {camera} ({observed.unusable} unusable{first})")
        if truth.description != "none" and not observed.scores.judged:
            observed.problems.insert(0, f"none of the images has a ground truth in the {truth.description}")
        report = _report(bag, camera, truth, model, settings, observed)
    report["timing"] = _timing(observed, wall_s)
    pictures = ReportPictures(
        worst=observed.worst.frames(),
        best=observed.best.frames(),
        flicker=observed.scores.flicker.rate(),
        backdrop=observed.backdrop,
    )
    return BagEvaluation(report, pictures)


def _expected_frames(bag: BagReader, camera: str, settings: BagSettings) -> int:
    """How many images will be taken: exact for a whole bag, an estimate for a part of one.

    BagError when `settings.every` leaves no second image of the bag, for then there is no stream.
    """
    images = bag.topics[camera].message_count
    if settings.every > 1 and settings.every >= images:
        raise BagError(
            f"bag '{bag.path}', every n-th image: n is {settings.every}; a whole number of 1 to {max(1, images - 1)} "
            f"is allowed, as {camera} has {images} images"
        )
    if bag.duration_s <= 0 or (settings.start_s == 0 and settings.duration_s is None):
        return _taken(images, settings.every)
    left = max(0.0, bag.duration_s - settings.start_s)
    wanted = left if settings.duration_s is None else min(left, settings.duration_s)
    return _taken(round(images * wanted / bag.duration_s), settings.every)


def _taken(images: int, every: int) -> int:
    """How many of the first `images` images are evaluated."""
    return -(-images // every)


def _report(
    bag: BagReader, camera: str, truth: GroundTruth, model: Model, settings: BagSettings, observed: Observed
) -> dict[str, Any]:
    scores, log = observed.scores, observed.scores.log
    return {
        "format": REPORT_FORMAT,
        "bag": {
            "name": bag.path.stem if bag.path.is_file() else bag.path.name,
            "path": str(bag.path),
            "camera": camera,
            "camera_type": bag.topics[camera].type,
            "truth": truth.description,
            "start_ns": bag.start_ns,
            "duration_s": round(bag.duration_s, 9),
            "images": bag.topics[camera].message_count,
            "unusable": observed.unusable,
            "topics": {name: [topic.type, topic.message_count] for name, topic in sorted(bag.topics.items())},
        },
        "model": {
            "name": model.name,
            "sha256": model.sha256,
            "label_set": model.segmenter.label_set.to_dict(),
            "model_size": list(model.segmenter.model_size),
        },
        "settings": {**asdict(settings), "void": list(settings.void), **_run_settings(model)},
        "versions": versions(),
        "labels_sha256": scores.labels_sha256(),
        "scores": scores.scores(),
        "classes": scores.classes(),
        "confusion": scores.confusion.matrix.tolist(),
        "unlabelled": scores.confusion.unlabelled.tolist(),
        "resets": [
            {"number": number, "cause": cause} for number, cause in zip(log.number, log.reset) if cause is not None
        ],
        "problems": observed.problems,
        "worst": [extreme.number for extreme in observed.worst.frames()],
        "best": [extreme.number for extreme in observed.best.frames()],
        "frames": log.to_dict(),
    }


def _run_settings(model: Model) -> dict[str, Any]:
    size = model.segmenter.input_size
    return {
        "device": str(model.segmenter.device),
        "backend": model.segmenter.backend,
        "precision": model.segmenter.precision,
        "input_size": None if size is None else list(size),
        "threads": torch.get_num_threads(),  # another number sums in another order: the last digits may differ
    }


def _timing(observed: Observed, wall_s: float) -> dict[str, Any]:
    p50, p95, longest = np.percentile(observed.elapsed_ms, (50, 95, 100)).tolist()
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_s": round(wall_s, 3),
        "segmenter_s": round(math.fsum(observed.elapsed_ms) / 1e3, 3),
        "network_s": round(observed.network_s, 3),
        "wall_over_network": round(wall_s / observed.network_s, 3),
        "ms_per_frame": {"p50": round(p50, 2), "p95": round(p95, 2), "max": round(longest, 2)},
        "frames_ms": [round(elapsed, 2) for elapsed in observed.elapsed_ms],
        "cpus": os.cpu_count(),
        "resumed_at": observed.resumed_at,  # images; each after a stop
    }


def versions() -> dict[str, str]:
    """Of this package and of what its numbers depend on."""
    found = {"sdcpc_ros": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "opencv-python-headless", "rosbags"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not known to pip"
    return found
