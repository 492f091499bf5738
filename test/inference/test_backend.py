"""Backends: the same contract for every one that runs here, and what is said where one cannot be had."""

from __future__ import annotations

import copy
import dataclasses
import functools
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sdcpc_ros.inference import (
    BACKENDS,
    Backend,
    BackendError,
    Step,
    backend,
    check_backend,
    checked_device,
    create_backend,
)
from sdcpc_ros.inference.aot import PACKAGE
from sdcpc_ros.inference.cache import file_name
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.inference.step import example_inputs
from sdcpc_ros.network import SDCPC, FrameMemory, SDCPCConfig

MEAN, STD = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)  # as of the fixture `step`
SIZE = (64, 96)

#: By how much the logits of two backends may differ: sums in another order, and nothing else.
TOLERANCE = 1e-3


@pytest.mark.parametrize(("recurrent", "last"), [(True, (2,)), (False, (2, 7))])
def test_eager_gives_the_logits_of_the_clip_form(make_network, video, stream, recurrent, last):
    """A recurrent network's clip is a stream from its beginning; of another, every clip is."""
    network, streamed = make_network(), make_network()
    network.config = streamed.config = dataclasses.replace(network.config, recurrent=recurrent)
    step = Step(streamed, MEAN, STD)
    pixels = (video[None].permute(0, 1, 4, 2, 3) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    logits, _ = stream(create_backend("eager", step, SIZE), step, video)
    for frame in last:
        with torch.inference_mode():
            expected = network(pixels[:, [frame - 2, frame - 1, frame]]).logits[0]
        torch.testing.assert_close(logits[frame], expected, atol=1e-4, rtol=0)
    assert not logits.requires_grad


@pytest.mark.timeout(900)  # compiles, which takes minutes on a busy machine
@pytest.mark.parametrize("name", ["inductor", "aot"])
def test_every_backend_gives_eagers_labels(name, compiled: dict[str, Backend], step: Step, video, stream):
    logits, memories = stream(compiled[name], step, video)
    expected, expected_memories = stream(EagerBackend(step), step, video)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)
    assert (logits.argmax(1) == expected.argmax(1)).float().mean() >= 0.999
    for memory, other in zip(memories, expected_memories):
        for part, wanted in zip(memory, other):
            torch.testing.assert_close(part, wanted, atol=TOLERANCE, rtol=0)
    assert not logits.requires_grad


def test_a_package_is_found_again(compiled, step: Step, cache: Path, monkeypatch):
    """By a process that has no compiler, as on a robot."""
    assert [file.name for file in cache.iterdir()] == [file_name(PACKAGE, step, SIZE)]
    monkeypatch.setenv("CXX", "/nowhere/g++")
    check_backend("aot", step)
    create_backend("aot", step, SIZE)
    with pytest.raises(BackendError, match=r"no package '.*aot-64x64.*sdcpc export --format aot"):
        create_backend("aot", step, (64, 64))


def test_a_package_that_anyone_could_have_written_is_not_run(compiled, step: Step, cache: Path, tmp_path, monkeypatch):
    package = Path(shutil.copy(cache / file_name(PACKAGE, step, SIZE), tmp_path))
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    package.chmod(0o666)
    with pytest.raises(BackendError, match="writable by everyone"):
        create_backend("aot", step, SIZE)


def test_a_damaged_package_is_named(step: Step, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    (tmp_path / file_name(PACKAGE, step, SIZE)).write_bytes(b"half of it")
    with pytest.raises(BackendError, match="backend 'aot' could not be built for 96x64"):
        create_backend("aot", step, SIZE)


def test_a_package_takes_no_other_shapes_but_any_layout(compiled, step: Step, video):
    """The compiled code itself looks at neither, and would compute nonsense."""
    aot, nothing = compiled["aot"], torch.full((1, 2), -1.0)
    references = _blank(step)
    other_layout = video[:1].permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    logits = [aot.step(image, references, nothing)[0] for image in (video[:1], other_layout)]
    assert (logits[0] == logits[1]).all()
    with pytest.raises(ValueError, match=r"was compiled for \(1, 64, 96, 3\).*not \(1, 96, 64, 3\)"):
        aot.step(video[:1].transpose(1, 2), references, nothing)


@pytest.mark.parametrize("name", ["inductor", "aot"])
def test_a_missing_compiler_is_named(name, step: Step, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match=f"backend '{name}'.*there is no 'no-such-compiler' here") as caught:
        check_backend(name, step)
    assert "\n" not in str(caught.value)


def test_an_old_pytorch_is_named(step: Step, monkeypatch):
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path: None)
    with pytest.raises(BackendError, match=r"needs PyTorch 2\.7 or later; this is"):
        check_backend("aot", step)


def test_what_a_compiler_raises_becomes_a_sentence(step: Step, monkeypatch):
    def build(own: Step, size: tuple[int, int], batch: int) -> Backend:
        assert own is not step  # exporting swaps weights, and another thread may be running these
        raise RuntimeError("lowering failed\nand much more")

    monkeypatch.setitem(
        backend.REGISTRY, "inductor", SimpleNamespace(check=lambda step: None, build=build, batches=True)
    )
    with pytest.raises(BackendError, match=r"^backend 'inductor' could not be built for 96x64: lowering failed$"):
        create_backend("inductor", step, SIZE)
    with pytest.raises(BackendError, match=r"^backend 'inductor' could not be built for 96x64 in batches of 4: lower"):
        create_backend("inductor", step, SIZE, 4)


@pytest.mark.parametrize("name", ["aot", "onnxruntime", "tensorrt"])
def test_what_is_made_for_one_frame_refuses_a_batch(name, step: Step, monkeypatch):
    assert not backend.REGISTRY[name].batches
    monkeypatch.setitem(backend.REGISTRY, name, backend.REGISTRY[name]._replace(check=lambda step: None))
    with pytest.raises(BackendError, match=f"backend '{name}' runs one frame at a time, not 2"):
        create_backend(name, step, SIZE, 2)


def test_a_batch_is_as_its_frames_one_by_one(step: Step, video):
    """Each with its own references: all of them, none, or some. The sums are in another order, and nothing else."""
    eager = create_backend("eager", step, SIZE)
    _, memories = _single(eager, video, torch.full((len(video), 2), -1.0), _blank(step, len(video)))
    references = FrameMemory(*(torch.stack((part, part.roll(1, 0)), 1) for part in memories))
    age_s = torch.tensor([[0.1, 0.2], [-1.0, -1.0], [0.5, -1.0], [-1.0, 0.0]] * 2)
    logits, memory = eager.step(video, references, age_s)
    expected, expected_memory = _single(eager, video, age_s, references)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    for part, wanted in zip(memory, expected_memory):
        torch.testing.assert_close(part, wanted, atol=1e-4, rtol=0)


def _single(backend: Backend, video, age_s, references):
    """Logits and memories of the frames, each by itself."""
    outputs = []
    for index, image in enumerate(video):
        known = FrameMemory(*(part[index : index + 1] for part in references))
        outputs.append(backend.step(image[None], known, age_s[index : index + 1]))
    return torch.cat([logits for logits, _ in outputs]), [torch.cat(parts) for parts in zip(*(m for _, m in outputs))]


class Quick(Step):
    def forward(self, image, *rest):
        return (image.float(),) * 3


@pytest.fixture
def quick_step():
    return Quick(SDCPC(SDCPCConfig(2, encoder="resnet_tiny", embed_dim=16, key_dim=16)).eval(), MEAN, STD)


def test_the_compiler_takes_more_sizes_and_batches_than_pytorch_allows_by_itself(quick_step, monkeypatch):
    """Of one function it allows eight, for all cameras of a process together."""
    monkeypatch.setattr(torch, "compile", functools.partial(_compile_without_work, torch.compile))
    for batch in range(1, 6):
        for width in (64, 72):
            built = create_backend("inductor", quick_step, (64, width), batch)
            assert len(built.step(*_split(example_inputs(quick_step, (64, width), batch)))[0]) == batch


def test_frames_are_run_by_what_was_compiled_before_them(quick_step, monkeypatch):
    """PyTorch compiles tensors of inference mode apart from others, and a frame has none of these."""
    graphs = []

    def compile_and_count(compile_, step, **others):
        return compile_(step, backend=lambda graph, inputs: graphs.append(graph) or graph.forward, **others)

    monkeypatch.setattr(torch, "compile", functools.partial(compile_and_count, torch.compile))
    built = create_backend("inductor", quick_step, SIZE)
    assert len(graphs) == 1
    built.step(*_split(example_inputs(quick_step, SIZE)))
    assert len(graphs) == 1


def _compile_without_work(compile_, step, **others):
    return compile_(step, backend="eager", **others)


def _split(inputs):
    return inputs[0], FrameMemory(*inputs[1:-1]), inputs[-1]


def test_two_sizes_are_built_one_after_the_other(step: Step, monkeypatch):
    """PyTorch's tracers fail at random when two of them run at a time."""
    running, most = set(), []

    def build(own: Step, size: tuple[int, int], batch: int) -> Backend:
        running.add(size)
        most.append(len(running))
        time.sleep(0.05)  # time for the others to come in, if they may
        running.remove(size)
        return EagerBackend(own)

    monkeypatch.setitem(backend.REGISTRY, "inductor", SimpleNamespace(check=lambda step: None, build=build))
    threads = [
        threading.Thread(target=create_backend, args=("inductor", step, (64, 32 * number))) for number in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


@pytest.mark.timeout(900)  # compiles, which takes minutes on a busy machine
@pytest.mark.parametrize("name", ["eager", "inductor", "aot"])
def test_every_backend_ignores_what_a_missing_reference_holds(name, compiled: dict[str, Backend], step: Step, video):
    """Any finite number; and the age of the one that is there counts."""
    backend = {"eager": EagerBackend(step), **compiled}[name]
    _, memory = backend.step(video[:1], _blank(step), torch.full((1, 2), -1.0))
    known = FrameMemory(*(torch.stack((part, torch.zeros_like(part)), 1) for part in memory))
    poisoned = FrameMemory(*(torch.stack((part, torch.full_like(part, -1e30)), 1) for part in memory))
    logits = [
        backend.step(video[3:4], references, torch.tensor([[age_s, -1.0]]))[0].clone()
        for references, age_s in ((known, 0.1), (poisoned, 0.1), (known, 2.0))
    ]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=0)
    assert (logits[0] - logits[2]).abs().max() > TOLERANCE


def _blank(step: Step, batch: int = 1) -> FrameMemory:
    return FrameMemory(*(part[:, None].repeat(batch, 2, 1, 1, 1) for part in step.blank(SIZE)))


def test_a_step_can_be_copied_and_gives_the_same(step: Step, video, stream):
    logits, _ = stream(EagerBackend(copy.deepcopy(step)), step, video[:2])
    expected, _ = stream(EagerBackend(step), step, video[:2])
    assert (logits == expected).all()


def test_an_unknown_backend_is_named(step: Step):
    with pytest.raises(BackendError, match=f"one of {', '.join(BACKENDS)}"):
        create_backend("fast", step, SIZE)


@pytest.mark.parametrize(("device", "message"), [("gpu", "not a device"), ("mps", "not supported")])
def test_an_unknown_device_is_named(device, message):
    with pytest.raises(BackendError, match=message):
        checked_device(device)
