"""The error of data sets."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set on disk is not laid out as it should be, or a file of it cannot be used."""
