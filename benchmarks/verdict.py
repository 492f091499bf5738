"""What a rule asks for and what was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """A rule, what was measured, and whether it held."""

    rule: str
    measured: str
    holds: bool
