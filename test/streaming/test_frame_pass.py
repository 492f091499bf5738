"""The two ways of a frame from pixels to labels: the one for GPUs, whose plain parts run here too, and the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdcpc_ros.inference import Step, create_backend
from sdcpc_ros.streaming.frame_buffer import FrameBuffer
from sdcpc_ros.streaming.frame_pass import DevicePass, HostPass, PassInput

SIZE, IMAGE_SIZE = (64, 96), (130, 190)


@pytest.fixture(scope="module")
def step(make_network):
    return Step(make_network(), (110.0, 115.0, 120.0), (60.0, 61.0, 62.0))


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_ways_lead_to_the_same_labels(make_network, video, dtype):
    step = Step(make_network(), (110.0, 115.0, 120.0), (60.0, 61.0, 62.0), dtype=dtype)
    backend = create_backend("eager", step, SIZE)
    host, device = HostPass(backend, [IMAGE_SIZE]), DevicePass(backend, step, SIZE, [IMAGE_SIZE])
    buffer = FrameBuffer((1, 2), step.blank(SIZE))
    for number, pixels in enumerate(video):
        frames = [PassInput(pixels, *buffer.references(number / 10), True)]
        (expected,), (got,) = host(frames), device(frames)
        assert got.labels.shape == IMAGE_SIZE and got.labels.dtype == np.uint8
        assert (got.labels == expected.labels).mean() > 0.999
        np.testing.assert_allclose(got.probability, expected.probability, atol=1e-6)
        for part, other in zip(got.memory, expected.memory):
            torch.testing.assert_close(part, other, atol=1e-6, rtol=0)
        buffer.push(got.memory, number / 10)


def test_a_batch_leads_where_its_frames_lead_one_by_one(step, video):
    """Also of images of several sizes, with and without a probability, and with buffers that are filled unequally."""
    backend = create_backend("eager", step, SIZE)
    sizes = (IMAGE_SIZE, (64, 96), IMAGE_SIZE)
    together = HostPass(backend, sizes), DevicePass(backend, step, SIZE, sizes)
    buffers = [FrameBuffer((1, 2), step.blank(SIZE)) for _ in sizes]
    for turn, images in enumerate(zip(video, video[::-1], video[2:])):
        inputs = enumerate(zip(images, buffers))
        frames = [PassInput(image, *buffer.references((i + 1) * turn / 10), i != 1) for i, (image, buffer) in inputs]
        expected = [HostPass(backend, [size])([frame])[0] for frame, size in zip(frames, sizes)]
        for run in together:
            for got, wanted, size in zip(run(frames), expected, sizes):
                assert got.labels.shape == size and (got.labels == wanted.labels).mean() > 0.999
                assert (got.probability is None) == (wanted.probability is None)
                if got.probability is not None:
                    np.testing.assert_allclose(got.probability, wanted.probability, atol=1e-5)
                for part, other in zip(got.memory, wanted.memory):
                    torch.testing.assert_close(part, other, atol=1e-5, rtol=0)
        for index, (buffer, result) in enumerate(zip(buffers, expected)):
            if turn >= index:
                buffer.push(result.memory, (index + 1) * turn / 10)


@pytest.mark.parametrize("way", ["host", "device"])
def test_the_age_of_a_reference_reaches_the_network(step, video, way):
    backend = create_backend("eager", step, SIZE)
    run = HostPass(backend, [SIZE]) if way == "host" else DevicePass(backend, step, SIZE, [SIZE])
    buffer = FrameBuffer((1, 2), step.blank(SIZE))
    for number, pixels in enumerate(video[:2]):
        (result,) = run([PassInput(pixels, *buffer.references(number / 10))])
        buffer.push(result.memory, number / 10)
    soon, late, again = (
        run([PassInput(video[2], *buffer.references(stamp_s), True)])[0].probability for stamp_s in (0.2, 4.0, 0.2)
    )
    assert (soon == again).all() and np.abs(soon - late).max() > 1e-4


def test_what_is_handed_out_outlives_the_next_frame(step, video):
    device = DevicePass(create_backend("eager", step, SIZE), step, SIZE, [IMAGE_SIZE])
    references = FrameBuffer((1, 2), step.blank(SIZE)).references(0.0)
    (first,) = device([PassInput(video[0], *references, True)])
    labels, probability = first.labels.copy(), first.probability.copy()
    device([PassInput(video[1], *references, True)])
    assert (first.labels == labels).all() and (first.probability == probability).all()


def test_inputs_stay_where_they_are(step, video):
    """A graph reads from where it was captured: the backend must be given the same addresses for every frame."""
    seen = set()

    class Watching:
        def step(self, image, references, age_s):
            seen.add(tuple(part.data_ptr() for part in (image, *references, age_s)))
            return eager.step(image, references, age_s)

    eager = create_backend("eager", step, SIZE)
    device = DevicePass(Watching(), step, SIZE, [IMAGE_SIZE])
    buffer = FrameBuffer((1, 2), step.blank(SIZE))
    for number, pixels in enumerate(video):
        (result,) = device([PassInput(pixels, *buffer.references(number / 10))])
        buffer.push(result.memory, number / 10)
    assert len(seen) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_graph_gives_the_labels_of_the_cpu(step, video):
    import copy

    on_gpu = Step(copy.deepcopy(step.model), (110.0, 115.0, 120.0), (60.0, 61.0, 62.0), "cuda")
    device = DevicePass(create_backend("eager", on_gpu, SIZE), on_gpu, SIZE, [IMAGE_SIZE])
    host = HostPass(create_backend("eager", step, SIZE), [IMAGE_SIZE])
    there, here = FrameBuffer((1, 2), on_gpu.blank(SIZE)), FrameBuffer((1, 2), step.blank(SIZE))
    for number, pixels in enumerate(video):
        (got,) = device([PassInput(pixels, *there.references(number / 10))])
        (expected,) = host([PassInput(pixels, *here.references(number / 10))])
        assert (got.labels == expected.labels).mean() > 0.99
        there.push(got.memory, number / 10)
        here.push(expected.memory, number / 10)
