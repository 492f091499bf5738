"""Training samples, each a function of (seed, index) alone.

A sample depends on no state, so a run that is resumed sees exactly what it would have seen, and so do several ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.training.augmentation import augment_clip, disturb, pseudo_clip, sensor_noise
from sdcpc_ros.training.distributed import World
from sdcpc_ros.training.objective import Sample
from sdcpc_ros.training.recipe import Recipe
from sdcpc_ros.training.sources import Town
from sdcpc_ros.training.views import random_motion, second_view

#: Share of the clips whose stream has only just begun.
_YOUNG_SHARE = 0.3


class ClipSamples(Dataset[Sample]):
    """Sample i is clip i of a run, whichever rank works on it: step i // clips_per_step, place i % clips_per_step."""

    def __init__(self, recipe: Recipe, dataset: VideoDataset, towns: Sequence[Town]) -> None:
        self.recipe, self.dataset, self.towns = recipe, dataset, towns
        self._ages = recipe.network_config(len(dataset.label_set)).reference_offsets

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.clips_per_step

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.recipe.seed, index))
        phase = self.recipe.phase_at(index // self.recipe.clips_per_step)
        references = phase.references
        if rng.random() < phase.street_share:
            images, labels = self.towns[int(rng.integers(len(self.towns)))].clip(self._ages[:references], rng)
            present = np.ones(references, bool)
        else:
            images, labels, present = self._from_dataset(references, rng)
        images, labels = augment_clip(
            images, labels, crop_size=self.recipe.crop_size, scale_range=self.recipe.scale_range, rng=rng
        )
        images = [sensor_noise(image, rng) for image in images]
        if rng.random() < phase.disturbed_share:
            images[-1] = disturb(images[-1], rng)
        valid = present & remembered(references, rng)
        clip = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)  # (K + 1, 3, h, w)
        views = torch.from_numpy(labels).long()[None]
        motion = random_motion(rng)
        if self.recipe.views == 2:
            view, view_labels = second_view(clip[-1], views[0], motion, rng)
            clip, views = torch.cat((clip, view[None])), torch.stack((views[0], view_labels))
        return Sample(clip.contiguous(), views, torch.from_numpy(valid), motion)

    def _from_dataset(
        self, references: int, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Images (K + 1), oldest first, the labels of the last, and which of the K there are."""
        index = self.dataset.labelled[int(rng.integers(len(self.dataset.labelled)))]
        if references == 0 or self.recipe.past == "made_up":
            image, labels = self.dataset[index]
            return pseudo_clip(image, self._ages[:references], rng), labels, np.ones(references, bool)
        offsets = self.recipe.reference_offsets[:references]
        if rng.random() < self.recipe.time_reversal:
            offsets = tuple(-offset for offset in offsets)
        clip = self.dataset.clip(index, offsets)
        if self.recipe.missing == "masked" or clip.present.all():
            return clip.images, clip.labels, clip.present
        made_up = pseudo_clip(clip.images[-1], self._ages[:references], rng)
        images = [own if present else other for own, other, present in zip(clip.images, made_up, clip.present)]
        return [*images, clip.images[-1]], clip.labels, np.ones(references, bool)


def remembered(references: int, rng: np.random.Generator) -> np.ndarray:
    """(K,) bool, which references of a clip, oldest first, a stream still has: some streams have only just begun.

    What a node publishes after a reset must be as good as it can be, so a share of the clips lacks its oldest
    references, or all of them.
    """
    young = rng.random() < _YOUNG_SHARE
    count = int(rng.integers(references)) if young and references else references
    return np.arange(references) >= references - count


class StepSampler(Sampler[int]):
    """The samples of a rank in order, from a step on."""

    def __init__(self, recipe: Recipe, world: World, step: int) -> None:
        """Raises RecipeError when the clips of a step cannot be shared equally."""
        self._clips, self._own = recipe.clips_per_step, world.share_of(recipe.clips_per_step)
        self._first, self._steps = world.rank * self._own, range(step, recipe.steps)

    def __iter__(self) -> Iterator[int]:
        for step in self._steps:
            first = step * self._clips + self._first
            yield from range(first, first + self._own)

    def __len__(self) -> int:
        return len(self._steps) * self._own
