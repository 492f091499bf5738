"""BackendManager: who serves while a backend is built, when it cannot be, and what is said of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.inference import Backend, BackendError, BackendManager, Step, backend
from sdcpc_ros.inference.aot import PACKAGE
from sdcpc_ros.inference.backend_manager import batch_sizes
from sdcpc_ros.inference.cache import file_name
from sdcpc_ros.inference.eager import EagerBackend

SIZE = (64, 96)


class Workshop:
    """Stands in for a compiler: builds when allowed to, or fails with `error`, or lacks `missing`."""

    def __init__(self) -> None:
        self.may_finish = threading.Event()
        self.error: Exception | None = None
        self.missing = ""
        self.sizes: list[tuple[int, int]] = []
        self.batches: list[int] = []
        self.kind = SimpleNamespace(check=self.check, build=self.build, batches=True)

    def check(self, step: Step) -> None:
        if self.missing:
            raise BackendError(self.missing)

    def build(self, step: Step, size: tuple[int, int], batch: int) -> Backend:
        self.sizes.append(size)
        self.batches.append(batch)
        assert self.may_finish.wait(30)
        if self.error is not None:
            raise self.error
        return EagerBackend(step)


@pytest.fixture
def workshop(monkeypatch):
    workshop = Workshop()
    monkeypatch.setitem(backend.REGISTRY, "inductor", workshop.kind)
    yield workshop
    workshop.may_finish.set()  # threads end


def _wait_for_builds(deadline_s: float = 30) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("build "):
            thread.join(deadline_s)


def test_eager_serves_until_the_backend_is_built(step, workshop):
    manager = BackendManager("inductor", step, background=True, fallback=False)
    assert (manager.status.state, str(manager.status)) == ("ready", "inductor")
    eager = manager.backend(SIZE)
    assert isinstance(eager, EagerBackend) and manager.backend(SIZE) is eager
    assert manager.status.state == "building"
    assert re.search(r"eager, while inductor is prepared for 96x64 \(\d+ s so far\)", str(manager.status))
    workshop.may_finish.set()
    _wait_for_builds()
    assert manager.backend(SIZE) is not eager and manager.backend(SIZE) is manager.backend(SIZE)
    assert manager.status.state == "ready" and workshop.sizes == [SIZE]


def test_each_size_is_built_once_on_its_own(step, workshop):
    manager = BackendManager("inductor", step, background=True, fallback=False)
    workshop.may_finish.set()
    manager.backend(SIZE)
    _wait_for_builds()
    first = manager.backend(SIZE)
    workshop.may_finish.clear()
    assert manager.backend((32, 32)) is not first and manager.status.state == "building"
    assert manager.backend(SIZE) is first  # the other size goes on
    workshop.may_finish.set()
    _wait_for_builds()
    manager.backend((32, 32))
    assert workshop.sizes == [SIZE, (32, 32)]


def test_without_a_background_the_first_frame_waits(step, workshop):
    manager = BackendManager("inductor", step, background=False, fallback=False)
    served = []
    threads = [threading.Thread(target=lambda: served.append(manager.backend(SIZE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert not served
    workshop.may_finish.set()
    for thread in threads:
        thread.join(30)
    assert len(served) == 3 and len(set(map(id, served))) == 1 and workshop.sizes == [SIZE]


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("error", [BackendError("no room"), ValueError("no room"), OSError(28, "no room")])
def test_a_build_that_fails_is_an_error_unless_eager_will_do(step, workshop, error, background):
    workshop.error = error
    workshop.may_finish.set()
    strict = BackendManager("inductor", step, background=background, fallback=False)
    if background:
        strict.backend(SIZE)
        _wait_for_builds()
    for _ in range(2):  # at every frame, and built once only
        with pytest.raises(BackendError, match="no room"):
            strict.backend(SIZE)
    assert strict.status.state == "failed" and "no room" in str(strict.status)
    assert workshop.sizes == [SIZE]

    lenient = BackendManager("inductor", step, background=background, fallback=True)
    lenient.backend(SIZE)
    _wait_for_builds()
    assert isinstance(lenient.backend(SIZE), EagerBackend)
    assert lenient.status.state == "fallback" and str(lenient.status).startswith("eager: ")
    assert "no room" in str(lenient.status)


def test_what_is_missing_is_an_error_unless_eager_will_do(step, workshop):
    workshop.missing = "no compiler"
    with pytest.raises(BackendError, match="no compiler"):
        BackendManager("inductor", step, background=True, fallback=False)
    lenient = BackendManager("inductor", step, background=True, fallback=True)
    assert isinstance(lenient.backend(SIZE), EagerBackend) and workshop.sizes == []
    assert (lenient.status.state, str(lenient.status)) == ("fallback", "eager: no compiler")


@pytest.fixture
def on_gpu(monkeypatch):
    """auto decides as on a GPU; what it then builds, `workshop` does."""
    monkeypatch.setattr(backend, "runs_on_gpu", lambda step: True)


def test_auto_on_a_gpu_builds_inductor_in_the_background(step, workshop, on_gpu):
    manager = BackendManager("auto", step, background=False, fallback=False)
    eager = manager.backend(SIZE)
    assert isinstance(eager, EagerBackend) and manager.batch_size(SIZE, 4, 4) == 4
    assert "eager, while inductor is prepared for 96x64 (auto: compiled for this GPU; 0 s" in str(manager.status)
    workshop.may_finish.set()
    _wait_for_builds()
    assert manager.backend(SIZE) is not eager and workshop.sizes == [SIZE]
    assert (manager.status.state, str(manager.status)) == ("ready", "inductor (auto: compiled for this GPU)")


def test_auto_stays_eager_when_inductor_cannot_be_built(step, workshop, on_gpu):
    workshop.error = ValueError("no room")
    workshop.may_finish.set()
    manager = BackendManager("auto", step, background=False, fallback=False)
    manager.backend(SIZE)
    _wait_for_builds()
    assert isinstance(manager.backend(SIZE), EagerBackend) and manager.batch_size(SIZE, 4, 4) == 4
    assert manager.status.state == "fallback" and re.match("eager: .*inductor.*no room", str(manager.status))


def test_auto_on_a_gpu_without_a_compiler_is_eager_and_says_so(step, workshop, on_gpu, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    manager = BackendManager("auto", step, background=False, fallback=False)
    assert isinstance(manager.backend(SIZE), EagerBackend) and workshop.sizes == []
    assert manager.status.state == "ready"
    assert re.match(r"eager \(auto: .*there is no 'no-such-compiler' here", str(manager.status))


def test_auto_on_a_cpu_compiles_nothing_unless_it_may_in_the_background(step, tmp_path, monkeypatch):
    """Not even where a package of another size or network is cached."""
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    (tmp_path / file_name(PACKAGE, step, (32, 32))).touch()
    name = file_name(PACKAGE, step, SIZE)
    (tmp_path / f"{name[:-20]}0123456789abcdef.pt2").touch()
    threads = threading.enumerate()
    manager = BackendManager("auto", step, background=False, fallback=False)
    assert str(manager.status) == "auto: chosen at the first frame"
    assert isinstance(manager.backend(SIZE), EagerBackend) and manager.batch_size(SIZE, 4, 4) == 4
    assert threading.enumerate() == threads and manager.status.state == "ready"
    assert re.match(r"eager \(auto: no ahead-of-time package for 96x64 .*sdcpc export.*aot", str(manager.status))


def test_auto_on_a_cpu_without_a_compiler_is_eager_and_says_so(step, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    manager = BackendManager("auto", step, background=True, fallback=False)
    assert isinstance(manager.backend(SIZE), EagerBackend) and manager.status.state == "ready"
    assert re.match(r"eager \(auto: .*there is no 'g\+\+' here", str(manager.status))


@pytest.mark.slow
@pytest.mark.timeout(900)  # compiles
@pytest.mark.skipif(shutil.which("g++") is None, reason="a package is compiled with g++")
def test_auto_on_a_cpu_compiles_a_package_in_the_background(step, video, stream, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    manager = BackendManager("auto", step, background=True, fallback=False)
    eager = manager.backend(SIZE)
    assert isinstance(eager, EagerBackend)
    assert "eager, while aot is prepared for 96x64 (auto: compiled for this processor; 0 s" in str(manager.status)
    _wait_for_builds(600)
    assert (manager.status.state, str(manager.status)) == ("ready", "aot (auto: compiled for this processor)")
    assert [path.name for path in tmp_path.iterdir()] == [file_name(PACKAGE, step, SIZE)]  # nothing else is left
    expected, got = (stream(backend, step, video)[0] for backend in (eager, manager.backend(SIZE)))
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


@pytest.mark.timeout(900)  # compiles the package, if no other test has
def test_auto_on_a_cpu_loads_a_cached_package(step, cache, video, stream):
    manager = BackendManager("auto", step, background=False, fallback=False)
    eager = manager.backend(SIZE)  # begins to load
    _wait_for_builds()
    loaded = manager.backend(SIZE)
    assert isinstance(eager, EagerBackend) and not isinstance(loaded, EagerBackend)
    assert str(manager.status) == f"aot (auto: package '{file_name(PACKAGE, step, SIZE)}' is cached)"
    assert manager.batching_disabled_reason == "backend 'aot' runs one frame at a time"
    expected, got = (stream(backend, step, video)[0] for backend in (eager, loaded))
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


def test_auto_runs_eagerly_when_the_cached_package_is_broken(step, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    (tmp_path / file_name(PACKAGE, step, SIZE)).write_bytes(b"no package")
    manager = BackendManager("auto", step, background=False, fallback=False)
    manager.backend(SIZE)
    _wait_for_builds()
    assert isinstance(manager.backend(SIZE), EagerBackend)
    assert manager.status.state == "fallback" and "backend 'aot' could not be built for 96x64" in str(manager.status)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_may_end_while_a_backend_is_built(robot_model):
    """PyTorch's compilers abort the process if the interpreter ends before they do."""
    script = (
        "import sys, threading, time, numpy as np\n"
        "from sdcpc_ros import StreamingSegmenter\n"
        "s = StreamingSegmenter(sys.argv[1], device='cpu', backend='inductor', background_build=True)\n"
        "s.segment(np.zeros((64, 96, 3), np.uint8)); time.sleep(2)\n"
        "assert s.backend_status.state == 'building'"
    )
    environment = {**os.environ, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run([sys.executable, "-c", script, str(robot_model)], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_no_fallback_excuses_a_name_that_no_backend_has(step):
    with pytest.raises(BackendError, match="one of auto, eager"):
        BackendManager("induktor", step, background=True, fallback=True)


@given(st.integers(1, 64), st.integers(0, 64))
def test_batches_come_in_few_sizes_and_all_frames_find_one(most, waiting):
    sizes = batch_sizes(most)
    assert sizes == tuple(sorted(set(sizes))) and sizes[0] == 1 and sizes[-1] == most and len(sizes) <= 8
    step = SimpleNamespace(model=SimpleNamespace(compiles=True))
    assert BackendManager("eager", step, background=True, fallback=False).batch_size(SIZE, waiting, most) in sizes
    passes, left = 0, waiting
    while left > 0:
        left -= max(size for size in sizes if size <= left)
        passes += 1
    assert left == 0 and passes <= max(1, most.bit_length()) + waiting // most


def test_a_batch_is_built_while_frames_go_one_by_one(step, workshop):
    manager = BackendManager("inductor", step, background=True, fallback=False)
    workshop.may_finish.set()
    manager.backend(SIZE)
    _wait_for_builds()
    workshop.may_finish.clear()
    assert manager.batch_size(SIZE, 1, 4) == 1 and workshop.batches == [1]  # nothing to build for one
    assert manager.batch_size(SIZE, 3, 4) == 1  # two of three are to go together
    assert manager.batch_size(SIZE, 4, 4) == 1  # not another build beside it
    assert manager.status.state == "ready" and "built for 2 frames at a time" in manager.batching_disabled_reason
    workshop.may_finish.set()
    _wait_for_builds()
    assert manager.batch_size(SIZE, 3, 4) == 2 and manager.batching_disabled_reason == ""
    manager.batch_size(SIZE, 4, 4)  # begins
    _wait_for_builds()
    assert manager.batch_size(SIZE, 4, 4) == 4 and workshop.batches == [1, 2, 4]
    assert len({id(manager.backend(SIZE, batch)) for batch in (1, 2, 4)}) == 3


def test_eager_takes_batches_until_the_backend_is_built(step, workshop):
    manager = BackendManager("inductor", step, background=True, fallback=False)
    assert manager.batch_size(SIZE, 4, 4) == 4 and isinstance(manager.backend(SIZE, 4), EagerBackend)
    assert manager.status.state == "building"


def test_a_batch_that_cannot_be_built_costs_the_batch_only(step, workshop):
    manager = BackendManager("inductor", step, background=False, fallback=False)
    workshop.may_finish.set()
    single = manager.backend(SIZE)
    workshop.error = BackendError("no room")
    for _ in range(2):  # tried once
        assert manager.batch_size(SIZE, 2, 4) == 1
    assert workshop.batches == [1, 2] and manager.backend(SIZE) is single
    assert manager.status.state == "ready" and manager.batching_disabled_reason == "no room"


def test_what_is_made_for_one_frame_says_so(step, workshop):
    workshop.kind.batches = False
    workshop.may_finish.set()
    manager = BackendManager("inductor", step, background=False, fallback=True)
    assert manager.batch_size(SIZE, 4, 4) == 1 and workshop.batches == [1]
    assert manager.batching_disabled_reason == "backend 'inductor' runs one frame at a time"
    workshop.error = BackendError("no room")
    assert manager.batch_size((32, 32), 4, 4) == 4  # by eager, to which it fell back there
    missing = BackendManager("tensorrt", step, background=False, fallback=True)
    assert missing.batch_size(SIZE, 4, 4) == 4 and missing.batching_disabled_reason == ""


@pytest.mark.timeout(900)  # compiles, which takes minutes on a busy machine
def test_no_frame_is_lost_to_a_real_build(swap, step, video, stream):
    """Every frame had its logits, from eager first and then from the compiled network, and they are the same."""
    changes = [state for state, before in zip(swap.states, [None, *swap.states]) if state != before]
    assert changes == ["ready", "building", "ready"]
    assert swap.states.count("building") > 2 and not isinstance(swap.backend, EagerBackend)
    expected = stream(EagerBackend(step), step, video[:1])[0][0]
    for logits in swap.logits:
        torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
