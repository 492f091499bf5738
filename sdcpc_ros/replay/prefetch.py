"""Reads and decodes in one thread while another computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar, cast

_Item = TypeVar("_Item")
_POLL_S = 0.1


def prefetch(items: Iterable[_Item], depth: int = 4) -> Generator[_Item, None, None]:
    """The same items in the same order, made up to `depth` ahead in another thread.

    An exception of the source is raised here, after the items before it. Closing this iterator waits until the thread
    has closed the source.
    """
    waiting: queue.Queue[tuple[str, object]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(kind: str, value: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((kind, value), timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
        except BaseException as error:  # raised in the other thread
            put("error", error)
        else:
            put("end", None)
        finally:
            if isinstance(items, Generator):  # its cleanup, in the thread that it ran in
                items.close()

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise cast(BaseException, value)
            yield cast(_Item, value)
    finally:
        stopped.set()
        thread.join()
