"""What can go wrong with a bag, in sentences a person can act on."""

from __future__ import annotations


class BagError(ValueError):
    """A bag is missing, unreadable, cut short, or does not hold what was asked of it."""


class PlaybackError(RuntimeError):
    """A bag could be read, but playing it or hearing the answers failed."""


class FleetError(ValueError):
    """Those who were to do the work cannot be had."""


class StateError(ValueError):
    """What an earlier run left cannot be gone on with; the sentence says why."""
