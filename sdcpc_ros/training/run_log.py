"""The log of a run: a CSV file with a line an entry, which a resumed run cuts to its saved state."""

from __future__ import annotations

import csv
from pathlib import Path

from sdcpc_ros.runtime.atomic_file import atomic_path


class RunLog:
    """Appends lines that begin with a step. A file keeps the columns it was begun with."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, ("step", *columns)

    def append(self, step: int, *values: str) -> None:
        """values: one for each column."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(self.columns)
            writer.writerow([step, *values])

    def cut_after(self, step: int) -> None:
        """Removes the lines after `step`; a run that resumes there writes them again."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        kept = [row for row in rows if row and row[0].isdecimal() and int(row[0]) <= step]
        if not kept:
            self.path.unlink()  # a line that was cut short may have been its header
        elif len(kept) < len(rows):
            with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
                csv.writer(file).writerows([self.columns, *kept])


def read_log(path: Path) -> dict[str, list[float]]:
    """A log by column; a line that was cut short is left out. Raises OSError, or ValueError when it is no log."""
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if header[:1] != ["step"]:
        raise ValueError(f"{path} is not the log of a training run; its first column is to be 'step'")
    kept = [row for row in rows if len(row) == len(header) and row[0].isdecimal()]
    try:
        return {name: [float(row[column]) for row in kept] for column, name in enumerate(header)}
    except ValueError as error:
        raise ValueError(f"{path} is not the log of a training run ({error})") from error
