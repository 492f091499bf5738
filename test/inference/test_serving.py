"""BackendSwitch: who serves while a backend is built, when it cannot be, and what is said of it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.inference import Backend, BackendError, BackendSwitch, Step, backend
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.inference.serving import batch_sizes

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
    monkeypatch.setitem(backend._REGISTRY, "inductor", workshop.kind)
    yield workshop
    workshop.may_finish.set()  # threads end


def _wait(switch: BackendSwitch) -> None:
    for build in list(switch._building.values()):
        build.thread.join(30)


def test_eager_serves_until_the_backend_is_built(step, workshop):
    switch = BackendSwitch("inductor", step, background=True, fallback=False)
    assert (switch.status.state, str(switch.status)) == ("ready", "inductor")
    eager = switch.backend(SIZE)
    assert isinstance(eager, EagerBackend) and switch.backend(SIZE) is eager
    assert switch.status.state == "building"
    assert "eager, while inductor is built for 96x64 (0 s so far)" in str(switch.status)
    workshop.may_finish.set()
    _wait(switch)
    assert switch.backend(SIZE) is not eager and switch.backend(SIZE) is switch.backend(SIZE)
    assert switch.status.state == "ready" and workshop.sizes == [SIZE]


def test_each_size_is_built_once_on_its_own(step, workshop):
    switch = BackendSwitch("inductor", step, background=True, fallback=False)
    workshop.may_finish.set()
    switch.backend(SIZE)
    _wait(switch)
    first = switch.backend(SIZE)
    workshop.may_finish.clear()
    assert switch.backend((32, 32)) is not first and switch.status.state == "building"
    assert switch.backend(SIZE) is first  # the other size goes on
    workshop.may_finish.set()
    _wait(switch)
    switch.backend((32, 32))
    assert workshop.sizes == [SIZE, (32, 32)]


def test_without_a_background_the_first_frame_waits(step, workshop):
    switch = BackendSwitch("inductor", step, background=False, fallback=False)
    served = []
    threads = [threading.Thread(target=lambda: served.append(switch.backend(SIZE))) for _ in range(3)]
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
    strict = BackendSwitch("inductor", step, background=background, fallback=False)
    if background:
        strict.backend(SIZE)
        _wait(strict)
    for _ in range(2):  # at every frame, and built once only
        with pytest.raises(BackendError, match="no room"):
            strict.backend(SIZE)
    assert strict.status.state == "failed" and "no room" in str(strict.status)
    assert workshop.sizes == [SIZE]

    lenient = BackendSwitch("inductor", step, background=background, fallback=True)
    lenient.backend(SIZE)
    _wait(lenient)
    assert isinstance(lenient.backend(SIZE), EagerBackend)
    assert lenient.status.state == "fallback" and str(lenient.status).startswith("eager: ")
    assert "no room" in str(lenient.status)


def test_what_is_missing_is_an_error_unless_eager_will_do(step, workshop):
    workshop.missing = "no compiler"
    with pytest.raises(BackendError, match="no compiler"):
        BackendSwitch("inductor", step, background=True, fallback=False)
    lenient = BackendSwitch("inductor", step, background=True, fallback=True)
    assert isinstance(lenient.backend(SIZE), EagerBackend) and workshop.sizes == []
    assert (lenient.status.state, str(lenient.status)) == ("fallback", "eager: no compiler")


def test_no_fallback_excuses_a_name_that_no_backend_has(step):
    with pytest.raises(BackendError, match="one of eager"):
        BackendSwitch("induktor", step, background=True, fallback=True)


@given(st.integers(1, 64), st.integers(0, 64))
def test_batches_come_in_few_sizes_and_all_frames_find_one(most, waiting):
    sizes = batch_sizes(most)
    assert sizes == tuple(sorted(set(sizes))) and sizes[0] == 1 and sizes[-1] == most and len(sizes) <= 8
    step = SimpleNamespace()
    assert BackendSwitch("eager", step, background=True, fallback=False).batch_size(SIZE, waiting, most) in sizes
    passes, left = 0, waiting
    while left > 0:
        left -= max(size for size in sizes if size <= left)
        passes += 1
    assert left == 0 and passes <= max(1, most.bit_length()) + waiting // most


def test_a_batch_is_built_while_frames_go_one_by_one(step, workshop):
    switch = BackendSwitch("inductor", step, background=True, fallback=False)
    workshop.may_finish.set()
    switch.backend(SIZE)
    _wait(switch)
    workshop.may_finish.clear()
    assert switch.batch_size(SIZE, 1, 4) == 1 and workshop.batches == [1]  # nothing to build for one
    assert switch.batch_size(SIZE, 3, 4) == 1  # two of three are to go together
    assert switch.batch_size(SIZE, 4, 4) == 1  # not another build beside it
    assert switch.status.state == "ready" and "built for 2 frames at a time" in switch.batch_obstacle
    workshop.may_finish.set()
    _wait(switch)
    assert switch.batch_size(SIZE, 3, 4) == 2 and switch.batch_obstacle == ""
    switch.batch_size(SIZE, 4, 4)  # begins
    _wait(switch)
    assert switch.batch_size(SIZE, 4, 4) == 4 and workshop.batches == [1, 2, 4]
    assert len({id(switch.backend(SIZE, batch)) for batch in (1, 2, 4)}) == 3


def test_eager_takes_batches_until_the_backend_is_built(step, workshop):
    switch = BackendSwitch("inductor", step, background=True, fallback=False)
    assert switch.batch_size(SIZE, 4, 4) == 4 and isinstance(switch.backend(SIZE, 4), EagerBackend)
    assert switch.status.state == "building"


def test_a_batch_that_cannot_be_built_costs_the_batch_only(step, workshop):
    switch = BackendSwitch("inductor", step, background=False, fallback=False)
    workshop.may_finish.set()
    single = switch.backend(SIZE)
    workshop.error = BackendError("no room")
    for _ in range(2):  # tried once
        assert switch.batch_size(SIZE, 2, 4) == 1
    assert workshop.batches == [1, 2] and switch.backend(SIZE) is single
    assert switch.status.state == "ready" and switch.batch_obstacle == "no room"


def test_what_is_made_for_one_frame_says_so(step, workshop):
    workshop.kind.batches = False
    workshop.may_finish.set()
    switch = BackendSwitch("inductor", step, background=False, fallback=True)
    assert switch.batch_size(SIZE, 4, 4) == 1 and workshop.batches == [1]
    assert switch.batch_obstacle == "backend 'inductor' runs one frame at a time"
    workshop.error = BackendError("no room")
    assert switch.batch_size((32, 32), 4, 4) == 4  # by eager, to which it fell back there
    missing = BackendSwitch("tensorrt", step, background=False, fallback=True)
    assert missing.batch_size(SIZE, 4, 4) == 4 and missing.batch_obstacle == ""


@pytest.mark.timeout(900)  # compiles, which takes minutes on a busy machine
def test_no_frame_is_lost_to_a_real_build(swap, step, video, stream):
    """Every frame had its logits, from eager first and then from the compiled network, and they are the same."""
    changes = [state for state, before in zip(swap.states, [None, *swap.states]) if state != before]
    assert changes == ["ready", "building", "ready"]
    assert swap.states.count("building") > 2 and not isinstance(swap.backend, EagerBackend)
    expected = stream(EagerBackend(step), step, video[:1])[0][0]
    for logits in swap.logits:
        torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
