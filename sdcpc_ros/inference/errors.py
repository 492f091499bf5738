"""What goes wrong with backends."""

from __future__ import annotations


class BackendError(ValueError):
    """A backend or device is unknown, or cannot be had on this machine."""


class UnknownBackend(BackendError):
    """There is no backend of that name anywhere."""
