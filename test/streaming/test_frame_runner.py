"""The runners for CPUs and GPUs: equal labels, probabilities and memories. Without a GPU the latter runs on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdcpc_ros.inference import Step, create_backend
from sdcpc_ros.streaming.frame_buffer import FrameBuffer
from sdcpc_ros.streaming.frame_runner import CpuRunner, CudaGraphRunner

SIZE, IMAGE_SIZE = (64, 96), (130, 190)


@pytest.fixture(scope="module")
def step(make_network):
    return Step(make_network(), (110.0, 115.0, 120.0), (60.0, 61.0, 62.0))


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("groups", [None, torch.tensor([0, 0, 1, 2, 1])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_runners_give_the_same_labels(make_network, video, groups, dtype):
    step = Step(make_network(), (110.0, 115.0, 120.0), (60.0, 61.0, 62.0), dtype=dtype)
    backend = create_backend("eager", step, SIZE)
    cpu = CpuRunner(backend, [IMAGE_SIZE], groups)
    graph = CudaGraphRunner(backend, step, SIZE, [IMAGE_SIZE], groups)
    buffer = FrameBuffer((1, 2), step.blank(SIZE))
    for number, pixels in enumerate(video):
        references = [buffer.references(number / 10)]
        (expected,), expected_probability, expected_memory, _ = cpu([pixels], references, True)
        (got,), probability, memory, _ = graph([pixels], references, True)
        assert got.shape == IMAGE_SIZE and got.dtype == np.uint8
        assert (got == expected).mean() > 0.999
        np.testing.assert_allclose(probability, expected_probability, atol=1e-6)
        for part, other in zip(memory, expected_memory):
            torch.testing.assert_close(part, other, atol=1e-6, rtol=0)
        buffer.push(memory, number / 10)


def test_a_batch_gives_the_labels_of_its_frames_one_by_one(step, video):
    """Also for images of several sizes, with and without a probability, and with unequally filled buffers."""
    backend = create_backend("eager", step, SIZE)
    sizes = (IMAGE_SIZE, (64, 96), IMAGE_SIZE)
    together = CpuRunner(backend, sizes), CudaGraphRunner(backend, step, SIZE, sizes)
    buffers = [FrameBuffer((1, 2), step.blank(SIZE)) for _ in sizes]
    for turn, images in enumerate(zip(video, video[::-1], video[2:])):
        references = [buffer.references((i + 1) * turn / 10) for i, buffer in enumerate(buffers)]
        expected = [
            CpuRunner(backend, [size])([image], [own], True) for image, own, size in zip(images, references, sizes)
        ]
        for run in together:
            labels, probability, memory, _ = run(images, references, turn != 1)
            assert (probability is None) == (turn == 1)
            for index, ((wanted,), wanted_probability, wanted_memory, _) in enumerate(expected):
                assert labels[index].shape == sizes[index] and (labels[index] == wanted).mean() > 0.999
                if probability is not None:
                    np.testing.assert_allclose(probability[index], wanted_probability[0], atol=1e-5)
                for part, other in zip(memory, wanted_memory):
                    torch.testing.assert_close(part[index : index + 1], other, atol=1e-5, rtol=0)
        for index, (buffer, (_, _, memory, _)) in enumerate(zip(buffers, expected)):
            if turn >= index:
                buffer.push(memory, (index + 1) * turn / 10)


@pytest.mark.parametrize("kind", ["cpu", "graph"])
def test_the_age_of_a_reference_reaches_the_network(step, video, kind):
    backend = create_backend("eager", step, SIZE)
    run = CpuRunner(backend, [SIZE]) if kind == "cpu" else CudaGraphRunner(backend, step, SIZE, [SIZE])
    buffer = FrameBuffer((1, 2), step.blank(SIZE))
    for number, pixels in enumerate(video[:2]):
        _, _, memory, _ = run([pixels], [buffer.references(number / 10)], False)
        buffer.push(memory, number / 10)
    soon, late, again = (run([video[2]], [buffer.references(stamp_s)], True)[1] for stamp_s in (0.2, 4.0, 0.2))
    assert (soon == again).all() and np.abs(soon - late).max() > 1e-4


def test_outputs_outlive_the_next_run(step, video):
    run = CudaGraphRunner(create_backend("eager", step, SIZE), step, SIZE, [IMAGE_SIZE])
    references = [FrameBuffer((1, 2), step.blank(SIZE)).references(0.0)]
    (labels,), probability, *_ = run([video[0]], references, True)
    kept = labels.copy(), probability.copy()
    run([video[1]], references, True)
    assert (labels == kept[0]).all() and (probability == kept[1]).all()


def test_inputs_stay_at_their_addresses(step, video):
    """A graph reads from where it was captured: the backend must be given the same addresses for every frame."""
    seen = set()

    class Watching:
        def step(self, image, references, age_s):
            seen.add(tuple(part.data_ptr() for part in (image, *references, age_s)))
            return eager.step(image, references, age_s)

    eager = create_backend("eager", step, SIZE)
    run = CudaGraphRunner(Watching(), step, SIZE, [IMAGE_SIZE])
    buffer = FrameBuffer((1, 2), step.blank(SIZE))
    for number, pixels in enumerate(video):
        _, _, memory, _ = run([pixels], [buffer.references(number / 10)], False)
        buffer.push(memory, number / 10)
    assert len(seen) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_graph_gives_the_labels_of_the_cpu(step, video):
    import copy

    on_gpu = Step(copy.deepcopy(step.model), (110.0, 115.0, 120.0), (60.0, 61.0, 62.0), "cuda")
    graph = CudaGraphRunner(create_backend("eager", on_gpu, SIZE), on_gpu, SIZE, [IMAGE_SIZE])
    cpu = CpuRunner(create_backend("eager", step, SIZE), [IMAGE_SIZE])
    there, here = FrameBuffer((1, 2), on_gpu.blank(SIZE)), FrameBuffer((1, 2), step.blank(SIZE))
    for number, pixels in enumerate(video):
        (got,), _, memory, _ = graph([pixels], [there.references(number / 10)], False)
        (expected,), _, expected_memory, _ = cpu([pixels], [here.references(number / 10)], False)
        assert (got == expected).mean() > 0.99
        there.push(memory, number / 10)
        here.push(expected_memory, number / 10)
