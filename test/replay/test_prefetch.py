from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sdcpc_ros.replay.segmented_frames import prefetch


def test_items_come_in_order_and_a_thread_makes_them_ahead():
    made: list[int] = []
    ahead = threading.Event()

    def source() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            if number == 2:
                ahead.set()
            yield number

    items = prefetch(source(), depth=2)
    assert next(items) == 0
    assert ahead.wait(30)  # made while nobody asked: one handed over, two waiting
    assert list(items) == [1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4]


def test_an_error_comes_after_what_was_made_before_it():
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    items = prefetch(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_closing_early_ends_the_thread_and_closes_the_source():
    closed_by: list[str] = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed_by.append(threading.current_thread().name)

    items = prefetch(source(), depth=1)
    next(items)
    items.close()
    assert [name.startswith("prefetch") for name in closed_by] == [True]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
