"""StreamingSegmenter: what is remembered and forgotten, streams apart, backends that take time, and bad images."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdcpc_ros.inference import BackendError, backend
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.streaming import runner_cache
from sdcpc_ros.streaming.frame_runner import CpuRunner
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


@pytest.fixture
def segmenter(checkpoint):
    return StreamingSegmenter(checkpoint)


def _video(frames, size=(64, 96), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)


def test_the_past_counts_and_reset_forgets_it(segmenter):
    video = _video(4)
    fresh = segmenter.segment_single(video[3]).labels
    for image in video[:3]:
        segmenter.segment(image)
    assert segmenter.buffer_fill() == 1.0
    with_past = segmenter.segment(video[3]).labels
    assert (with_past != fresh).any()
    segmenter.reset()
    assert segmenter.buffer_fill() == 0.0
    assert (segmenter.segment(video[3]).labels == fresh).all()


def test_segment_single_leaves_no_trace(segmenter):
    video = _video(3)
    segmenter.segment(video[0])
    before = segmenter.buffer_fill()
    assert segmenter.segment_single(video[1]).references == 0
    assert segmenter.buffer_fill() == before


@pytest.mark.parametrize(("precision", "used"), [("auto", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16")])
def test_a_stream_has_references_in_every_precision(checkpoint, precision, used):
    segmenter, exact = (StreamingSegmenter(checkpoint, device="cpu", precision=name) for name in (precision, "float32"))
    video = _video(4)
    labels, expected = ([one.segment(image).labels for image in video] for one in (segmenter, exact))
    assert segmenter.precision == used and (labels[3] != segmenter.segment_single(video[3]).labels).any()
    assert np.mean([a == b for a, b in zip(labels, expected)]) > 0.95


def test_a_precision_that_is_none_is_refused(checkpoint):
    with pytest.raises(BackendError, match="precision is 'int8'; allowed: auto, float32, float16, bfloat16"):
        StreamingSegmenter(checkpoint, precision="int8")


def test_streams_do_not_mix(checkpoint):
    alone, together = StreamingSegmenter(checkpoint), StreamingSegmenter(checkpoint)
    left, right = _video(5, seed=1), _video(5, size=(48, 80), seed=2)
    for a, b in zip(left, right):
        expected = alone.segment(a, stream="left").labels
        assert (together.segment(a, stream="left").labels == expected).all()
        together.segment(b, stream="right")
    together.reset("right")
    assert together.buffer_fill("right") == 0.0 and together.buffer_fill("left") > 0


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (50, 333), (720, 1280)])
def test_masks_have_the_images_own_size(segmenter, size):
    result = segmenter.segment(_video(1, size)[0], confidence=True)
    assert result.labels.shape == size and result.labels.dtype == np.uint8
    assert result.labels.max() < 11
    assert result.confidence.shape == size and result.confidence.dtype == np.uint8
    assert set(result.stage_ms) == {"preprocess", "network", "postprocess"}
    assert min(result.stage_ms.values()) >= 0


def test_confidence_is_the_probability_of_the_label(checkpoint, segmenter):
    image = _video(1)[0]
    result = segmenter.segment_single(image, confidence=True)
    assert result.confidence.min() >= 255 // 11
    assert segmenter.segment_single(image).confidence is None


def test_confidence_of_a_group_is_the_sum_of_its_classes(checkpoint, segmenter):
    image, classes = _video(1)[0], len(checkpoint.label_set)
    result = segmenter.segment_single(image, confidence=True)
    pairs = StreamingSegmenter(checkpoint, class_groups=[index // 2 for index in range(classes)])
    paired = pairs.segment_single(image, confidence=True)
    assert np.array_equal(paired.labels, result.labels)
    assert (paired.confidence >= result.confidence).all() and (paired.confidence > result.confidence).mean() > 0.5
    single = StreamingSegmenter(checkpoint, class_groups=range(classes)).segment_single(image, confidence=True)
    assert np.array_equal(single.confidence, result.confidence)
    whole = StreamingSegmenter(checkpoint, class_groups=[0] * classes).segment_single(image, confidence=True)
    assert whole.confidence.min() >= 254


def test_input_size_is_what_the_network_sees(checkpoint):
    segmenter = StreamingSegmenter(checkpoint, input_size=(40, 56))
    assert segmenter.network_size((720, 1280)) == (40, 56)
    assert segmenter.segment(_video(1, (720, 1280))[0]).labels.shape == (720, 1280)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96, 4), np.uint8),
        np.zeros((64, 96, 3), np.float32),
        np.zeros((31, 96, 3), np.uint8),
        [[1, 2], [3, 4]],
    ],
)
def test_a_bad_image_is_refused_and_the_stream_goes_on(segmenter, image):
    video = _video(2)
    segmenter.segment(video[0])
    with pytest.raises(ValueError, match="the image is"):
        segmenter.segment(image)
    assert segmenter.segment(video[1]).references == 1


def test_any_view_of_an_image_will_do(segmenter):
    image = _video(1, (64, 192))[0]
    view = image[:, ::2, ::-1]
    assert (segmenter.segment_single(view).labels == segmenter.segment_single(view.copy()).labels).all()


def test_threads_take_turns(checkpoint):
    segmenter, alone = StreamingSegmenter(checkpoint), StreamingSegmenter(checkpoint)
    videos = {name: _video(4, seed=i) for i, name in enumerate("abc")}
    results = {}

    def run(name):
        results[name] = [segmenter.segment(image, stream=name).labels for image in videos[name]]

    threads = [threading.Thread(target=run, args=(name,)) for name in videos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, video in videos.items():
        expected = [alone.segment(image, stream=name).labels for image in video]
        assert all((a == b).all() for a, b in zip(results[name], expected))


def test_close_ends_it(segmenter):
    segmenter.close()
    with pytest.raises(RuntimeError, match="closed"):
        segmenter.segment(_video(1)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "tpu9"}, "tpu9"),
        ({"device": "meta"}, "not supported"),
        ({"backend": "magic"}, "one of auto, eager"),
        ({"input_size": (16, 64)}, "input_size"),
        ({"max_gap_s": 0.0}, "max_gap_s is 0.0; a positive number"),
        ({"max_gap_s": float("nan")}, "max_gap_s is nan"),
    ],
)
def test_what_cannot_be_had_is_named(checkpoint, arguments, message):
    with pytest.raises(ValueError, match=message):
        StreamingSegmenter(checkpoint, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_named(checkpoint):
    with pytest.raises(ValueError, match="no CUDA GPU"):
        StreamingSegmenter(checkpoint, device="cuda")


@pytest.fixture
def slow_backend(monkeypatch):
    """The name of a backend that takes until `finish` is called; what it has run is counted."""

    class Compiled(EagerBackend):
        finished = threading.Event()
        frames = 0

        def step(self, image, references, age_s):
            Compiled.frames += 1
            return super().step(image, references, age_s)

    def build(step, size, batch):
        assert Compiled.finished.wait(30)
        return Compiled(step)

    monkeypatch.setitem(
        backend.REGISTRY, "inductor", SimpleNamespace(check=lambda step: None, build=build, batches=True)
    )
    yield Compiled
    Compiled.finished.set()


def _wait_until_built(segmenter):
    deadline = time.monotonic() + 30
    while segmenter.backend_status.state == "building":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stream_goes_on_while_its_backend_is_built(checkpoint, segmenter, slow_backend):
    """No frame is lost at the swap, nor what was remembered before it."""
    compiling = StreamingSegmenter(checkpoint, backend="inductor", background_build=True)
    for i, image in enumerate(_video(6)):
        if i == 3:
            assert compiling.backend_status.state == "building" and slow_backend.frames == 0
            slow_backend.finished.set()
            _wait_until_built(compiling)
        got, expected = compiling.segment(image), segmenter.segment(image)
        assert got.references == expected.references and (got.labels == expected.labels).all()
    assert slow_backend.frames == 3 and str(compiling.backend_status) == "inductor"


def test_a_known_size_is_built_for_before_the_first_frame(checkpoint, slow_backend):
    assert StreamingSegmenter(checkpoint, backend="inductor").backend_status.state == "ready"  # builds at the first
    early = StreamingSegmenter(checkpoint, backend="inductor", background_build=True, input_size=(64, 96))
    assert early.backend_status.state == "building"
    slow_backend.finished.set()
    _wait_until_built(early)
    early.segment(_video(1)[0])
    assert slow_backend.frames == 1


def test_runners_are_kept_for_few_sizes(segmenter, monkeypatch):
    made = []

    class Counted(CpuRunner):
        def __init__(self, backend, pool, image_sizes, groups):
            made.append(image_sizes[0][1])
            super().__init__(backend, pool, image_sizes, groups)

    monkeypatch.setattr(runner_cache, "MAX_RUNNERS", 2)
    monkeypatch.setattr(runner_cache, "CpuRunner", Counted)
    for width in (64, 72, 64, 80, 64, 72, 80):
        segmenter.segment_single(_video(1, (48, width))[0])
    assert made == [64, 72, 80, 72, 80]  # 64 was used again before 80 took the place of another


def test_models_of_one_checkpoint_share_nothing(checkpoint):
    first, second = checkpoint.build_model(), checkpoint.build_model()
    first.head.classify.bias.add_(1)
    assert not torch.equal(first.head.classify.bias, second.head.classify.bias)
    assert dataclasses.replace(checkpoint).build_model().config == checkpoint.config


def test_by_name_or_path_on_whatever_device_there_is(tiny_checkpoint):
    import sdcpc_ros

    by_path = sdcpc_ros.StreamingSegmenter(tiny_checkpoint)
    assert by_path.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert sdcpc_ros.StreamingSegmenter("camvid_efficientnet_lite0", device="cpu").label_set.name == "camvid_11"
    with pytest.raises(ValueError, match="no model 'nothing'"):
        sdcpc_ros.StreamingSegmenter("nothing")


def test_the_package_is_imported_without_pytorch():
    code = (
        "import sdcpc_ros, sys; assert 'torch' not in sys.modules; sdcpc_ros.StreamingSegmenter; 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
