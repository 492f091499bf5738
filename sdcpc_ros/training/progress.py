"""Progress of long work: a bar on a terminal, lines in a log file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_Item = TypeVar("_Item")
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def tracked(items: Sequence[_Item], what: str, *, silent: bool = False) -> Iterable[_Item]:
    """`items`, one after the other, with a bar on stderr that goes when they are done."""
    if silent or not items:
        yield from items
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{what}: {len(items)}", flush=True)
    with Progress(*_COLUMNS, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, description=what)


class StepBar:
    """The bar of a training run on stderr; where that is no terminal, `line`s on stdout take its place."""

    def __init__(self, total: int, done: int, *, silent: bool) -> None:
        self.total, self.silent = total, silent
        self._console = Console(stderr=True)
        off = silent or not self._console.is_terminal
        self._progress = Progress(*_COLUMNS, TimeRemainingColumn(), console=self._console, disable=off)
        self._task = self._progress.add_task("training", total=total, completed=done)

    @contextmanager
    def shown(self) -> Iterator[StepBar]:
        with self._progress:
            yield self

    def advance(self) -> None:
        self._progress.update(self._task, advance=1)

    def line(self, text: str) -> None:
        """Something that should be read: above the bar, or in the log file."""
        if self.silent:
            return
        if self._console.is_terminal:
            self._progress.console.print(text)
        else:
            print(text, flush=True)
