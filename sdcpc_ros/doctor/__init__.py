"""The checks of `sdcpc doctor`: this machine, its ROS, and the live graph. Each finding is a line with its fix."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, WARNING, FAULT = "ok", "note", "warning", "FAULT"


@dataclass(frozen=True)
class Finding:
    """The check of `what` found `text`; a warning or fault has a `fix`. Only faults fail the doctor."""

    what: str
    text: str
    level: str = OK
    fix: str = ""

    def __post_init__(self) -> None:
        if (self.level in (WARNING, FAULT)) != bool(self.fix):
            raise ValueError(f"a warning or fault, and nothing else, comes with a fix: {self}")

    def line(self) -> str:
        return f"{self.level:<8} {self.what}: {self.text}" + (f" -> {self.fix}" if self.fix else "")
