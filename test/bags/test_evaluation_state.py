from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdcpc_ros.bags.errors import StateError
from sdcpc_ros.bags.evaluation_state import LARGEST_SHARE, StateKeeper, read_state, write_state

FACTS = {"the bag": ["drive", [["drive.mcap", 7, 8]]], "the model": "0" * 64}
STATE = {
    "image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    "none": None,
    "rows": [{"at": np.array([], np.float64), "sum": 0.1 + 0.2}, {"at": np.array([1.5, np.nan])}],
    "counts": np.array([[1, 2**40]], np.int64).T,
    "flag": np.array([True, False]),
}


def test_a_state_comes_back_as_it_was(tmp_path):
    path = tmp_path / "evaluation.state"
    assert read_state(path, FACTS) is None
    write_state(path, FACTS, STATE)
    state = read_state(path, FACTS)
    np.testing.assert_array_equal(state["image"], STATE["image"])
    assert state["image"].dtype == np.uint8 and state["image"].flags.writeable
    assert state["rows"][0]["at"].shape == (0,) and state["rows"][0]["sum"] == 0.1 + 0.2 and state["none"] is None
    np.testing.assert_array_equal(state["rows"][1]["at"], [1.5, np.nan])
    assert state["counts"].tolist() == [[1], [2**40]] and state["flag"].tolist() == [True, False]
    assert os.listdir(tmp_path) == ["evaluation.state"]


def test_what_has_changed_since_is_named(tmp_path):
    write_state(tmp_path / "state", FACTS, STATE)
    changed = {**FACTS, "the bag": ["drive", [["drive.mcap", 7, 9]]], "a version": "2"}
    with pytest.raises(StateError, match=r"what it was made with has changed since: a version, the bag$"):
        read_state(tmp_path / "state", changed)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_state_is_not_used(tmp_path, data):
    path = tmp_path / "state"
    write_state(path, FACTS, STATE)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(StateError, match="it is damaged"):
        read_state(path, FACTS)


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "state"
    write_state(path, FACTS, {"at": 1})
    with pytest.raises(TypeError):
        write_state(path, FACTS, {"at": object()})
    assert read_state(path, FACTS) == {"at": 1}


def test_saving_takes_no_more_than_its_share(tmp_path):
    """A clock of which saving takes four seconds: the next save comes when that is a hundredth of the time."""
    now = 0.0
    keeper = StateKeeper(tmp_path / "state", FACTS, 30.0, clock=lambda: now)

    def make() -> dict[str, float]:
        nonlocal now
        now += 4.0
        return {"now": now}

    saved = []
    while now < 2000:
        now += 1.0
        if keeper.save_if_due(make):
            saved.append(now)
    assert saved[0] == 30 + 4
    gaps = np.diff(saved)
    assert len(gaps) >= 3 and (gaps >= 4 / LARGEST_SHARE).all() and (gaps <= 4 / LARGEST_SHARE + 5).all()
