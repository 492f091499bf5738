from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sdcpc_ros.bags.messages import IMAGE, RawMessage, serialise_image
from sdcpc_ros.bags.reader import BagReader
from sdcpc_ros.model_files import checkpoint
from sdcpc_ros.model_files.checkpoint import CheckpointError, load_checkpoint
from sdcpc_ros.replay.bag_evaluation import Model
from sdcpc_ros.replay.bag_source import BagSource
from sdcpc_ros.replay.image_bags import IMAGE_TOPIC
from sdcpc_ros.replay.segmented_frames import ModelChoice, SegmentedFrame, SourceFrame, Unusable, segment_frames

PERIOD_NS = 66_666_667


def source(number: int, stamp_ns: int, **facts: str) -> SourceFrame:
    image = np.random.default_rng(number).integers(0, 256, (64, 96, 3), np.uint8)
    return SourceFrame(number, stamp_ns, image, **facts)


def used(frames: Iterator[SegmentedFrame | Unusable]) -> list[SegmentedFrame]:
    return [frame for frame in frames if isinstance(frame, SegmentedFrame)]


def test_frames_are_those_that_the_segmenter_makes_as_one_stream(street, tiny_model: Model):
    with BagReader(street) as bag:
        made = used(segment_frames(tiny_model.segmenter, BagSource(bag).frames()))
        images = [frame.image() for frame in bag.frames(IMAGE_TOPIC)]
        truths = [frame.labels("/camera/ground_truth") for frame in bag.frames(IMAGE_TOPIC, "/camera/ground_truth")]
    tiny_model.segmenter.reset()
    for frame, image, labels in zip(made, images, truths, strict=True):
        expected = tiny_model.segmenter.segment(image, stream="test", confidence=True)
        np.testing.assert_array_equal(frame.segmentation.labels, expected.labels)
        np.testing.assert_array_equal(frame.segmentation.confidence, expected.confidence)
        assert frame.segmentation.references == expected.references
        np.testing.assert_array_equal(frame.source.truth, labels)
        assert frame.source.image.flags.writeable and frame.elapsed_ms > 0
    assert [frame.segmentation.references for frame in made[:4]] == [0, 1, 2, 2]


def test_the_memory_is_emptied_where_the_node_would(tiny_model: Model):
    frames = [
        source(0, 0),
        source(1, PERIOD_NS),
        source(2, PERIOD_NS + 600_000_000),
        source(3, 2 * PERIOD_NS),
        source(4, 3 * PERIOD_NS, frame_id="other"),
        source(5, 4 * PERIOD_NS, frame_id="other"),
    ]
    made = used(segment_frames(tiny_model.segmenter, frames, max_gap_s=0.5))
    assert [frame.segmentation.reset for frame in made] == [None, None, "gap", "backward", "frame_id", None]
    assert [frame.segmentation.references for frame in made] == [0, 1, 0, 0, 0, 1]


def test_what_came_before_is_forgotten(tiny_model: Model):
    first = used(segment_frames(tiny_model.segmenter, [source(0, 0), source(1, PERIOD_NS)]))
    again = used(segment_frames(tiny_model.segmenter, [source(0, 0)]))
    assert again[0].segmentation.references == 0
    np.testing.assert_array_equal(again[0].segmentation.labels, first[0].segmentation.labels)


def test_what_cannot_be_used_is_left_out_and_disturbs_nothing(write_bag, tiny_model: Model):
    def image(number: int, pixels: np.ndarray, encoding: str = "rgb8") -> RawMessage:
        stamp = number * PERIOD_NS + 1
        return RawMessage(IMAGE_TOPIC, IMAGE, stamp, serialise_image(pixels, encoding, stamp, "optical"))

    good = np.full((64, 96, 3), 90, np.uint8)
    drive = [
        image(0, good),
        image(1, good[:, :, 0], "rgb8"),  # says three channels, holds one
        RawMessage(IMAGE_TOPIC, IMAGE, 2 * PERIOD_NS + 1, b"\0\1"),  # too short for a header
        image(3, np.zeros((8, 8, 3), np.uint8)),  # too small for the network
        image(4, good),
    ]
    with BagReader(write_bag(drive)) as bag:
        made = list(segment_frames(tiny_model.segmenter, BagSource(bag).frames()))
    problems = [frame.problem for frame in made if isinstance(frame, Unusable)]
    assert [frame.number for frame in made if isinstance(frame, Unusable)] == [1, 2, 3]
    assert "step" in problems[0] and f"{IMAGE_TOPIC} at 0.067 s" in problems[0]
    assert "damaged message" in problems[1]
    assert "8x8 px; at least 32x32" in problems[2]
    last = made[-1]
    assert isinstance(last, SegmentedFrame)
    assert (last.source.number, last.segmentation.reset, last.segmentation.references) == (4, None, 1)


def test_the_thread_that_loads_a_segmenter_has_ended(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def load(path: Path):
        threads.append(threading.current_thread())
        return load_checkpoint(path)

    monkeypatch.setattr(checkpoint, "load_checkpoint", load)
    segmenter = ModelChoice(tiny_checkpoint, input_size=(64, 96)).load()
    assert segmenter.network_size((480, 640)) == (64, 96)
    assert segmenter.segment(np.zeros((64, 96, 3), np.uint8)).labels.shape == (64, 96)
    (thread,) = threads
    assert thread is not threading.current_thread() and not thread.is_alive()


def test_a_model_that_cannot_be_loaded_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing"):
        ModelChoice(tmp_path / "nothing.safetensors").load()
