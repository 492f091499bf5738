"""Evaluates one bag offline: runs every frame through the node's segmenter and reports the scores."""

from __future__ import annotations

import hashlib
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
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.evaluation.extreme_frames import ReportPictures
from sdcpc_ros.evaluation.report_file import REPORT_FORMAT
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.images.label_pictures import LabelReader
from sdcpc_ros.replay.accumulator import EvaluationAccumulator
from sdcpc_ros.replay.ground_truth import GroundTruth, find_ground_truth
from sdcpc_ros.replay.prefetch import prefetch
from sdcpc_ros.replay.segmented_frames import SegmentedFrame, Unusable, bag_frames, segment_frames
from sdcpc_ros.streaming.continuity import DEFAULT_MAX_GAP_S
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


@dataclass(frozen=True)
class BagSettings:
    """The part of a bag to evaluate, and how. Raises BagError for a value out of range."""

    camera: str | None = None  #: the image topic; None: the only one
    truth: str | None = None  #: a topic, a folder of masks, "none"; None: the bag's own ground truth, if any
    void: tuple[int, ...] = ()  #: ids in the truth that mean "no truth", besides 255
    resize_truth: bool = False  #: a truth of another size is resized to its image, by the nearest pixel
    unknown_colours_are_void: bool = False  #: in a truth in colours, those of no class mean "no truth"
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
class ModelChoice:
    """Which checkpoint is loaded, and how it runs; as StreamingSegmenter takes it."""

    path: Path  #: of the checkpoint
    device: str = "cpu"
    backend: str = "eager"
    input_size: tuple[int, int] | None = None  #: (height, width)
    precision: str = "auto"

    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Model:
    """A segmenter, and its name in the report."""

    segmenter: StreamingSegmenter
    name: str
    sha256: str  #: of the checkpoint's file


@dataclass(frozen=True)
class BagEvaluation:
    """The report for JSON, and the images that only the page shows."""

    report: dict[str, Any]
    pictures: ReportPictures


def evaluate_bag(
    path: str | Path,
    model: Model,
    settings: BagSettings | None = None,
    *,
    on_start: Callable[[int], None] = lambda frames: None,
    watchers: Sequence[Callable[[SegmentedFrame | Unusable], None]] = (),
) -> BagEvaluation:
    """Evaluates a bag. The same bag, model and settings give the same report, except for its "timing".

    `on_start` gets the expected number of images; each of `watchers` gets every frame in turn. Images that cannot be
    used are skipped and listed. Raises BagError if the bag cannot be read or judged, or holds no usable image.
    """
    settings = settings or BagSettings()
    with BagReader(path) as bag:
        camera = bag.camera_topic(settings.camera)
        reader = LabelReader(model.segmenter.label_set.colours, settings.unknown_colours_are_void)
        truth = find_ground_truth(settings.truth, bag, camera, frozenset(settings.void), reader)
        accumulator = EvaluationAccumulator(Scorer(model.segmenter.label_set))
        on_start(_expected_frames(bag, camera, settings))
        source = bag_frames(
            bag,
            camera,
            truth,
            start_s=settings.start_s,
            duration_s=settings.duration_s,
            every=settings.every,
            resize_truth=settings.resize_truth,
        )
        frames = segment_frames(model.segmenter, source, max_gap_s=settings.max_gap_s)
        started = time.perf_counter()
        # Three threads: one reads and decodes, one runs the network, this one scores.
        with closing(prefetch(frames, depth=2)) as ahead:
            for frame in ahead:
                try:
                    accumulator.add(frame)
                except ValueError as error:
                    raise BagError(f"bag '{path}': the {truth.description} cannot judge the labels: {error}") from error
                for watch in watchers:
                    watch(frame)
        wall_s = time.perf_counter() - started
        problems, unusable = accumulator.problems, accumulator.unusable
        if not len(accumulator.scorer.log):
            first = f"; the first: {problems[0]}" if problems else ""
            raise BagError(f"bag '{path}' has no usable image on {camera} ({unusable} unusable{first})")
        if truth.description != "none" and not accumulator.scorer.judged:
            problems.insert(0, f"none of the images has a ground truth in the {truth.description}")
        report = _report(bag, camera, truth, model, settings, accumulator)
        report["timing"] = _timing(accumulator, wall_s)
        return BagEvaluation(report, accumulator.pictures())


def _expected_frames(bag: BagReader, camera: str, settings: BagSettings) -> int:
    """The number of images to evaluate: exact for a whole bag, an estimate for a part of it.

    Raises BagError if `settings.every` leaves only one image, which is no stream.
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
    """The number of evaluated images among the first `images`."""
    return -(-images // every)


def _report(
    bag: BagReader,
    camera: str,
    truth: GroundTruth,
    model: Model,
    settings: BagSettings,
    accumulator: EvaluationAccumulator,
) -> dict[str, Any]:
    scores, log = accumulator.scorer, accumulator.scorer.log
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
            "unusable": accumulator.unusable,
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
        "problems": accumulator.problems,
        "worst": [extreme.number for extreme in accumulator.worst.frames()],
        "best": [extreme.number for extreme in accumulator.best.frames()],
        "frames": log.to_dict(),
    }


def _run_settings(model: Model) -> dict[str, Any]:
    size = model.segmenter.input_size
    return {
        "device": str(model.segmenter.device),
        "backend": model.segmenter.backend,
        "precision": model.segmenter.precision,
        "input_size": None if size is None else list(size),
        "threads": torch.get_num_threads(),  # the order of sums, and so the last digits, depend on it
    }


def _timing(accumulator: EvaluationAccumulator, wall_s: float) -> dict[str, Any]:
    p50, p95, longest = np.percentile(accumulator.elapsed_ms, (50, 95, 100)).tolist()
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_s": round(wall_s, 3),
        "segmenter_s": round(math.fsum(accumulator.elapsed_ms) / 1e3, 3),
        "network_s": round(accumulator.network_s, 3),
        "wall_over_network": round(wall_s / accumulator.network_s, 3),
        "ms_per_frame": {"p50": round(p50, 2), "p95": round(p95, 2), "max": round(longest, 2)},
        "frames_ms": [round(elapsed, 2) for elapsed in accumulator.elapsed_ms],
        "cpus": os.cpu_count(),
    }


def versions() -> dict[str, str]:
    """Versions of this package and of the packages that the numbers depend on."""
    found = {"sdcpc_ros": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "opencv-python-headless", "rosbags"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not known to pip"
    return found
