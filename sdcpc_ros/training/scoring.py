"""Scores a network on the validation split: while it is trained, and afterwards in temporal tests."""

from __future__ import annotations

import math
import os
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sdcpc_ros.datasets.dataset_kinds import open_dataset
from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset
from sdcpc_ros.evaluation.evaluate import Evaluation, evaluate, labelled_clips
from sdcpc_ros.evaluation.report_file import write_json
from sdcpc_ros.evaluation.temporal_tests import TemporalTest, TestResult, run_temporal_tests, temporal_tests
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.model_files.checkpoint import Checkpoint, load_checkpoint
from sdcpc_ros.streaming.segmenter import StreamingSegmenter
from sdcpc_ros.training.recipe import Recipe, RecipeError, ValidationSettings
from sdcpc_ros.training.sources import training_split

#: Scores in the validation log, as a stream, and of the same weights on single frames.
_STREAMING, _SINGLE = ("miou", "weighted_iou", "mvc8", "mvc16"), ("miou", "mvc8", "mvc16")
#: The file in a run's folder.
SCORES = "scores.json"
#: Arguments of `temporal_tests`: every n-th frame, a cut every n frames, a turn by this share of the width a frame.
TESTS = (*(("every", n) for n in (1, 2, 3, 5, 8, 15)), ("cuts", 5), ("turns", 0.05), ("turns", 0.2))


def validation_video(recipe: Recipe, root: str | os.PathLike[str], label_set: LabelSet) -> VideoDataset | None:
    """The data set for validation, or None without one. Raises DatasetError, or RecipeError for another label set."""
    if recipe.validation is None:
        return None
    return _validation_split(recipe, root, label_set)


def validate(checkpoint: Checkpoint, video: VideoDataset, device: str) -> Evaluation:
    """Scores of a checkpoint, with a progress bar where there is a terminal."""
    with _opened(checkpoint, device) as segmenter:
        return evaluate(segmenter, video)


def validation_row(evaluation: Evaluation) -> dict[str, str]:
    """Scores by their column of the validation log, in percent."""
    shares = {name: getattr(evaluation.streaming, name) for name in _STREAMING}
    shares |= {f"single_{name}": getattr(evaluation.single_frame, name) for name in _SINGLE}
    return {name: f"{100 * share:.3f}" for name, share in shares.items()}


def _opened(checkpoint: Checkpoint, device: str) -> closing[StreamingSegmenter]:
    return closing(StreamingSegmenter(checkpoint, device=device, backend="eager", max_gap_s=math.inf))


def _validation_split(recipe: Recipe, root: str | os.PathLike[str], label_set: LabelSet) -> VideoDataset:
    """By default "val". Raises DatasetError, also if it has no labels, or RecipeError if it has other classes."""
    settings = recipe.validation or ValidationSettings
    dataset = open_dataset(recipe.dataset, Path(root), settings.split)
    if dataset.label_set.class_names != label_set.class_names:
        raise RecipeError(
            f"recipe: validation: {dataset.name} has the classes of {dataset.label_set.name}, the training those of "
            f"{label_set.name}"
        )
    labelled_clips(dataset)  # raises where nothing is labelled
    return dataset


class Scoring(NamedTuple):
    """The tests of a finished run."""

    dataset: str  #: name of the split
    tests: list[TemporalTest]
    skipped: list[str]  #: for each test that the data do not allow, a sentence that says why


def scoring(recipe: Recipe, root: str | os.PathLike[str]) -> Scoring:
    """The tests of a recipe's validation split ("val" where it names none), and each left-out video by itself.

    No image is read, so it can be called before the training. Raises DatasetError or RecipeError.
    """
    dataset = _validation_split(recipe, root, training_split(recipe, root).label_set)
    tests: list[TemporalTest] = []
    skipped: list[str] = []
    for kind, value in TESTS:
        try:
            tests += temporal_tests(dataset, **{kind: (value,)})  # type: ignore[arg-type]
        except DatasetError as error:
            skipped.append(str(error))
    if recipe.leave_out:
        whole = open_dataset(recipe.dataset, Path(root), recipe.split)
        tests += [test for test in temporal_tests(whole, each_video=True) if test.value in recipe.leave_out]
    return Scoring(dataset.name, tests, skipped)


def score(model: Path, what: Scoring, device: str) -> list[TestResult]:
    """Score the checkpoint of a run, and write the scores beside it, into scores.json.

    device: "cpu", "cuda", or "auto": a GPU if there is one. Raises CheckpointError, DatasetError or OSError.
    """
    with _opened(load_checkpoint(model), device) as segmenter:
        results = run_temporal_tests(segmenter, what.tests)
    values: dict[str, Any] = {
        "model": model.stem,
        "device": str(segmenter.device),
        "backend": segmenter.backend,
        "model_size": list(segmenter.model_size),
        "dataset": what.dataset,
        "tests": [result.to_dict() for result in results],
        "skipped": what.skipped,
    }
    write_json(model.with_name(SCORES), values, indent=2)
    return results
