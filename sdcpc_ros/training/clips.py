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
from sdcpc_ros.training.clip_plan import NOISE_STARTS, ClipPlan, ClipPlanner
from sdcpc_ros.training.losses import Sample
from sdcpc_ros.training.recipe import Recipe

#: Frames that need no more than this are kept on the device, bytes.
RESIDENT_BYTES = 4 << 30


class ClipBatches:
    """The clips of a run, in batches."""

    def __init__(self, recipe: Recipe, planner: ClipPlanner, store: FrameStore, rare_classes: Sequence[int]) -> None:
        self.recipe, self.planner, self.store = recipe, planner, store
        self._rare = torch.tensor(list(rare_classes), dtype=torch.uint8, device=store.device)
        # Drawn once, since that takes a fifth of a clip's time; and on the CPU, since devices draw differently.
        numbers = NOISE_STARTS + 3 * recipe.crop_size[0] * recipe.crop_size[1]
        self._noise = torch.randn(numbers, generator=torch.Generator().manual_seed(recipe.seed)).to(store.device)

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
            clips = images.unflatten(0, plans.frames.shape)  # of the same memory, which `read` has copied
            for row, place in enumerate(pasted):
                # Only into views of the labelled frame, so that pasted objects move with it.
                same = np.flatnonzero(plans.frames[place] == plans.frames[place, -1]).tolist()
                clips[place, same] = torch.where(mask[row], other[row], clips[place, same])
                labels[place] = torch.where(mask[row], other_labels[row], labels[place])
        return images, labels

    def _appearance(self, clip: Tensor, plans: ClipPlan) -> Tensor:
        """Frames (B * F, 3, h, w) with the light, sensor, coding, weather and damage of their plans."""
        count, views = plans.frames.shape[1], self.recipe.views
        colour = self._tensor(plans.colour).flatten(0, 1)
        gamma, contrast, brightness, saturation = colour[:, :4].unbind(1)
        clip = augmentation.colour(clip, gamma, contrast, brightness, saturation, colour[:, 4:])
        shadows, hazes = np.repeat(plans.shadow, count, 0), np.repeat(plans.haze, count, 0)
        clip = self._where(clip, shadows[:, 3], augmentation.shadow, shadows[:, :3], shadows[:, 3])
        clip = self._where(clip, hazes[:, 0], augmentation.haze, hazes[:, 0], hazes[:, 1])
        blurs, qualities = plans.blur.ravel(), plans.jpeg.ravel()
        clip = self._where(clip, blurs, augmentation.blur, blurs)
        noise = torch.stack([self._noise[start:][: clip[0].numel()] for start in plans.noise.ravel().tolist()])
        noise = noise.view(clip.shape)
        clip = clip.addcmul_(noise, self._tensor(plans.grain).view(-1, 1, 1, 1)).clamp_(0, 255)
        clip = self._where(clip, qualities, augmentation.jpeg, qualities)
        for place in np.flatnonzero((plans.boxes[..., 2] > plans.boxes[..., 0]).any(1)).tolist():
            newest = slice((place + 1) * count - views, (place + 1) * count)
            boxes, kinds = (self._tensor(part[[place] * views]) for part in (plans.boxes, plans.kinds))
            clip[newest] = augmentation.damage(clip[newest], boxes, kinds.long(), noise[newest])
        return clip.round_()

    def _where(self, clip: Tensor, chosen: np.ndarray, change: Callable[..., Tensor], *values: np.ndarray) -> Tensor:
        """`change(images, *values)` of those images whose `chosen` is not 0."""
        places = np.flatnonzero(chosen)
        if len(places):
            at = torch.from_numpy(places).to(clip.device)
            clip[at] = change(clip[at], *(self._tensor(of_all[places]) for of_all in values))
        return clip

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
        self.device, self.size = device, size
        self._dataset = dataset
        # Each thread has its own copy, since a data set may hold open files, as of bags.
        self._threads = threading.local()
        self._pool = ThreadPoolExecutor(max(1, workers))
        street = [pair for images, labels in towns for pair in zip(images, labels)]
        self._resident = {number: self._on_device(*pair) for number, pair in enumerate(street, len(dataset))}
        if (len(used) + len(street)) * 4 * size[0] * size[1] <= resident_bytes:
            for frame in tracked(used, f"reading {dataset.name}"):
                self._resident[frame] = self._decoded(dataset, frame)

    def read(self, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Copies of images (N, 3, H, W) and labels (N, H, W), uint8 on the device; IGNORE where a frame has none."""
        missing = sorted(set(frames) - self._resident.keys())
        found = self._resident | dict(zip(missing, self._pool.map(self._decoded_in_thread, missing)))
        images, labels = zip(*(found[frame] for frame in frames))
        return torch.stack(images), torch.stack(labels)

    def _decoded_in_thread(self, frame: int) -> tuple[Tensor, Tensor]:
        if not hasattr(self._threads, "dataset"):
            self._threads.dataset = copy.deepcopy(self._dataset)
        return self._decoded(self._threads.dataset, frame)

    def _decoded(self, dataset: VideoDataset, frame: int) -> tuple[Tensor, Tensor]:
        if dataset.frames[frame].labelled:
            image, labels = dataset[frame]
        else:
            image = dataset.image(frame)
            labels = np.full(image.shape[:2], IGNORE, np.uint8)
        if image.shape[:2] != self.size:
            image = cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_AREA)
            labels = cv2.resize(labels, self.size[::-1], interpolation=cv2.INTER_NEAREST)
        return self._on_device(image, labels)

    def _on_device(self, image: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Copies of an image (H, W, 3), as (3, H, W), and of its labels (H, W)."""
        copies = np.array(image.transpose(2, 0, 1), order="C"), np.array(labels, order="C")
        return torch.from_numpy(copies[0]).to(self.device), torch.from_numpy(copies[1]).to(self.device)
