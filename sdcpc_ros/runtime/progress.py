"""The progress bar of all commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_Item = TypeVar("_Item")


class ProgressBar:
    """A bar on stderr, or on `console`, used as a context manager. It needs a terminal; if `disabled`, it is not shown.

    Calling the bar advances it by one frame. `total` is None while the number of frames is not known.
    """

    def __init__(
        self,
        total: int | None = None,
        doing: str = "evaluating",
        *,
        console: Console | None = None,
        disabled: bool = False,
    ) -> None:
        console = console or Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=disabled or not console.is_terminal,
        )
        self._task = self._progress.add_task(doing, total=total)

    @property
    def is_terminal(self) -> bool:
        return self._progress.console.is_terminal

    def __call__(self) -> None:
        self._progress.advance(self._task)

    def update(self, completed: int | None = None, doing: str | None = None) -> None:
        """Sets the number of finished frames, or the text before the bar; None leaves it."""
        self._progress.update(self._task, completed=completed, description=doing)

    def restart(self, total: int | None, doing: str) -> None:
        """Begins at 0 again."""
        self._progress.reset(self._task, total=total, description=doing)

    def print(self, text: str) -> None:
        """Prints a line above the bar."""
        self._progress.console.print(text, soft_wrap=True, markup=False)

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


def tracked(items: Sequence[_Item], doing: str, *, disabled: bool = False) -> Iterable[_Item]:
    """The items one after the other, with a bar; without a terminal, with a line on stdout before the first."""
    with ProgressBar(len(items), doing, disabled=disabled) as bar:
        if items and not disabled and not bar.is_terminal:
            print(f"{doing}: {len(items)}", flush=True)
        for item in items:
            yield item
            bar()
