"""Sources of training frames: a split of a data set, and towns of the synthetic street."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from sdcpc_ros.datasets.dataset_kinds import open_dataset
from sdcpc_ros.datasets.dataset_views import DatasetView
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.evaluation.report_file import write_json
from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE
from sdcpc_ros.runtime.progress import tracked
from sdcpc_ros.training.clip_plan import ClipPlanner
from sdcpc_ros.training.clips import ClipBatches, FrameStore
from sdcpc_ros.training.distributed import DistributedContext, all_reduce_sum
from sdcpc_ros.training.recipe import STREET_RATE_HZ, Recipe, RecipeError

#: Pixels of a rare class that are known of each frame.
_PIXELS = 32


def training_split(recipe: Recipe, root: str | os.PathLike[str]) -> VideoDataset:
    """The split that a recipe trains on. Raises DatasetError or RecipeError."""
    dataset = _without(open_dataset(recipe.dataset, Path(root), recipe.split), recipe.leave_out)
    if not dataset.labelled:
        raise RecipeError(f"recipe: {dataset.name} has no labelled frame to train on; choose another split")
    if recipe.uses_street and dataset.label_set.class_names != CAMVID_11.class_names:
        raise RecipeError(
            f"recipe: street_share is above 0, but the street has the classes of {CAMVID_11.name} and {dataset.name} "
            f"those of {dataset.label_set.name}; 0 is needed"
        )
    unknown = sorted(set(recipe.rare_classes) - set(dataset.label_set.class_names))
    if unknown:
        raise RecipeError(
            f"recipe: rare_classes: {dataset.name} has no {', '.join(unknown)}; "
            f"it has {', '.join(dataset.label_set.class_names)}"
        )
    return dataset


def _without(dataset: VideoDataset, videos: Sequence[str]) -> VideoDataset:
    """The frames of the other videos."""
    if not videos:
        return dataset
    there = list(dict.fromkeys(frame.video for frame in dataset.frames))
    unknown = sorted(set(videos) - set(there))
    if unknown:
        raise RecipeError(
            f"recipe: leave_out: {dataset.name} has no video {', '.join(unknown)}; it has {', '.join(there)}"
        )
    kept = [index for index, frame in enumerate(dataset.frames) if frame.video not in videos]
    return DatasetView(dataset, f"{dataset.name} without {', '.join(sorted(videos))}", kept)


def clip_batches(recipe: Recipe, dataset: VideoDataset, device: torch.device) -> ClipBatches:
    """The batches of a run, from a data set and, if the recipe uses it, the street."""
    size = dataset.image(dataset.labelled[0]).shape[:2]
    towns_for = {trains: recipe.towns_for(trains) for trains in ("all", "temporal")}
    seeds = sorted({seed for towns in towns_for.values() for seed in towns})
    films = any(phase.filmed_share > 0 for phase in recipe.phases)
    used = list(range(len(dataset))) if films else dataset.labelled
    drives = render_drives(tuple(seeds), recipe.street_frames, size)
    store = FrameStore(dataset, used, drives, size, device, recipe.workers)
    starts = range(len(dataset), len(dataset) + len(seeds) * recipe.street_frames, recipe.street_frames)
    frames = {seed: range(start, start + recipe.street_frames) for seed, start in zip(seeds, starts)}
    towns = {trains: [frames[seed] for seed in own] for trains, own in towns_for.items()}
    rare = [dataset.label_set.class_names.index(name) for name in recipe.rare_classes]
    planner = ClipPlanner(recipe, dataset, towns, size, _rare_pixels(dataset, rare) if rare else ())
    return ClipBatches(recipe, planner, store, rare)


def _rare_pixels(dataset: VideoDataset, classes: Sequence[int]) -> list[np.ndarray]:
    """For each class, (M, 3) frame, x, y in -1..1: up to _PIXELS of its pixels in each labelled frame."""
    found: list[list[np.ndarray]] = [[] for _ in classes]
    rng = np.random.default_rng(0)
    for index in dataset.labelled:
        labels = dataset.labels(index)
        for pixels, class_id in zip(found, classes):
            y, x = np.nonzero(labels == class_id)
            if len(y):
                some = rng.integers(len(y), size=_PIXELS)
                place = np.stack([x[some] / labels.shape[1], y[some] / labels.shape[0]], 1) * 2 - 1
                pixels.append(np.concatenate([np.full((_PIXELS, 1), index), place], 1))
    return [np.concatenate(pixels) if pixels else np.empty((0, 3)) for pixels in found]


@lru_cache(maxsize=2)  # the runs of an ablation, in one process, use the same towns, of one stage or two
def render_drives(seeds: Sequence[int], frames: int, size: tuple[int, int]) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """For each town of the street images (F, H, W, 3) and labels (F, H, W), uint8; size: (height, width)."""
    render, processes = partial(render_drive, frames=frames, size=size), min(len(seeds), torch.get_num_threads())
    if processes <= 1:
        return [render(seed) for seed in tracked(seeds, "rendering the street")]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(render, seed) for seed in seeds]
        return [future.result() for future in tracked(futures, "rendering the street")]


def render_drive(seed: int, frames: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    street = SyntheticStreet(seed=seed, size=size, length=frames, rate_hz=STREET_RATE_HZ)
    images, labels = zip(*(street[i] for i in range(frames)))
    return np.stack(images), np.stack(labels)


def class_frequencies(dataset: VideoDataset, path: Path, world: DistributedContext) -> np.ndarray:
    """(C,) share of each class among the labelled pixels; counted once, by all ranks together, then kept at `path`."""
    whose = {"dataset": dataset.name, "labelled_frames": len(dataset.labelled)}
    kept = _read_counts(path, whose, len(dataset.label_set))
    world.barrier()  # every rank has read before one writes
    if kept is None:
        counts = torch.zeros(256, dtype=torch.int64, device=world.device)
        for index in tracked(
            dataset.labelled[world.rank :: world.size], "counting classes", disabled=not world.is_main
        ):
            counts += torch.from_numpy(np.bincount(dataset.labels(index).ravel(), minlength=256)).to(world.device)
        kept = all_reduce_sum(counts).cpu().numpy()[: len(dataset.label_set)]
        if world.is_main:
            write_json(path, {**whose, "pixels": kept.tolist()})
    if not kept.sum():
        raise RecipeError(f"recipe: no pixel of {dataset.name} is labelled; class_balance has nothing to go by")
    return kept / kept.sum()


def _read_counts(path: Path, whose: dict[str, object], classes: int) -> np.ndarray | None:
    """Pixels by class, as they were kept for this very data set."""
    try:
        values = json.loads(path.read_text())
        counts = np.array(values.pop("pixels"), np.int64)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return counts if values == whose and counts.shape == (classes,) and classes <= IGNORE else None
