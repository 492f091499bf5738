"""Tests of a temporal path, on a segmenter that knows what it saw last."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from rich.console import Console

from sdcpc_ros.datasets.video_dataset import DatasetError, VideoDataset, VideoFrame
from sdcpc_ros.evaluation.temporal_tests import (
    cached_labels,
    run_temporal_tests,
    temporal_test_table,
    temporal_tests,
)
from sdcpc_ros.labels.label_set import CITYSCAPES_19, IGNORE

POLE = CITYSCAPES_19.class_names.index("pole")


class Film(VideoDataset):
    """Frames of one colour, all road but the last column, a pole; images differ from frame to frame."""

    def __init__(self, *runs: int, labelled: bool = True) -> None:
        frames = [
            VideoFrame(f"drive {i}", at / 10, f"{i}-{at}", labelled) for i, n in enumerate(runs) for at in range(n)
        ]
        super().__init__("film", CITYSCAPES_19, frames)

    def image(self, index: int) -> np.ndarray:
        return np.full((2, 4, 3), index, np.uint8)

    def labels(self, index: int) -> np.ndarray:
        return np.array([[0, 0, 0, POLE], [0, 0, IGNORE, POLE]], np.uint8)


@dataclass
class Sluggish:
    """Right by itself; in a stream it misses the pole where the image before is not the frame before."""

    label_set = CITYSCAPES_19
    last: int | None = None
    single: list[int] = field(default_factory=list)

    @dataclass
    class Answer:
        labels: np.ndarray

    def segment(self, image: np.ndarray, stamp_s: float = 0.0, *, stream: str = "camera") -> Answer:
        number = int(image[0, 0, 0])
        follows = self.last in (None, number - 1)
        self.last = number
        return self.answer(image, POLE if follows else 0)

    def segment_single(self, image: np.ndarray) -> Answer:
        self.single.append(int(image[0, 0, 0]))
        return self.answer(image, POLE)

    def reset(self, stream: str | None = None) -> None:
        self.last = None

    def answer(self, image: np.ndarray, last_column: int) -> Answer:
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[:, -1] = last_column
        return self.Answer(labels)


def test_each_test_shows_its_frames_to_the_stream() -> None:
    segmenter = Sluggish()
    tests = temporal_tests(Film(12), every=(1, 4), cuts=(2,), turns=(0.5,), each_video=True)
    results = [result.to_dict() for result in run_temporal_tests(segmenter, tests)]
    assert [(row["test"], row["value"], row["labelled_frames"]) for row in results] == [
        ("every", 1, 12),
        ("every", 4, 3),
        ("cuts", 2, 5),
        ("turns", 0.5, 12),
        ("video", "drive 0", 12),
    ]
    assert [row["rate_hz"] for row in results] == pytest.approx([10, 2.5, 10, 10, 10])
    poles = [row["streaming"]["class_iou"]["pole"] for row in results]
    assert poles[:3] == [1.0, pytest.approx(1 / 3), 0.0] and poles[4] == 1.0
    assert [row["single_frame"]["class_iou"]["pole"] for row in results[:3]] == [1.0, 1.0, 1.0]
    assert "ms_per_frame" not in results[0]["streaming"] and results[0]["single_frame"]["mvc8"] == 1.0
    json.dumps(results, allow_nan=False)


def test_a_frame_that_tests_share_is_run_by_itself_once() -> None:
    segmenter = Sluggish()
    run_temporal_tests(segmenter, temporal_tests(Film(12), every=(4, 2, 1), cuts=(2,)))
    assert sorted(segmenter.single) == list(range(12))


def test_the_cache_tells_images_apart_by_pixels_and_shape() -> None:
    segmenter = Sluggish()
    labels_of = cached_labels(segmenter.segment_single)
    for image in (np.zeros((2, 4, 3), np.uint8), np.zeros((4, 2, 3), np.uint8), np.ones((2, 4, 3), np.uint8)):
        for _ in range(2):
            assert np.array_equal(labels_of(image), segmenter.answer(image, POLE).labels)
    assert segmenter.single == [0, 0, 1]


def test_bad_values_are_refused_before_anything_is_run() -> None:
    for values, message in (
        ({"every": (1, 12)}, "n is 12; a whole number of 1 to 11 is allowed"),
        ({"cuts": (7,)}, "n is 7; a whole number of 1 to 6 is allowed"),
        ({"turns": (2.0,)}, "the turn is 2 of the width"),
    ):
        with pytest.raises(DatasetError, match=message):
            temporal_tests(Film(12), **values)
    with pytest.raises(DatasetError, match="film, one frame in 2 has no labels to judge by"):
        temporal_tests(Film(12, labelled=False), every=(2,))


def test_the_table_has_a_row_a_test_and_the_thin_classes_of_the_label_set() -> None:
    results = run_temporal_tests(Sluggish(), temporal_tests(Film(12, 3), every=(1, 4), cuts=(2,), each_video=True))
    console = Console(file=io.StringIO(), width=100)
    console.print(temporal_test_table(results))
    cells = [re.split(r"\s{2,}", line.strip()) for line in console.file.getvalue().splitlines()]
    rows = {name: values for name, *values in cells}
    assert rows["test"] == ["judged", "mIoU", "mVC8", "mVC16", "pole", "traffic sign"]
    assert rows["every frame"] == ["15", "100.0/100.0", "100.0/100.0", "-", "100.0/100.0", "-"]
    assert rows["1 frame in 4"][-2:] == ["50.0/100.0", "-"]
    assert rows["drive 1"][0] == "3"
