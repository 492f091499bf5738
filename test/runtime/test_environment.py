"""Environment variables that hold for a block only."""

from __future__ import annotations

import os

import pytest

from sdcpc_ros.runtime.environment import environment


@pytest.mark.parametrize("before", [None, "old"])
def test_a_variable_is_what_it_was_before_the_block_whatever_happens_in_it(monkeypatch, before):
    monkeypatch.delenv("SDCPC_TEST", raising=False)
    if before is not None:
        monkeypatch.setenv("SDCPC_TEST", before)
    with pytest.raises(KeyError), environment({"SDCPC_TEST": "new"}):
        assert os.environ["SDCPC_TEST"] == "new"
        raise KeyError
    assert os.environ.get("SDCPC_TEST") == before
