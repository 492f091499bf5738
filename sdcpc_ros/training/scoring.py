"""Scores a network on the validation split: while it is trained, and afterwards in temporal tests."""

from __future__ import annotations

import math
import os
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sdcpc_ros.datasets.dataset_kinds import open_dataset
from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.evaluation.evaluate import Evaluation, LabelledVideo, evaluate, labelled_video
from sdcpc_ros.evaluation.report_file import write_json
from sdcpc_ros.evaluation.temporal_tests import TemporalTest, TestResult, run_temporal_tests, temporal_tests
from sdcpc_ros.labels.label_set import LabelSet
from sdcpc_ros.model_files.checkpoint import Checkpoint, load_checkpoint
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.streaming.segmenter import StreamingSegmenter
from sdcpc_ros.training.recipe import Recipe, RecipeError, ValidationSettings
from sdcpc_ros.training.sources import training_split

#: Columns of the validation log: shares in percent, streaming, then the same weights on single frames.
VALIDATION_COLUMNS = ("miou", "weighted_iou", "mvc8", "mvc16", "single_miou", "single_mvc8", "single_mvc16")
#: The file in a run's folder.
SCORES = "scores.json"
#: Arguments of `temporal_tests`: every n-th frame, a cut every n frames, a turn by this share of the width a frame.
TESTS: dict[str, tuple[float, ...]] = {"every": (1, 2, 3, 5, 8, 15), "cuts": (5,), "turns": (0.05, 0.2)}


def validation_video(recipe: Recipe, root: str | os.PathLike[str]) -> LabelledVideo | None:
    """The clips for validation, or None without one. Raises DatasetError or RecipeError."""
    settings = recipe.validation
    if settings is None:
        return None
    return labelled_video(open_dataset(recipe.dataset, Path(root), settings.split), clips=settings.clips)


def validate(checkpoint: Checkpoint, video: LabelledVideo, device: str) -> Evaluation:
    """Scores of a checkpoint, with a progress bar where there is a terminal."""
    segmenter = StreamingSegmenter(checkpoint, device=device, backend="eager", max_gap_s=math.inf)
    with closing(segmenter):
        return evaluate(segmenter, video, progress=ProgressBar)


def validation_row(evaluation: Evaluation) -> list[str]:
    """The values of VALIDATION_COLUMNS."""
    streaming, single = evaluation.streaming, evaluation.single_frame
    shares = (streaming.miou, streaming.weighted_iou, streaming.mvc8, streaming.mvc16)
    return [f"{100 * share:.3f}" for share in (*shares, single.miou, single.mvc8, single.mvc16)]


def check_label_sets(theirs: LabelSet, ours: LabelSet, video: str) -> None:
    """Raises RecipeError if the validation video and the training data have different classes."""
    if theirs.class_names != ours.class_names:
        raise RecipeError(
            f"recipe: validation: {video} has the classes of {theirs.name}, the training those of {ours.name}"
        )


class Scoring(NamedTuple):
    """The tests of a finished run."""

    dataset: str  #: name of the split
    tests: list[TemporalTest]
    skipped: list[str]  #: for each test that the data do not allow, a sentence that says why


def scoring(recipe: Recipe, root: str | os.PathLike[str]) -> Scoring:
    """The tests of a recipe's validation split ("val" where it names none), and each left-out video by itself.

    No image is read, so it can be called before the training. Raises DatasetError or RecipeError.
    """
    split = recipe.validation.split if recipe.validation is not None else ValidationSettings.split
    dataset = open_dataset(recipe.dataset, Path(root), split)
    check_label_sets(dataset.label_set, training_split(recipe, root).label_set, dataset.name)
    labelled_video(dataset)  # raises where nothing is labelled
    tests: list[TemporalTest] = []
    skipped: list[str] = []
    for kind, value in [(kind, value) for kind, values in TESTS.items() for value in values]:
        try:
            tests += temporal_tests(dataset, **{kind: (value,)})  # type: ignore[arg-type]
        except DatasetError as error:
            skipped.append(str(error))
    if recipe.leave_out:
        whole = open_dataset(recipe.dataset, Path(root), recipe.split)
        tests += [test for test in temporal_tests(whole, each_video=True) if test.value in recipe.leave_out]
    return Scoring(dataset.name, tests, skipped)


def score(model: Path, what: Scoring, device: str | None = None) -> list[TestResult]:
    """Score the checkpoint of a run, and write the scores beside it, into scores.json.

    device: "cpu" or "cuda"; without, a GPU where there is one. Raises CheckpointError, DatasetError or OSError.
    """
    segmenter = StreamingSegmenter(load_checkpoint(model), device=device or "auto", backend="eager", max_gap_s=math.inf)
    with closing(segmenter):
        results = run_temporal_tests(segmenter, what.tests, progress=ProgressBar)
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
