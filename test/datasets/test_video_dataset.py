"""Runs, references and clips, on films made up by the test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.datasets.video_dataset import (
    OFFSETS_AT_1_HZ,
    REFERENCE_OFFSETS,
    REFERENCE_OFFSETS_S,
    Frame,
    Reference,
    VideoDataset,
)
from sdcpc_ros.labels.label_set import CAMVID_11


class Film(VideoDataset):
    """An image holds its frame's index."""

    def __init__(self, videos: list[list[float]], max_gap_s: float | None = None) -> None:
        frames = [Frame(f"video {i}", stamp, f"{stamp:g}", True) for i, stamps in enumerate(videos) for stamp in stamps]
        super().__init__("film", CAMVID_11, frames, max_gap_s=max_gap_s)
        self.read: list[int] = []

    def image(self, index: int) -> np.ndarray:
        self.read.append(index)
        return np.full((2, 3, 3), range(len(self))[index], np.uint8)

    def labels(self, index: int) -> np.ndarray:
        return np.zeros((2, 3), np.uint8)

    def sources(self, index: int) -> tuple[str, str]:
        return f"image {index}", f"labels {index}"


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


class TestReferences:
    def test_the_papers_offsets(self) -> None:
        film = Film([at(15, 30)])
        assert film.references(12, REFERENCE_OFFSETS) == [Reference(i, True) for i in (9, 6, 3)]
        assert film.references(12, REFERENCE_OFFSETS_S, unit="seconds") == [Reference(i, True) for i in (9, 6, 3)]

    def test_seconds_hold_at_other_rates(self) -> None:
        film = Film([at(30, 60)])
        assert [r.index for r in film.references(30, REFERENCE_OFFSETS_S, unit="seconds")] == [24, 18, 12]

    def test_at_1_hz_seconds_are_not_there_and_frames_are(self) -> None:
        film = Film([at(1, 10)])
        assert film.references(5, OFFSETS_AT_1_HZ) == [Reference(i, True) for i in (4, 3, 2)]
        # The frame a second ago is no answer to 0.2 to 0.6 s; for these the frame itself is the nearest.
        assert not any(r.present for r in film.references(5, REFERENCE_OFFSETS_S, unit="seconds"))

    def test_before_the_run_its_first_frame_stands_in(self) -> None:
        film = Film([at(15, 10), at(15, 10)])
        assert film.references(14, REFERENCE_OFFSETS) == [
            Reference(11, True),
            Reference(10, False),
            Reference(10, False),
        ]
        assert film.references(10, REFERENCE_OFFSETS) == [Reference(10, False)] * 3

    def test_mirrored_when_the_past_is_missing_and_the_future_whole(self) -> None:
        film = Film([at(15, 12)])
        assert film.references(2, (3, 6, 9), mirror=True) == [Reference(i, True) for i in (5, 8, 11)]
        assert film.references(4, (3, 6, 9), mirror=True) == film.references(4, (3, 6, 9))
        assert film.references(11, (3, 6, 9), mirror=True) == [Reference(i, True) for i in (8, 5, 2)]

    def test_negative_offsets_look_ahead(self) -> None:
        assert [r.index for r in Film([at(15, 12)]).references(2, (-3, -6))] == [5, 8]

    @pytest.mark.parametrize(("offsets", "unit"), [((0,), "frames"), ((1.5,), "frames"), ((0.0,), "seconds")])
    def test_offsets_that_mean_nothing(self, offsets: tuple, unit: str) -> None:
        with pytest.raises(ValueError, match=r"an offset is .*; a .*number of .* other than zero is needed"):
            Film([at(15, 3)]).references(0, offsets, unit=unit)

    def test_units_that_there_are_not(self) -> None:
        with pytest.raises(ValueError, match="unit is 'minutes'; frames and seconds are allowed"):
            Film([at(15, 3)]).references(0, (1,), unit="minutes")  # type: ignore[arg-type]

    @given(
        st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=15), min_size=1, max_size=3),
        st.lists(st.integers(1, 12), min_size=1, max_size=4),
        st.data(),
    )
    def test_nothing_leaves_its_run_and_what_is_present_is_where_it_should_be(
        self, steps: list[list[int]], offsets: list[int], data: st.DataObject
    ) -> None:
        film = Film([[stamp / 10 for stamp in np.cumsum(video).tolist()] for video in steps])
        index = data.draw(st.integers(0, len(film) - 1))
        run = film.run_of(index)
        for offset, reference in zip(offsets, film.references(index, offsets)):
            assert reference.index in run
            assert reference.present == (index - offset in run)
            assert not reference.present or reference.index == index - offset
        for offset, reference in zip(offsets, film.references(index, [o / 10 for o in offsets], unit="seconds")):
            assert reference.index in run
            ages = {i: film.stamp_s(index) - film.stamp_s(i) for i in run if i < index}
            nearest = min((abs(age - offset / 10) for age in ages.values()), default=None)
            near_enough = nearest is not None and nearest <= offset / 30 + 1e-9
            if reference.present:
                assert abs(ages[reference.index] - offset / 10) == pytest.approx(nearest)
            assert reference.present == near_enough or nearest == pytest.approx(offset / 30)


class TestClips:
    def test_oldest_first_the_labelled_frame_last(self) -> None:
        clip = Film([at(15, 20)]).clip(10, REFERENCE_OFFSETS)
        assert clip.indices == [1, 4, 7, 10]
        assert [int(image[0, 0, 0]) for image in clip.images] == [1, 4, 7, 10]
        assert clip.present.tolist() == [True] * 3
        assert clip.labels.shape == (2, 3)

    def test_a_stand_in_is_read_once(self) -> None:
        film = Film([at(15, 20)])
        clip = film.clip(4, REFERENCE_OFFSETS)
        assert (clip.indices, clip.present.tolist()) == ([0, 0, 1, 4], [False, False, True])
        assert sorted(film.read) == [0, 1, 4]

    def test_a_lonely_frame_stands_in_for_its_past(self) -> None:
        clip = Film([[0.0]]).clip(0, REFERENCE_OFFSETS)
        assert (clip.indices, clip.present.any()) == ([0] * 4, False)

    def test_no_references_at_all(self) -> None:
        clip = Film([at(15, 3)]).clip(2, ())
        assert (clip.indices, clip.present.shape) == ([2], (0,))

    def test_negative_indices_count_from_the_end(self) -> None:
        assert Film([at(15, 20)]).clip(-1, (1, 2)).indices == [17, 18, 19]
