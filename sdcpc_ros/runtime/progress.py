"""The progress bar of all commands that evaluate, write or play frames."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A bar on stderr, or on `console`, used as a context manager. It shows nothing if that is not a terminal.

    Calling the bar advances it by one frame. `total` is None while the number of frames is not known.
    """

    def __init__(self, total: int | None = None, doing: str = "evaluating", *, console: Console | None = None) -> None:
        console = console or Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._progress.add_task(doing, total=total)

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
