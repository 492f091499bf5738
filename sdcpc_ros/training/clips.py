"""Training samples: clips drawn from CamVid and the synthetic street, each a function of (seed, position) alone.

A sample depends on no state, so a run that is resumed sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from sdcpc_ros.datasets.camvid import CamVid
from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.label_set import IGNORE, LabelSet
from sdcpc_ros.training.augmentation import augment_clip, disturb, pseudo_clip, sensor_noise
from sdcpc_ros.training.recipe import Recipe

#: Seeds of the towns for training start here; lower ones are for the demo and the tests, never trained on.
STREET_SEED = 1000


class ClipSamples(Dataset[tuple[Tensor, Tensor]]):
    """Sample i is a clip (K + 1, 3, h, w) uint8 and the labels (h, w) int64 of its last frame.

    CamVid's train frames are seconds apart, so their past is made up (`pseudo_clip`); the street's is rendered.
    """

    def __init__(self, recipe: Recipe, camvid: CamVid) -> None:
        self.recipe = recipe
        self.camvid = [camvid[i] for i in track(range(len(camvid)), "reading CamVid")]
        self.towns: list[tuple[np.ndarray, np.ndarray]] = []
        if any(phase.street_share > 0 for phase in recipe.phases):
            self.towns = [
                _render(STREET_SEED + town, recipe.street_frames, recipe.input_size)
                for town in track(range(recipe.street_towns), "rendering the street")
            ]

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.clips_per_step

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.recipe.seed, index))
        phase = self.recipe.phase_at(index // self.recipe.clips_per_step)
        source = self._street if rng.random() < phase.street_share else self._camvid
        images, labels = source(phase.references, rng)
        images, labels = augment_clip(
            images, labels, crop_size=self.recipe.crop_size, scale_range=self.recipe.scale_range, rng=rng
        )
        images = [sensor_noise(image, rng) for image in images]
        if rng.random() < phase.disturbed_share:
            images[-1] = disturb(images[-1], rng)
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(labels).long()

    def _camvid(self, references: int, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
        image, labels = self.camvid[int(rng.integers(len(self.camvid)))]
        return pseudo_clip(image, references, rng), labels

    def _street(self, references: int, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
        images, labels = self.towns[int(rng.integers(len(self.towns)))]
        step = int(rng.integers(1, 4))  # 3 frames apart is the deployed spacing; nearer ones stand for a slower drive
        last = int(rng.integers(min(step * references, len(images) - 1), len(images)))
        past = [max(0, last - step * age) for age in range(references, 0, -1)]
        return [images[i] for i in (*past, last)], labels[last]

    def class_frequencies(self, label_set: LabelSet) -> np.ndarray:
        """(C,) share of each class among CamVid's labelled pixels."""
        counts = np.zeros(256, np.int64)
        for _, labels in self.camvid:
            counts += np.bincount(labels.ravel(), minlength=256)
        counts[IGNORE] = 0
        return counts[: len(label_set)] / counts.sum()


class FromStep(Sampler[int]):
    """All samples in order, from a step on."""

    def __init__(self, samples: ClipSamples, step: int) -> None:
        self.indices = range(step * samples.recipe.clips_per_step, len(samples))

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def _render(seed: int, frames: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    street = SyntheticStreet(seed=seed, size=size, length=frames)
    images, labels = zip(*(street.image_and_labels(i) for i in range(len(street))))
    return np.stack(images), np.stack(labels)
