"""Runs, on films made up by the test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import CAMVID_11


class Film(VideoDataset):
    """An image holds its frame's index."""

    def __init__(self, videos: list[list[float]], max_gap_s: float | None = None) -> None:
        frames = [
            VideoFrame(f"video {i}", stamp, f"{stamp:g}", True) for i, stamps in enumerate(videos) for stamp in stamps
        ]
        super().__init__("film", CAMVID_11, frames, max_gap_s=max_gap_s)

    def image(self, index: int) -> np.ndarray:
        return np.full((2, 3, 3), range(len(self))[index], np.uint8)

    def labels(self, index: int) -> np.ndarray:
        return np.zeros((2, 3), np.uint8)


def at(rate_hz: float, frames: int, start_s: float = 0.0) -> list[float]:
    return [start_s + i / rate_hz for i in range(frames)]


class TestRuns:
    def test_a_step_half_as_long_again_as_the_shortest_starts_one(self) -> None:
        assert Film([[0, 1, 2.4, 3.9, 5.5]]).runs == [range(4), range(4, 5)]

    def test_no_run_reaches_across_videos(self) -> None:
        film = Film([at(15, 3), at(15, 2, start_s=0.2)])
        assert film.runs == [range(3), range(3, 5)]
        assert [film.run_of(index) for index in (0, 2, 3, 4, -1)] == [range(3)] * 2 + [range(3, 5)] * 3

    def test_the_longest_gap_may_be_given(self) -> None:
        assert Film([[0, 0.1, 0.9, 2.0]], max_gap_s=1.0).runs == [range(3), range(3, 4)]

    @pytest.mark.parametrize("stamps", [[0.0, 0.0], [1.0, 0.5]])
    def test_time_does_not_stand_still_or_go_back(self, stamps: list[float]) -> None:
        with pytest.raises(DatasetError, match="of video 'video 0' are not one after the other in time"):
            Film([stamps])

    def test_nothing_at_all(self) -> None:
        film = Film([])
        assert (len(film), film.runs, film.labelled, film.rate_hz) == (0, [], [], None)

    @given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), max_size=4), st.integers(1, 9))
    def test_runs_are_all_frames_in_order_cut_at_long_steps(self, steps: list[list[int]], max_gap: int) -> None:
        film = Film([np.cumsum(video).tolist() for video in steps], max_gap_s=max_gap)
        assert [index for run in film.runs for index in run] == list(range(len(film)))
        for index in range(1, len(film)):
            before, after = film.frames[index - 1 : index + 1]
            together = before.video == after.video and after.stamp_s - before.stamp_s <= max_gap
            assert (film.run_of(index) == film.run_of(index - 1)) == together
