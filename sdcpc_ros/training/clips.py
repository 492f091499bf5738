"""Training batches, made on the training device. Clip i is a function of (seed, i) alone.

A batch depends on no state, so a run that is resumed sees exactly what it would have seen, and so do several ranks.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.datasets.video_dataset import VideoDataset
from sdcpc_ros.labels.label_set import IGNORE
from sdcpc_ros.runtime.progress import tracked
from sdcpc_ros.training import augmentation
from sdcpc_ros.training.clip_plan import ClipPlan, ClipPlanner
from sdcpc_ros.training.losses import Sample
from sdcpc_ros.training.recipe import Recipe

#: Frames that need no more than this are kept on the device, bytes.
RESIDENT_BYTES = 4 << 30


class ClipBatches:
    """The clips of a run, in batches."""

    def __init__(self, recipe: Recipe, planner: ClipPlanner, store: FrameStore, rare_classes: Sequence[int]) -> None:
        self.recipe, self.planner, self.store = recipe, planner, store
        self._rare = torch.tensor(list(rare_classes), dtype=torch.uint8, device=store.device)

    def batch(self, indices: Sequence[int]) -> Sample:
        """The clips of these indices, all of one phase."""
        plans = ClipPlan(*map(np.stack, zip(*map(self.planner.plan, indices))))  # with a batch axis in front
        count, size, views = plans.frames.shape[1], self.recipe.crop_size, self.recipe.views
        images, labels = self._sources(plans)
        matrices = self._tensor(plans.matrices)  # (B, F, 2, 3)
        clip = augmentation.warp(images, matrices.flatten(0, 1), size)
        newest = labels[:, None].expand(-1, views, -1, -1).flatten(0, 1)
        targets = augmentation.warp_labels(newest, matrices[:, -views:].flatten(0, 1), size)
        clip = self._appearance(clip, plans)
        age_s, motion = self._tensor(plans.age_s), self._tensor(plans.motion)
        cut = torch.from_numpy(plans.cut).to(self.store.device)
        return Sample(clip.unflatten(0, (-1, count)), targets.unflatten(0, (-1, views)), age_s, motion, cut)

    def _sources(self, plans: ClipPlan) -> tuple[Tensor, Tensor]:
        """The frames of each clip, (B * F, 3, H, W) uint8, and the labels of the newest, (B, H, W) uint8."""
        images, labels = self.store.read(plans.frames.ravel().tolist())
        labels = labels[plans.frames.shape[1] - 1 :: plans.frames.shape[1]]
        pasted = np.flatnonzero(plans.paste >= 0).tolist()
        if pasted:
            other, other_labels = self.store.read(plans.paste[pasted].tolist())
            mask = torch.isin(other_labels, self._rare)
            images, labels = images.unflatten(0, plans.frames.shape).clone(), labels.clone()
            for row, place in enumerate(pasted):
                # Only into views of the labelled frame, so that pasted objects move with it.
                same = np.flatnonzero(plans.frames[place] == plans.frames[place, -1]).tolist()
                images[place, same] = torch.where(mask[row], other[row], images[place, same])
                labels[place] = torch.where(mask[row], other_labels[row], labels[place])
            images = images.flatten(0, 1)
        return images, labels

    def _appearance(self, clip: Tensor, plans: ClipPlan) -> Tensor:
        """Frames (B * F, 3, h, w) with the light, sensor, coding, weather and damage of their plans."""
        count, views = plans.frames.shape[1], self.recipe.views
        colour = self._tensor(plans.colour).flatten(0, 1)
        gamma, contrast, brightness, saturation = colour[:, :4].unbind(1)
        clip = augmentation.colour(clip, gamma, contrast, brightness, saturation, colour[:, 4:])
        shadows, hazes = np.repeat(plans.shadow, count, 0), np.repeat(plans.haze, count, 0)
        clip = self._where(clip, shadows[:, 3], lambda x, at: augmentation.shadow(x, at[:, :3], at[:, 3]), shadows)
        clip = self._where(clip, hazes[:, 0], lambda x, at: augmentation.haze(x, at[:, 0], at[:, 1]), hazes)
        blurs, qualities = plans.blur.ravel(), plans.jpeg.ravel()
        clip = self._where(clip, blurs, augmentation.blur, blurs)
        noise = torch.cat([self._noise(seed, clip.shape[1:], count) for seed in plans.seed.tolist()])
        clip = (clip + noise * self._tensor(plans.grain).view(-1, 1, 1, 1)).clamp(0, 255)
        clip = self._where(clip, qualities, augmentation.jpeg, qualities)
        for place in np.flatnonzero((plans.boxes[..., 2] > plans.boxes[..., 0]).any(1)).tolist():
            newest = slice((place + 1) * count - views, (place + 1) * count)
            boxes, kinds = (part[[place] * views] for part in (plans.boxes, plans.kinds))
            clip[newest] = augmentation.damage(
                clip[newest], self._tensor(boxes), self._tensor(kinds).long(), noise[newest]
            )
        return clip.round()

    def _where(
        self, clip: Tensor, chosen: np.ndarray, change: Callable[[Tensor, Tensor], Tensor], values: np.ndarray
    ) -> Tensor:
        """`change(images, values)` of those images whose `chosen` is not 0."""
        places = np.flatnonzero(chosen)
        if len(places):
            at = torch.from_numpy(places).to(clip.device)
            clip[at] = change(clip[at], self._tensor(values[places]))
        return clip

    def _noise(self, seed: int, shape: Sequence[int], count: int) -> Tensor:
        generator = torch.Generator(self.store.device).manual_seed(seed)
        return torch.randn((count, *shape), generator=generator, device=self.store.device)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.store.device, non_blocking=True)


class FrameStore:
    """Images and labels by number: the frames of a data set, then those of the towns, all of one size.

    They are decoded once and stay on the device if they fit; else `workers` threads decode them on request. A frame of
    another size is resized. Raises DatasetError for a frame that cannot be read.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        used: Sequence[int],
        towns: Sequence[tuple[np.ndarray, np.ndarray]],
        size: tuple[int, int],
        device: torch.device,
        workers: int,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        """used: the frames of the data set that training reads. towns: each one's images (F, H, W, 3) and labels
        (F, H, W), uint8. size: (height, width), px, also of the towns.

        resident_bytes: the device memory that frames may take; towns are always on the device.
        """
        self.device = device
        self.size = size
        self._dataset = dataset
        # Each thread has its own copy, since a data set may hold open files, as of bags.
        self._threads = threading.local()
        self._pool = ThreadPoolExecutor(max(1, workers))
        street = [(image, labels) for town in towns for image, labels in zip(*town)]
        fits = (len(used) + len(street)) * 4 * size[0] * size[1] <= resident_bytes
        held = list(used) if fits else []
        own = [_decoded(dataset, frame, size) for frame in tracked(held, f"reading {dataset.name}")]
        self._images, self._labels = self._stacked([*own, *street])
        numbers = [*held, *range(len(dataset), len(dataset) + len(street))]
        self._place = {number: place for place, number in enumerate(numbers)}

    def read(self, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) and labels (N, H, W), uint8 on the device; IGNORE all over where a frame has none."""
        if all(frame in self._place for frame in frames):
            places = torch.tensor([self._place[frame] for frame in frames], device=self.device)
            return self._images[places], self._labels[places]
        missing = sorted({frame for frame in frames if frame not in self._place})
        images, labels = self._stacked(list(self._pool.map(self._decode_in_thread, missing)))
        pairs = dict(zip(missing, zip(images, labels)))
        for frame in set(frames) - set(missing):
            pairs[frame] = self._images[self._place[frame]], self._labels[self._place[frame]]
        return torch.stack([pairs[frame][0] for frame in frames]), torch.stack([pairs[frame][1] for frame in frames])

    def _stacked(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Images and labels on the device; empty ones without pairs."""
        if not pairs:
            return torch.empty(0, device=self.device), torch.empty(0, device=self.device)
        images, labels = (torch.from_numpy(np.stack(part)).to(self.device) for part in zip(*pairs))
        return images.permute(0, 3, 1, 2).contiguous(), labels

    def _decode_in_thread(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(self._threads, "dataset"):
            self._threads.dataset = copy.deepcopy(self._dataset)
        return _decoded(self._threads.dataset, frame, self.size)


def _decoded(dataset: VideoDataset, frame: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) and labels (H, W) of a frame, uint8, at `size`. Raises DatasetError."""
    if dataset.frames[frame].labelled:
        image, labels = dataset[frame]
    else:
        image = dataset.image(frame)
        labels = np.full(image.shape[:2], IGNORE, np.uint8)
    if image.shape[:2] != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
    return image, labels
