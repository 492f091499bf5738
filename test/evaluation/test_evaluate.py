"""The evaluator with segmenters whose answers are known, and its table and JSON form."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import dataclass, field, replace
from string import ascii_lowercase, ascii_uppercase

import numpy as np
import pytest
from rich.console import Console

from sdcpc_ros.datasets.synthetic_street import SyntheticStreet
from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame
from sdcpc_ros.evaluation.evaluate import Evaluation, evaluate, evaluation_table, labelled_clips
from sdcpc_ros.evaluation.scorer import Scorer
from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE, LabelSet, LabelSetError

TWO = LabelSet("two", ("ground", "thing"), ((0, 0, 0), (255, 0, 0)))
TRUTH = np.array([[0, 0, 1, IGNORE]], np.uint8)


class Film(VideoDataset):
    """Clips of frames named by letters, of which capital ones are labelled. An image holds its letter's number.

    The truth stands still, and its flow is zero where `with_flow`.
    """

    def __init__(self, *clips: str, truth: np.ndarray = TRUTH, with_flow: bool = True) -> None:
        frames = [
            VideoFrame(f"video {i}", number(name) / 15, name, name.isupper())
            for i, clip in enumerate(clips)
            for name in clip
        ]
        super().__init__("test video", TWO, frames)
        self.truth, self.with_flow = truth, with_flow

    def image(self, index: int) -> np.ndarray:
        return np.full((1, 4, 3), number(self.frames[index].name), np.uint8)

    def labels(self, index: int) -> np.ndarray:
        assert self.frames[index].labelled
        return self.truth

    def flow(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        return (np.zeros((1, 4, 2), np.float32), np.ones((1, 4), bool)) if self.with_flow else None


def number(name: str) -> int:
    return ord(name.lower()) - ord("a")


def clip(frames: int, labelled: bool = True) -> str:
    return (ascii_uppercase if labelled else ascii_lowercase)[:frames]


@dataclass
class Answer:
    labels: np.ndarray


@dataclass
class PerfectStream:
    """Right as a stream; frame by frame it takes the thing for ground in every second frame."""

    label_set: LabelSet = TWO
    calls: list = field(default_factory=list)
    single_calls: list = field(default_factory=list)

    def segment(self, image: np.ndarray, stamp_s: float = 0.0, *, stream: str = "camera") -> Answer:
        self.calls.append((stream, int(image[0, 0, 0]), stamp_s))
        return Answer(np.array([[0, 0, 1, 0]], np.uint8))

    def segment_single(self, image: np.ndarray) -> Answer:
        self.single_calls.append(int(image[0, 0, 0]))
        time.sleep(0.002)
        return Answer(np.array([[0, 0, 1 - image[0, 0, 0] % 2, 0]], np.uint8))

    def reset(self, stream: str | None = None) -> None:
        self.calls.append((stream, "reset"))


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(PerfectStream(), Film(clip(16), clip(10)))


def test_both_ways_are_scored_on_every_frame(evaluation: Evaluation) -> None:
    streaming, single = evaluation.streaming, evaluation.single_frame
    assert (evaluation.clips, evaluation.frames, evaluation.labelled_frames) == (2, 26, 26)
    assert (streaming.miou, streaming.weighted_iou, streaming.mvc8, streaming.mvc16, streaming.tc) == (1, 1, 1, 1, 1)
    assert streaming.class_iou == {"ground": 1.0, "thing": 1.0}
    # 26 frames, 13 of them with one of three pixels wrong: ground 52 of 52 + 13, thing 13 of 26.
    assert single.class_iou == pytest.approx({"ground": 52 / 65, "thing": 13 / 26})
    assert single.miou == pytest.approx((52 / 65 + 13 / 26) / 2)
    assert single.weighted_iou == pytest.approx((52 * 52 / 65 + 26 * 13 / 26) / 78)
    assert single.mvc8 == pytest.approx(2 / 3)
    assert single.mvc16 == pytest.approx(2 / 3)
    assert single.mvc8_reference == pytest.approx((2 + 1) / 4)  # void counts, and it stands still
    assert single.tc < 1
    assert single.ms_per_frame >= 2


def test_streaming_follows_each_clip_from_an_empty_memory() -> None:
    segmenter = PerfectStream()
    evaluate(segmenter, Film(clip(2), clip(1)))
    stream = segmenter.calls[0][0]
    assert segmenter.calls == [
        (stream, "reset"),
        (stream, 0, 0.0),
        (stream, 1, 1 / 15),
        (stream, "reset"),
        (stream, 0, 0.0),
        (stream, "reset"),
    ]


def test_images_of_another_size_begin_a_new_stream() -> None:
    """As when a camera changes its resolution, and where a cut joins two videos."""

    class Resized(Film):
        def image(self, index: int) -> np.ndarray:
            return super().image(index).repeat(1 + index // 8, 1)

        def labels(self, index: int) -> np.ndarray:
            return super().labels(index).repeat(1 + index // 8, 1)

    class Stream(PerfectStream):
        def segment(self, image: np.ndarray, stamp_s: float = 0.0, *, stream: str = "camera") -> Answer:
            return Answer(np.array([[0, 0, 1, 0]], np.uint8).repeat(image.shape[1] // 4, 1))

        segment_single = segment

    scored = evaluate(Stream(), Resized(clip(16), with_flow=False))
    assert (scored.streaming.miou, scored.streaming.mvc8, scored.single_frame.mvc8) == (1, 1, 1)
    assert math.isnan(scored.streaming.mvc16)  # no sixteen frames of one size


def test_progress_advances_once_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Progress:
        def __init__(self, frames: int, doing: str) -> None:
            seen.append((frames, doing))

        def __enter__(self):
            return lambda: seen.append("advance")

        def __exit__(self, *exception: object) -> None:
            seen.append("end")

    monkeypatch.setattr("sdcpc_ros.evaluation.evaluate.ProgressBar", Progress)
    evaluate(PerfectStream(), Film(clip(2)), doing="testing")
    assert seen == [(2, "testing"), "advance", "advance", "end"]


def test_progress_bar_is_silent_off_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate(PerfectStream(), Film(clip(2)))
    assert capfd.readouterr() == ("", "")


def test_both_definitions_of_mvc_reach_the_scores() -> None:
    # In clips of 8 frames there is one window, the last, which the reference leaves out.
    scores = evaluate(PerfectStream(), Film(clip(8))).streaming
    assert scores.mvc8 == 1
    assert math.isnan(scores.mvc8_reference)
    assert evaluate(PerfectStream(), Film(clip(17))).streaming.mvc16_reference == 1


class TestFramesWithoutLabels:
    def test_the_stream_passes_through_them_and_nothing_is_judged(self) -> None:
        """Cityscapes: the last frame of twenty is labelled."""
        segmenter = PerfectStream()
        evaluation = evaluate(segmenter, Film(clip(19, labelled=False) + "T"))
        assert (evaluation.frames, evaluation.labelled_frames) == (20, 1)
        assert [call[1] for call in segmenter.calls] == ["reset", *range(20), "reset"]
        assert segmenter.single_calls == [19]
        # VideoFrame by frame, the thing of an odd frame is missed: one frame, one pixel of three.
        assert evaluation.single_frame.class_iou == pytest.approx({"ground": 2 / 3, "thing": 0})
        for scores in (evaluation.streaming, evaluation.single_frame):
            assert math.isnan(scores.mvc8) and math.isnan(scores.tc)

    def test_consistency_is_judged_between_labelled_neighbours_alone(self) -> None:
        frames = clip(20)
        for hole, windows in ((5, [(6, 14)]), (10, [(0, 10), (11, 9)])):
            sparse = frames[:hole] + frames[hole].lower() + frames[hole + 1 :]
            with_hole = evaluate(PerfectStream(), Film(sparse))
            apart = evaluate(PerfectStream(), Film(*(frames[at : at + n] for at, n in windows)))
            for ours, theirs in ((with_hole.streaming, apart.streaming), (with_hole.single_frame, apart.single_frame)):
                assert (ours.mvc8, ours.mvc8_reference) == (theirs.mvc8, theirs.mvc8_reference)
            assert math.isnan(with_hole.streaming.mvc16)

    def test_the_table_says_how_many_were_judged(self) -> None:
        table = evaluation_table(evaluate(PerfectStream(), Film("abcD")))
        assert table.title == "test video: 4 frames in 1 clip, 1 of them labelled"


def test_other_classes_are_refused_with_both_sides_named() -> None:
    with pytest.raises(LabelSetError, match=r"'camvid_11' \(sky, .*\); test video has 'two' \(ground, thing\)"):
        evaluate(PerfectStream(label_set=CAMVID_11), Film(clip(1)))


def test_a_scorer_without_frames_or_flow_has_no_scores() -> None:
    scorer = Scorer(TWO)
    assert scorer.scores()["miou"] is None
    for _ in range(2):
        scorer.update(TRUTH % 2, TRUTH)
    assert math.isnan(scorer.tc.value())


def test_json_form_has_null_for_nan(evaluation: Evaluation) -> None:
    values = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert values["video"] == "test video"
    assert values["streaming"]["class_iou"] == {"ground": 1.0, "thing": 1.0}
    short = evaluate(PerfectStream(), Film(clip(1))).to_dict()
    assert short["streaming"]["mvc8"] is None
    only_ground = Film("A", truth=np.zeros((1, 4), np.uint8), with_flow=False)
    class_iou = evaluate(PerfectStream(), only_ground).to_dict()["streaming"]["class_iou"]
    assert class_iou == {"ground": 0.75, "thing": None}


def test_table_shows_both_ways_side_by_side(evaluation: Evaluation) -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(evaluation_table(evaluation))
    text = console.file.getvalue()
    assert "test video: 26 frames in 2 clips" in text
    rows = {
        cells[0]: cells[1:]
        for cells in (line.strip("│┃ ").split(" │ ") for line in text.splitlines())
        if len(cells) == 3
    }
    rows = {name.strip(): [cell.strip() for cell in cells] for name, cells in rows.items()}
    assert rows["mIoU %"] == ["100.00", "65.00"]
    assert rows["mVC8 % (clean)"] == ["100.00", "66.67"]
    assert rows["IoU % thing"] == ["100.00", "50.00"]


def test_names_with_brackets_are_printed_as_they_are(evaluation: Evaluation) -> None:
    console = Console(file=io.StringIO(), width=100)
    shares = {"[void]": 0.5, "pole [/old]": 0.5}
    scores = replace(evaluation.streaming, class_iou=shares)
    console.print(evaluation_table(replace(evaluation, video="drive[wet]", streaming=scores, single_frame=scores)))
    assert all(f"{name}" in console.file.getvalue() for name in ("drive[wet]:", "IoU % [void]", "IoU % pole [/old]"))


def test_the_truth_of_a_street_moves_with_its_flow() -> None:
    """But for edges that fall between pixels."""
    street = SyntheticStreet(seed=5, length=3, size=(48, 64))
    assert (labelled_clips(street), street.label_set) == ([range(3)], CAMVID_11)
    scorer = Scorer(CAMVID_11)
    for index in range(3):
        labels = street.labels(index)
        flow, valid = street.flow(index) or (None, None)
        scorer.update(labels, labels, flow=flow, flow_valid=valid)
    assert scorer.scores()["miou"] == 1
    assert scorer.tc.value() > 0.9


class TestLabelledClips:
    def test_runs_end_with_their_last_labelled_frame(self) -> None:
        film = Film("abCde", "fgh", "Ij", "kLm")
        assert (film.name, film.label_set) == ("test video", TWO)
        assert labelled_clips(film) == [range(3), range(8, 9), range(10, 12)]
        segmenter = PerfectStream()
        evaluation = evaluate(segmenter, film)
        assert (evaluation.clips, evaluation.frames, evaluation.labelled_frames) == (3, 6, 3)
        assert [call[1] for call in segmenter.calls if call[1] != "reset"] == [0, 1, 2, 8, 10, 11]
        assert segmenter.single_calls == [2, 8, 11]

    def test_nothing_to_judge_by(self) -> None:
        with pytest.raises(DatasetError, match="test video has no labels to judge by"):
            labelled_clips(Film("abc"))
