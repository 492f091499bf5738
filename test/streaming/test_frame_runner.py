"""The runners for CPUs and GPUs: equal labels and probabilities. Without a GPU the latter runs on the CPU.

There a recording stands in for the CUDA graph, see `record_graph`.
"""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sdcpc_ros.inference import Backend, Step, create_backend
from sdcpc_ros.inference.backend import REGISTRY
from sdcpc_ros.network import FrameMemory
from sdcpc_ros.streaming import frame_runner
from sdcpc_ros.streaming.frame_buffer import FrameBuffer, MemoryPool
from sdcpc_ros.streaming.frame_runner import CpuRunner, CudaGraphRunner

SIZE, IMAGE_SIZE = (64, 96), (130, 190)
MEAN, STD = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)


@pytest.fixture(scope="module")
def step(make_network):
    return Step(make_network(), MEAN, STD)


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def recorded(monkeypatch, record_graph):
    """Records the graphs of a CPU; returns them."""
    captured = []

    def capture(compute, device):
        captured.append(graph(compute, device) if device.type != "cpu" else record_graph(compute, device))
        return captured[-1]

    graph = frame_runner.capture_graph
    monkeypatch.setattr(frame_runner, "capture_graph", capture)
    return captured


def cpu_runner(backend, step, image_sizes, groups=None):
    pool = MemoryPool(step.blank(SIZE))
    return CpuRunner(backend, pool, image_sizes, groups), pool


def graph_runner(backend, step, image_sizes, groups=None):
    pool = MemoryPool(step.blank(SIZE))
    return CudaGraphRunner(backend, pool, 2, SIZE, image_sizes, groups), pool


def references(buffer, pool, stamp_s):
    """The memories and the ages of a buffer's references."""
    slots, ages_s = buffer.references(stamp_s)
    return *pool.gather(torch.tensor([slots], device=pool.memory.fine.device)), torch.tensor([ages_s])


@pytest.mark.parametrize("groups", [None, torch.tensor([0, 0, 1, 2, 1])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_runners_give_the_same_labels_and_memories(make_network, video, groups, dtype):
    step = Step(make_network(), MEAN, STD, dtype=dtype)
    backend = create_backend("eager", step, SIZE)
    (cpu, cpu_pool), (graph, pool) = (make(backend, step, [IMAGE_SIZE], groups) for make in (cpu_runner, graph_runner))
    here, there = FrameBuffer((1, 2), cpu_pool), FrameBuffer((1, 2), pool)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02  # each stream has its own rounding, and remembers it
    for number, pixels in enumerate(video):
        stamp_s = number / 10
        for own, other in zip(references(here, cpu_pool, stamp_s), references(there, pool, stamp_s)):
            torch.testing.assert_close(own, other, atol=tolerance, rtol=0)
        (expected,), expected_probability, _ = cpu([pixels], [here], [stamp_s], True)
        (got,), probability, _ = graph([pixels], [there], [stamp_s], True)
        assert got.shape == IMAGE_SIZE and got.dtype == np.uint8
        assert (got == expected).mean() > 0.999
        np.testing.assert_allclose(probability, expected_probability, atol=tolerance)
        here.push(stamp_s)
        there.push(stamp_s)


def test_a_batch_gives_the_labels_of_its_frames_one_by_one(step, video):
    """Also for images of several sizes, with and without a probability, and with unequally filled buffers."""
    backend = create_backend("eager", step, SIZE)
    sizes = (IMAGE_SIZE, (64, 96), IMAGE_SIZE)
    (cpu, cpu_pool), (graph, pool) = cpu_runner(backend, step, sizes), graph_runner(backend, step, sizes)
    alone, batched = ([FrameBuffer((1, 2), cpu_pool) for _ in sizes] for _ in range(2))
    graphed = [FrameBuffer((1, 2), pool) for _ in sizes]
    for turn, images in enumerate(zip(video, video[::-1], video[2:])):
        stamps_s = [(i + 1) * turn / 10 for i in range(3)]
        expected = [
            CpuRunner(backend, cpu_pool, [size])([image], [own], [stamp_s], True)
            for image, own, stamp_s, size in zip(images, alone, stamps_s, sizes)
        ]
        for run, buffers in ((cpu, batched), (graph, graphed)):
            labels, probability, _ = run(images, buffers, stamps_s, turn != 1)
            assert (probability is None) == (turn == 1)
            for index, ((wanted,), wanted_probability, _) in enumerate(expected):
                assert labels[index].shape == sizes[index] and (labels[index] == wanted).mean() > 0.999
                if probability is not None:
                    np.testing.assert_allclose(probability[index], wanted_probability[0], atol=1e-5)
        for index, trio in enumerate(zip(alone, batched, graphed)):
            if turn >= index:  # else the frame fails: its memory must be gone
                for buffer in trio:
                    buffer.push(stamps_s[index])
        for own, other_buffer in zip(alone, graphed):
            for part, other in zip(references(own, cpu_pool, 9.0), references(other_buffer, pool, 9.0)):
                torch.testing.assert_close(part, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("new_runner", [cpu_runner, graph_runner])
def test_the_age_of_a_reference_reaches_the_network(step, video, new_runner):
    run, pool = new_runner(create_backend("eager", step, SIZE), step, [SIZE])
    buffer = FrameBuffer((1, 2), pool)
    for number, pixels in enumerate(video[:2]):
        run([pixels], [buffer], [number / 10], False)
        buffer.push(number / 10)
    soon, late, again = (run([video[2]], [buffer], [stamp_s], True).probability for stamp_s in (0.2, 4.0, 0.2))
    assert (soon == again).all() and np.abs(soon - late).max() > 1e-4


def test_outputs_outlive_the_next_run(step, video):
    run, pool = graph_runner(create_backend("eager", step, SIZE), step, [IMAGE_SIZE])
    buffers = [FrameBuffer((1, 2), pool)]
    (labels,), probability, _ = run([video[0]], buffers, [0.0], True)
    kept = labels.copy(), probability.copy()
    run([video[1]], buffers, [0.0], True)
    assert (labels == kept[0]).all() and (probability == kept[1]).all()


def test_one_graph_serves_every_stream_until_the_pool_grows(step, video, recorded):
    """Nor does it depend on the frame: the slots are numbers that it reads."""
    backend = create_backend("eager", step, SIZE)
    run, pool = graph_runner(backend, step, [SIZE])
    reference, cpu_pool = cpu_runner(backend, step, [SIZE])
    streams = [(FrameBuffer((1, 2), pool), FrameBuffer((1, 2), cpu_pool)) for _ in range(2)]
    addresses = [part.data_ptr() for part in pool.memory]

    def frame(stream, number):
        (labels,), *_ = run([video[number]], [streams[stream][0]], [number / 10], False)
        (expected,), *_ = reference([video[number]], [streams[stream][1]], [number / 10], False)
        assert (labels == expected).mean() > 0.999
        for buffer in streams[stream]:
            buffer.push(number / 10)

    for number in range(4):
        frame(0, number)
        frame(1, number // 2)
    assert [part.data_ptr() for part in pool.memory] == addresses and len(recorded) == 1
    streams.append((FrameBuffer((1, 2), pool), FrameBuffer((1, 2), cpu_pool)))
    for stream in (2, 0, 1, 2):
        frame(stream, 4)
    assert len(recorded) == 2


def test_a_capture_that_fails_leaves_no_graph_of_before(step, video, monkeypatch):
    """It would read and write the memory of the pool as it was before it grew."""
    run, pool = graph_runner(create_backend("eager", step, SIZE), step, [SIZE])
    streams = [FrameBuffer((1, 2), pool)]
    run([video[0]], streams, [0.0], False)
    capture = frame_runner.capture_graph
    streams += [FrameBuffer((1, 2), pool) for _ in range(2)]

    def fail(compute, device):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(frame_runner, "capture_graph", fail)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            run([video[1]], streams[2:], [0.1], False)
    monkeypatch.setattr(frame_runner, "capture_graph", capture)
    run([video[1]], streams[2:], [0.1], False)
    assert all(part[streams[2].next_slot].any() for part in pool.memory)


def test_no_graph_is_captured_while_a_backend_is_built(step, video, recorded):
    """The build synchronises the GPU, which is an error in both threads. Later frames get their graph."""
    begun, released = threading.Event(), threading.Event()

    def build(*_):
        begun.set()
        assert released.wait(60)
        return create_backend("eager", step, SIZE)

    run, pool = graph_runner(create_backend("eager", step, SIZE), step, [IMAGE_SIZE])
    reference, cpu_pool = cpu_runner(run.backend, step, [IMAGE_SIZE])
    here, there = FrameBuffer((1, 2), cpu_pool), FrameBuffer((1, 2), pool)
    kind = REGISTRY["inductor"]._replace(check=lambda step: None, build=build)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRY, "inductor", kind)
        building = threading.Thread(target=create_backend, args=("inductor", step, SIZE))
        building.start()
        try:
            assert begun.wait(60)
            for number, graphs in enumerate((0, 0, 1, 1)):
                if graphs and not released.is_set():
                    released.set()
                    building.join()
                (labels,), *_ = run([video[number]], [there], [number / 10], False)
                (expected,), *_ = reference([video[number]], [here], [number / 10], False)
                assert (labels == expected).mean() > 0.999 and len(recorded) == graphs
                for buffer in (here, there):
                    buffer.push(number / 10)
        finally:
            released.set()
            building.join()


def test_a_backend_that_waits_for_the_gpu_is_never_captured(step, video, recorded):
    """An older PyTorch takes a capture that failed to go on for ever: it captures nothing more and frees no memory."""
    backend = Backend(step, capturable=False)
    run, pool = graph_runner(backend, step, [IMAGE_SIZE])
    buffers = [FrameBuffer((1, 2), pool)]
    for number in range(2):
        (labels,), *_ = run([video[number]], buffers, [number / 10], False)
    assert labels.shape == IMAGE_SIZE and recorded == []


class StandIn:
    """A network of no work, which notes where its inputs lie."""

    capturable = True

    def __init__(self, step):
        self.addresses, self._memory = set(), step.blank(SIZE)

    def step(self, image, references, age_s):
        assert all(part.is_contiguous() for part in (image, *references, age_s))
        assert not any(part.is_inference() for part in (image, *references, age_s))
        assert all(part.data_ptr() % 16 == 0 for part in (image, *references, age_s))
        self.addresses.add((image.data_ptr(), age_s.data_ptr()))
        logits = image.float().mean((1, 2, 3))[:, None, None, None] + torch.zeros(5, SIZE[0] // 4, SIZE[1] // 4)
        return logits, FrameMemory(*(part.expand(len(image), *part.shape[1:]) + 0 for part in self._memory))


@pytest.mark.parametrize("batch", [1, 3])
def test_two_copies_a_frame_and_addresses_that_stay(step, video, batch, monkeypatch):
    """One copy goes in and one comes out, for any number of cameras and references."""
    counts = Counter()

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            counts[func.overloadpacket.__name__] += 1
            return func(*args, **(kwargs or {}))

    inside = []
    monkeypatch.setattr(frame_runner, "capture_graph", lambda compute, device: lambda: inside.append(compute))
    backend = StandIn(step)
    run, pool = graph_runner(backend, step, [IMAGE_SIZE] * batch)
    buffers = [FrameBuffer((1, 2), pool) for _ in range(batch)]
    for number in range(3):
        with Counting():
            run([video[number]] * batch, buffers, [float(number)] * batch, number == 2)
    assert counts["copy_"] == 2 * 3 and set(counts) == {"copy_", "slice"}
    counts.clear()
    with Counting():
        inside[0]()
    assert counts["index_select"] >= 2 and counts["index_copy_"] == 2 and len(backend.addresses) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_graph_gives_the_labels_of_the_cpu(step, video):
    """Through a pool that grows, for two streams in turn."""
    import copy

    on_gpu = Step(copy.deepcopy(step.model), MEAN, STD, "cuda")
    graph, pool = graph_runner(create_backend("eager", on_gpu, SIZE), on_gpu, [IMAGE_SIZE])
    cpu, cpu_pool = cpu_runner(create_backend("eager", step, SIZE), step, [IMAGE_SIZE])
    streams = []
    for number, pixels in enumerate(video):
        if number < 3:
            streams.append((FrameBuffer((1, 2), pool), FrameBuffer((1, 2), cpu_pool)))
        for there, here in streams:
            (got,), *_ = graph([pixels], [there], [number / 10], False)
            (expected,), *_ = cpu([pixels], [here], [number / 10], False)
            assert (got == expected).mean() > 0.99
            there.push(number / 10)
            here.push(number / 10)
