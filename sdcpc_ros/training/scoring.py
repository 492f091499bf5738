"""Scoring a trained network in the tests of a temporal path (`evaluation.temporal_tests`): rates, cuts and turns."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from sdcpc_ros.datasets.dataset_kinds import open_dataset
from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.evaluation.labelled_video import labelled_video
from sdcpc_ros.evaluation.temporal_tests import TemporalTest, TestResult, run_temporal_tests, temporal_tests
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.runtime.progress import ProgressBar
from sdcpc_ros.streaming.segmenter import StreamingSegmenter
from sdcpc_ros.training.recipe import Recipe, ValidationSettings
from sdcpc_ros.training.sources import training_split
from sdcpc_ros.training.validation import check_label_sets

#: The file in a run's folder.
SCORES = "scores.json"
#: What is tested, as `temporal_tests` takes it: every n-th frame, a cut every n frames, a turn by this share of the
#: width a frame.
TESTS: dict[str, tuple[float, ...]] = {"every": (1, 2, 3, 5, 8, 15), "cuts": (5,), "turns": (0.05, 0.2)}


class Scoring(NamedTuple):
    """What a run will be scored in."""

    dataset: str  #: name of the split
    tests: list[TemporalTest]
    skipped: list[str]  #: for each test that the data do not allow, a sentence that says why


def scoring(recipe: Recipe, root: str | os.PathLike[str]) -> Scoring:
    """The tests of a recipe's validation split ("val" where it names none), and each left-out video by itself.

    No image is read, so that it can be asked for before the training. Raises DatasetError or RecipeError.
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
    segmenter = StreamingSegmenter(load_checkpoint(model), device=device or "auto", backend="eager")
    try:
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
    finally:
        segmenter.close()
    temporary = model.with_name(f".{SCORES}")
    temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
    temporary.replace(model.with_name(SCORES))
    return results
