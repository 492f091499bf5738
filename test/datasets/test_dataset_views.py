"""Views of films made up by the test: which frames they take, under which stamps, with which labels."""

from __future__ import annotations

import numpy as np
import pytest

from sdcpc_ros.datasets.dataset_views import DatasetView, Pan, every_nth_frame, single_videos, spliced
from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import CAMVID_11

RATE_HZ = 15.0


class Film(VideoDataset):
    """Runs of frames at 15 Hz, each a video, of which those named by a capital letter are labelled.

    An image holds its frame's index in red and the column in green; labels hold the column, the flow the index.
    """

    def __init__(self, *runs: str, width: int = 40) -> None:
        named = [(f"video {i}", at / RATE_HZ, name) for i, run in enumerate(runs) for at, name in enumerate(run)]
        frames = [VideoFrame(video, at, name, name.isupper(), f"image {name}") for video, at, name in named]
        super().__init__("film", CAMVID_11, frames)
        self._columns = np.broadcast_to(np.arange(width, dtype=np.uint8), (2, width))

    def image(self, index: int) -> np.ndarray:
        return np.dstack([np.full_like(self._columns, index), self._columns, self._columns])

    def labels(self, index: int) -> np.ndarray:
        return self._columns

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((*self._columns.shape, 2), index, np.float32), np.ones(self._columns.shape, bool)


def runs_of(view: VideoDataset) -> list[list[int]]:
    """The frames of the source by the view's runs, read from the pixels."""
    return [[int(view.image(index)[0, 0, 0]) for index in run] for run in view.runs]


class TestEveryNthFrame:
    def test_each_run_begins_anew_and_keeps_its_stamps(self) -> None:
        view = every_nth_frame(Film("ABCDEFG", "ABCD"), 3)
        assert runs_of(view) == [[0, 3, 6], [7, 10]]
        assert view.rate_hz == pytest.approx(RATE_HZ / 3)
        assert view.frames[1].stamp_s == pytest.approx(3 / RATE_HZ)
        assert view.name == "film, one frame in 3"

    def test_a_gap_that_is_no_longer_than_the_steps_still_parts_runs(self) -> None:
        film = Film("ABCDEFGH")
        film.frames[4:] = [frame._replace(stamp_s=frame.stamp_s + 2 / RATE_HZ) for frame in film.frames[4:]]
        source = DatasetView(film, "film", range(8), [f._replace(video=str(i // 4)) for i, f in enumerate(film.frames)])
        assert runs_of(every_nth_frame(source, 3)) == [[0, 3], [4, 7]]

    def test_the_first_labelled_frame_of_a_run_is_taken(self) -> None:
        view = every_nth_frame(Film("abcdeFghi"), 3)
        assert runs_of(view) == [[2, 5, 8]]
        assert [view.frames[index].name for index in view.labelled] == ["F"]
        with pytest.raises(DatasetError, match="image c has no labels"):
            view.labels(0)

    def test_every_frame_is_the_source_with_its_flow(self) -> None:
        film = Film("ABC")
        assert every_nth_frame(film, 1) is film

    def test_there_is_no_flow_across_frames_that_are_left_out(self) -> None:
        assert every_nth_frame(Film("ABCDE"), 2).flow(0) is None

    @pytest.mark.parametrize("n", [-1, 0, 4, 100])
    def test_what_leaves_no_stream_is_refused(self, n: int) -> None:
        with pytest.raises(DatasetError, match=rf"n is {n}; .* 1 to 3 is allowed, as the longest run of film has 4"):
            every_nth_frame(Film("AB", "ABCD"), n)


class TestSpliced:
    def test_two_halves_of_the_only_run_alternate_under_one_stamp_sequence(self) -> None:
        view = spliced(Film("ABCDEFGHIJ"), 2)
        assert runs_of(view) == [[0, 1, 5, 6, 2, 3, 7, 8]]
        assert [view.frames[index].stamp_s for index in range(8)] == pytest.approx([i / RATE_HZ for i in range(8)])

    def test_the_first_frame_after_a_cut_is_judged_and_no_other(self) -> None:
        view = spliced(Film("ABCDEFGHIJ"), 2)
        assert view.labelled == [2, 4, 6]
        assert spliced(Film("AbcdEFgHIJ"), 2).labelled == [2, 6]  # c, after the second cut, has no labels

    def test_the_two_longest_runs_are_taken(self) -> None:
        assert runs_of(spliced(Film("A", "ABCD", "ABC"), 1)) == [[1, 5, 2, 6, 3, 7]]

    def test_flow_ends_at_a_cut(self) -> None:
        view = spliced(Film("ABCDEFGHIJ"), 2)
        flow = view.flow(2)
        assert flow is not None and flow[0][0, 0, 0] == 5
        assert view.flow(1) is None and view.flow(7) is None

    @pytest.mark.parametrize("n", [-3, 0, 6])
    def test_more_than_a_clip_holds_is_refused(self, n: int) -> None:
        with pytest.raises(DatasetError, match=rf"n is {n}; .* 1 to 5 is allowed, as the half of the only run of film"):
            spliced(Film("ABCDEFGHIJ"), n)
        with pytest.raises(DatasetError, match="1 to 1 is allowed, as the second longest run of film has 1 frames"):
            spliced(Film("A", "ABCD"), 2)


class TestPan:
    def test_image_and_labels_move_by_the_same_step_every_frame_and_stay_inside(self) -> None:
        pan = Pan(Film("ABCDEFGHIJKL"), 0.3)  # 6 of 20 columns a frame, of the 20 that there are to go
        lefts = []
        for index in range(len(pan)):
            image, labels = pan[index]
            assert image.shape == (2, 20, 3) and np.array_equal(image[..., 1], labels)
            assert np.array_equal(labels[0], np.arange(labels[0, 0], labels[0, 0] + 20))
            lefts.append(int(labels[0, 0]))
        assert lefts == [0, 6, 12, 18, 12, 6, 0, 6, 12, 18, 12, 6]

    def test_each_run_begins_at_the_left(self) -> None:
        pan = Pan(Film("ABC", "ABC"), 0.3)
        assert [int(pan.labels(index)[0, 0]) for index in range(6)] == [0, 6, 12, 0, 6, 12]
        assert pan.flow(0) is None

    @pytest.mark.parametrize("width", [7, 8, 9, 33])
    @pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
    def test_no_width_and_no_step_leaves_the_image(self, width: int, share: float) -> None:
        pan = Pan(Film("ABCDEF", width=width), share)
        assert {pan.image(index).shape for index in range(6)} == {(2, width // 2, 3)}
        assert len({int(pan.labels(index)[0, 0]) for index in range(6)}) > 1

    @pytest.mark.parametrize("share", [-0.1, 0.0, 1.1, float("nan"), float("inf")])
    def test_other_shares_are_refused(self, share: float) -> None:
        with pytest.raises(DatasetError, match="more than 0 and at most 1 is allowed"):
            Pan(Film("AB"), share)


def test_single_videos_keep_frames_runs_and_flow() -> None:
    one, two = single_videos(Film("Ab", "ABC"))
    assert (runs_of(one), runs_of(two), one.labelled) == ([[0, 1]], [[2, 3, 4]], [0])
    assert (one.name, two.name) == ("film, video 0", "film, video 1")
    flow = two.flow(0)
    assert flow is not None and flow[0][0, 0, 0] == 2
    assert two.flow(2) is None
