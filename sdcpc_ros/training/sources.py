"""Where training frames come from: a split of a data set, and towns of the synthetic street."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from sdcpc_ros.dataset_kinds import open_dataset
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.label_set import CAMVID_11, IGNORE
from sdcpc_ros.network.ranks import summed
from sdcpc_ros.training.distributed import World
from sdcpc_ros.training.progress import tracked
from sdcpc_ros.training.recipe import Recipe, RecipeError

#: Seeds of the towns for training start here; lower ones are for the demo and the tests, never trained on.
STREET_SEED = 1000
#: A data set whose decoded frames need no more than this is kept in memory, bytes.
_MEMORY = 1 << 30


class InMemory(VideoDataset):
    """A data set, decoded once."""

    def __init__(self, dataset: VideoDataset, indices: list[int], what: str) -> None:
        """indices: the frames that will be asked for."""
        super().__init__(dataset.name, dataset.label_set, dataset.frames)
        self.runs, self._run_starts = dataset.runs, np.array([run.start for run in dataset.runs])
        self._dataset = dataset
        self._images: dict[int, np.ndarray] = {}
        self._labels: dict[int, np.ndarray] = {}
        for index in tracked(indices, what):
            if dataset.frames[index].labelled:
                self._images[index], self._labels[index] = dataset[index]
            else:
                self._images[index] = dataset.image(index)

    def image(self, index: int) -> np.ndarray:
        return self._images[index] if index in self._images else self._dataset.image(index)

    def labels(self, index: int) -> np.ndarray:
        return self._labels[index] if index in self._labels else self._dataset.labels(index)

    def sources(self, index: int) -> tuple[str, str]:
        return self._dataset.sources(index)


def training_split(recipe: Recipe, root: str | os.PathLike[str]) -> VideoDataset:
    """The split that a recipe trains on, in memory if it is small. Raises DatasetError or RecipeError."""
    dataset = open_dataset(recipe.dataset, Path(root), recipe.split)
    if not dataset.labelled:
        raise RecipeError(f"recipe: {dataset.name} has no labelled frame to train on; choose another split")
    if recipe.uses_street and dataset.label_set.class_names != CAMVID_11.class_names:
        raise RecipeError(
            f"recipe: street_share is above 0, but the street has the classes of {CAMVID_11.name} and {dataset.name} "
            f"those of {dataset.label_set.name}; 0 is needed"
        )
    used = dataset.labelled if recipe.past == "made_up" else list(range(len(dataset)))
    frame_bytes = 4 * dataset.labels(dataset.labelled[0]).size  # three channels and the labels
    return InMemory(dataset, used, f"reading {dataset.name}") if len(used) * frame_bytes <= _MEMORY else dataset


class Town:
    """A drive through one town of the synthetic street, rendered."""

    def __init__(self, seed: int, frames: int, size: tuple[int, int]) -> None:
        street = SyntheticStreet(seed=seed, size=size, length=frames)
        images, labels = zip(*(street.image_and_labels(i) for i in range(len(street))))
        self.images, self.labels = np.stack(images), np.stack(labels)  # (F, H, W, 3), (F, H, W) uint8

    def clip(self, ages: Sequence[int], rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
        """Images, oldest first, and the labels of the last; the earlier ones are `ages` frames back, or twice that."""
        speed = int(rng.integers(1, 3))  # as if driven twice as fast
        oldest = speed * max(ages, default=0)
        last = int(rng.integers(min(oldest, len(self.images) - 1), len(self.images)))
        past = [max(0, last - speed * age) for age in reversed(ages)]
        return [self.images[i] for i in (*past, last)], self.labels[last]


def render_towns(recipe: Recipe) -> Sequence[Town]:
    """The towns that a recipe trains on; none if it uses no street."""
    return _rendered(recipe.street_towns, recipe.street_frames, recipe.input_size) if recipe.uses_street else ()


@lru_cache(maxsize=1)  # several runs in one process, as of an ablation, drive through the same towns
def _rendered(towns: int, frames: int, size: tuple[int, int]) -> Sequence[Town]:
    seeds = range(STREET_SEED, STREET_SEED + towns)
    return tuple(Town(seed, frames, size) for seed in tracked(seeds, "rendering the street"))


def class_frequencies(dataset: VideoDataset, path: Path, world: World) -> np.ndarray:
    """(C,) share of each class among the labelled pixels; counted once, by all ranks together, then kept at `path`."""
    whose = {"dataset": dataset.name, "labelled_frames": len(dataset.labelled)}
    kept = _read_counts(path, whose, len(dataset.label_set))
    world.wait()  # nobody writes while another has not read
    if kept is None:
        counts = torch.zeros(256, dtype=torch.int64, device=world.device)
        for index in tracked(dataset.labelled[world.rank :: world.size], "counting classes", silent=not world.leads):
            counts += torch.from_numpy(np.bincount(dataset.labels(index).ravel(), minlength=256)).to(world.device)
        kept = summed(counts).cpu().numpy()[: len(dataset.label_set)]
        if world.leads:
            temporary = path.with_name(f".{path.name}")
            temporary.write_text(json.dumps({**whose, "pixels": kept.tolist()}) + "\n")
            temporary.replace(path)
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
