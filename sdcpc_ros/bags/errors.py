"""Errors of bags, playback and workers."""

from __future__ import annotations


class BagError(ValueError):
    """A bag is missing, unreadable or cut short, or lacks a requested topic."""


class PlaybackError(ValueError):
    """Playing a bag, or receiving the node's answers, failed."""


class FleetError(ValueError):
    """The workers for a set of bags are not available."""
