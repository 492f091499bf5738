"""Frames of several streams at once: the labels of one by one, whatever comes, goes, is reset or fails."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.inference import backend
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.streaming import frame_runner, runner_cache
from sdcpc_ros.streaming import segmenter as segmenter_module
from sdcpc_ros.streaming.frame_buffer import MemoryPool
from sdcpc_ros.streaming.segmenter import Segmentation, StreamingSegmenter
from sdcpc_ros.streaming.stream_frame import StreamFrame

#: Image sizes by camera: three of one network size, of which one has larger images, and one of another.
SIZES = {"front": (64, 96), "left": (64, 96), "right": (128, 192), "back": (96, 64)}
#: A picture in which the network of `poisoned` fails.
POISON = np.full((64, 96, 3), 255, np.uint8)


@pytest.fixture(scope="module")
def together(new_segmenter, record_graph):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame_runner, "capture_graph", record_graph)
        yield new_segmenter(max_gap_s=math.inf)


@pytest.fixture(scope="module")
def alone(checkpoint):
    return StreamingSegmenter(checkpoint, max_gap_s=math.inf)


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Uses the runners of a GPU. Returns the list of pools that segmenters make."""
    pools = []

    def new_pool(blank):
        pools.append(MemoryPool(blank))
        return pools[-1]

    monkeypatch.setattr(runner_cache, "uses_graphs", lambda device: True)
    monkeypatch.setattr(runner_cache, "MemoryPool", new_pool)
    return pools


@pytest.fixture
def poisoned(checkpoint, monkeypatch):
    """A segmenter whose network fails on POISON; `passes` are the batches that it was given."""
    passes = []

    class Poisoned(EagerBackend):
        def step(self, image, references, age_s):
            passes.append(len(image))
            if (image == 255).flatten(1).all(1).any():
                raise RuntimeError("poison\nand more")
            return super().step(image, references, age_s)

    register(monkeypatch, lambda step, size, batch: Poisoned(step))
    segmenter = StreamingSegmenter(checkpoint, backend="inductor")
    segmenter.passes = passes
    return segmenter


def register(monkeypatch, build, batches: bool = True) -> None:
    """Puts a backend of the test's own in the place of inductor."""
    kind = SimpleNamespace(check=lambda step: None, build=build, batches=batches)
    monkeypatch.setitem(backend.REGISTRY, "inductor", kind)


def frame(camera: str, seed: int, **fields) -> StreamFrame:
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZES[camera], 3), dtype=np.uint8)
    return StreamFrame(pixels, stamp_s=float(seed), stream=camera, **fields)


def one_by_one(segmenter: StreamingSegmenter, frames: list[StreamFrame]) -> list[Segmentation]:
    return [segmenter.segment(f.image, f.stamp_s, stream=f.stream, confidence=f.confidence) for f in frames]


#: What happens before a turn, and whose frames it has, in which order.
TURNS = st.lists(
    st.tuples(
        st.sampled_from((None, *SIZES)),
        st.lists(st.tuples(st.sampled_from(sorted(SIZES)), st.booleans()), max_size=4, unique_by=lambda item: item[0]),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=15)
@given(TURNS)
def test_labels_are_those_of_one_by_one(together, alone, turns):
    """Cameras join and leave, buffers are filled unequally and emptied in the middle, sizes are mixed."""
    for camera in SIZES:
        together.remove_stream(camera)
        alone.remove_stream(camera)
    for seed, (emptied, cameras) in enumerate(turns):
        for segmenter in (together, alone) if emptied else ():
            segmenter.reset(emptied)
        frames = [frame(camera, 10 * seed + i, confidence=wanted) for i, (camera, wanted) in enumerate(cameras)]
        results, expected = together.segment_batch(frames), one_by_one(alone, frames)
        alike = sum(camera != "back" for camera, _ in cameras)
        for got, wanted, sent in zip(results, expected, frames):
            assert got.labels.shape == sent.image.shape[:2]
            assert (got.labels == wanted.labels).mean() >= 0.999
            assert (got.references, got.reset) == (wanted.references, wanted.reset)
            assert (got.confidence is None) == (not sent.confidence)
            if got.confidence is not None:
                # A choice between equals (which reference, which token) may fall the other way in a batch: some places.
                assert (np.abs(got.confidence.astype(int) - wanted.confidence) > 1).mean() <= 0.02
            assert got.batch == (1 if sent.stream == "back" else alike) and wanted.batch == 1
        for camera in SIZES:
            assert together.buffer_fill(camera) == alone.buffer_fill(camera)


def test_a_fault_costs_its_own_frame_only(poisoned, alone):
    alone.reset()
    first = [frame(camera, 1) for camera in ("front", "left")]
    assert [result.batch for result in poisoned.segment_batch(first)] == [2, 2]
    one_by_one(alone, first)
    good, bad, bad_size = frame("front", 2), StreamFrame(POISON, stream="left"), StreamFrame(POISON[:8], stream="x")
    lost, result, refused = poisoned.segment_batch([bad, good, bad_size])
    assert isinstance(lost, RuntimeError) and isinstance(refused, ValueError) and "8 px" in str(refused)
    (expected,) = one_by_one(alone, [good])
    assert (result.labels == expected.labels).all() and result.references == 1 and result.batch == 1
    assert poisoned.passes == [2, 2, 1, 1] and poisoned.failed_batches == 1
    assert [result.reset for result in poisoned.segment_batch([frame("front", 3), frame("left", 3)])] == [None, "fault"]


def test_after_a_failed_batch_frames_go_one_by_one_for_a_while(poisoned, monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(segmenter_module.time, "monotonic", lambda: now_s[0])
    size = (64, 96)
    assert poisoned.batch_size(size, 2, 2) == 2 and poisoned.batching_disabled_reason == ""
    poisoned.segment_batch([StreamFrame(POISON, stream="left"), frame("front", 1)])
    assert poisoned.batch_size(size, 2, 2) == 1
    assert poisoned.batching_disabled_reason == "one by one for 10 s more, as a batch failed: RuntimeError: poison"
    poisoned.segment_batch([StreamFrame(POISON, stream="left"), frame("front", 2)])
    assert poisoned.passes == [2, 1, 1, 1, 1] and poisoned.failed_batches == 1
    now_s[0] += 10.1
    assert poisoned.batch_size(size, 2, 2) == 2 and poisoned.batching_disabled_reason == ""
    assert [result.batch for result in poisoned.segment_batch([frame("left", 3), frame("front", 3)])] == [2, 2]


def test_what_failed_holds_no_tensors(poisoned):
    """They may be what the others lack the memory for."""
    lost, _ = poisoned.segment_batch([StreamFrame(POISON, stream="left"), frame("front", 1)])
    traceback = lost.__traceback__
    kept = []
    while traceback:
        kept += [name for name, value in traceback.tb_frame.f_locals.items() if isinstance(value, torch.Tensor)]
        traceback = traceback.tb_next
    assert kept == []


def test_two_frames_of_one_stream_are_refused(together):
    with pytest.raises(ValueError, match=r"\['front', 'left', 'front'\]; one of each"):
        together.segment_batch([frame("front", 1), frame("left", 1), frame("front", 2)])


@pytest.mark.parametrize(("most", "batches"), [(None, [3, 3, 3]), (4, [2, 2, 1]), (2, [2, 2, 1]), (1, [1, 1, 1])])
def test_batches_have_the_sizes_that_go_with_the_most(together, most, batches):
    """Three where four may be: none is made for three, however often a fourth is missing."""
    frames = [frame(camera, 1) for camera in ("front", "left", "right")]
    assert [result.batch for result in together.segment_batch(frames, most)] == batches


def test_no_frames_are_no_work(together):
    assert together.segment_batch([]) == []


@pytest.mark.parametrize("batches", [True, False])
def test_a_backend_is_given_what_it_was_made_for(checkpoint, alone, monkeypatch, batches):
    """For the number of frames, or else frames one by one: then what one leaves must be kept before the next is run."""
    given_to = []

    class Compiled(EagerBackend):
        def __init__(self, step, batch):
            super().__init__(step)
            self._batch, self._kept = batch, None

        @torch.inference_mode()
        def step(self, image, references, age_s):
            assert len(image) == len(age_s) == self._batch
            given_to.append(self._batch)
            logits, memory = super().step(image, references, age_s)
            # As a graph does: results lie where they lay before.
            self._kept = self._kept or memory
            for own, part in zip(self._kept, memory):
                own.copy_(part)
            return logits, self._kept

    register(monkeypatch, lambda step, size, batch: Compiled(step, batch), batches)
    segmenter = StreamingSegmenter(checkpoint, backend="inductor", max_gap_s=math.inf)
    alone.reset()
    for seed in range(5):
        frames = [frame(camera, 3 * seed + i) for i, camera in enumerate(("front", "left", "right"))]
        results = segmenter.segment_batch(frames)
        assert [result.batch for result in results] == [3 if batches else 1] * 3
        for result, expected in zip(results, one_by_one(alone, frames)):
            assert (result.labels == expected.labels).mean() >= 0.999
    assert given_to == [3] * 5 if batches else [1] * 15
    assert segmenter.batching_disabled_reason == ("" if batches else "backend 'inductor' runs one frame at a time")


def test_a_closed_segmenter_says_so_for_each_frame(checkpoint):
    segmenter = StreamingSegmenter(checkpoint)
    segmenter.close()
    outcomes = segmenter.segment_batch([frame("front", 1), frame("left", 1)])
    assert [str(outcome) for outcome in outcomes] == ["this segmenter is closed"] * 2


def test_a_batch_that_fails_after_its_run_leaves_the_references_alone(checkpoint, alone, as_on_gpu, monkeypatch):
    """Its graph has written memories. Its frames run once more, one by one, with the references of before."""
    segmenter = StreamingSegmenter(checkpoint, max_gap_s=math.inf)
    alone.reset()
    resize, calls = segmenter_module.confidence_from_probability, []

    def fail_once(*arguments):
        calls.append(arguments)
        if len(calls) == 17:  # four calls a turn, two of them of `alone`: the fifth turn, when buffers are full
            raise MemoryError("no memory for the confidence")
        return resize(*arguments)

    monkeypatch.setattr(segmenter_module, "confidence_from_probability", fail_once)
    batches = []
    for seed in range(6):
        frames = [frame(camera, 2 * seed + i, confidence=True) for i, camera in enumerate(("front", "left"))]
        results, expected = segmenter.segment_batch(frames), one_by_one(alone, frames)
        for got, wanted in zip(results, expected):
            assert (got.references, got.reset) == (wanted.references, None)
            assert (got.labels == wanted.labels).mean() >= 0.999
        batches.append(results[0].batch)
    assert segmenter.failed_batches == 1 and batches[:5] == [2, 2, 2, 2, 1]


def test_streams_return_their_slots(checkpoint, as_on_gpu):
    """When they are removed or reset; an image by itself keeps none."""
    segmenter = StreamingSegmenter(checkpoint, max_gap_s=math.inf)
    segmenter.segment_batch([frame("front", 1), frame("left", 1)])
    (pool,) = as_on_gpu
    free, slots = pool.free_count, len(pool.memory.fine)
    segmenter.reset("front")
    segmenter.segment_single(frame("front", 2).image)
    segmenter.segment_batch([frame("front", 3), frame("left", 3)])
    grown = len(pool.memory.fine) - slots
    assert pool.free_count == free + grown
    for camera in ("front", "left"):
        segmenter.remove_stream(camera)
    assert pool.free_count == len(pool.memory.fine) - 1 and as_on_gpu == [pool]
