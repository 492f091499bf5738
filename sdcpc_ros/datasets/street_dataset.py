"""The synthetic street as a data set: drives down streets that seeds make up, every frame labelled, with exact flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.datasets.video_dataset import VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import CAMVID_11


class StreetDataset(VideoDataset):
    """One video a seed. Frames are drawn on request; changing from one street to another costs a second.

    Raises ValueError for what SyntheticStreet refuses, a seed that comes twice, or none.
    """

    def __init__(
        self, seeds: Sequence[int], *, length: int, size: tuple[int, int] = (360, 480), rate_hz: float = 15.0
    ) -> None:
        """length: frames of each street; size: (height, width), px."""
        self.seeds = list(seeds)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are {self.seeds}; one or more are needed, each once")
        self._how: dict[str, Any] = {"length": length, "size": size, "rate_hz": rate_hz}
        self._newest = SyntheticStreet(seed=self.seeds[0], **self._how)
        self._places = [(seed, i) for seed in self.seeds for i in range(length)]
        frames = [
            VideoFrame(f"street {seed}", i / rate_hz, f"street {seed}, frame {i}", True) for seed, i in self._places
        ]
        listed = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {', '.join(map(str, self.seeds))}"
        super().__init__(f"synthetic street, {listed}", CAMVID_11, frames)

    def image(self, index: int) -> np.ndarray:
        street, i = self._at(index)
        return street.image(i)

    def labels(self, index: int) -> np.ndarray:
        street, i = self._at(index)
        return street.labels(i)

    def sources(self, index: int) -> tuple[str, str]:
        return self.frames[index].name, f"the labels of {self.frames[index].name}"

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        if index == self.run_of(index)[-1]:
            return None
        street, i = self._at(index)
        return street.flow(i)

    def _at(self, index: int) -> tuple[SyntheticStreet, int]:
        seed, i = self._places[index]
        if self._newest.seed != seed:
            self._newest = SyntheticStreet(seed=seed, **self._how)
        return self._newest, i
