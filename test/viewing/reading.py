"""Recordings read back by Rerun's own reader."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rerun", reason="rerun-sdk is not installed: pip install '.[rerun]'")

from rerun.experimental import RrdReader


class Recording:
    """The rows of a .rrd file's only recording by entity: dicts of column -> value, in the order of frames."""

    def __init__(self, file: Path) -> None:
        reader = RrdReader(file)
        assert len(reader.recordings()) == 1 and len(reader.blueprints()) == 1
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.static: dict[str, dict[str, Any]] = defaultdict(dict)
        for chunk in reader.stream():
            for row in _rows(chunk.to_record_batch()):
                if chunk.is_static:
                    self.static[chunk.entity_path] |= row
                else:
                    self.rows[chunk.entity_path].append(row)
        for rows in self.rows.values():
            rows.sort(key=lambda row: row["frame"])

    def frames(self, entity: str, column: str) -> list[int]:
        """The numbers of the frames that an entity has something in this column for."""
        return [row["frame"] for row in self.rows[entity] if row.get(column) is not None]

    def stamps_ns(self, entity: str) -> list[int]:
        return [row["stamp"] for row in self.rows[entity]]

    def scores(self, name: str) -> list[float]:
        return [row["Scalars:scalars"][0] for row in self.rows[f"/scores/{name}"]]

    def log(self) -> list[str]:
        return [row["TextLog:text"][0] for row in self.rows["/log"]]

    def classes(self) -> dict[int, tuple[str, int]]:
        """Id -> name and colour (0xRRGGBBAA) of the annotation context."""
        (context,) = self.static["/camera"]["AnnotationContext:context"]
        found = [entry["class_description"]["info"] for entry in context]
        return {info["id"]: (info["label"], info["color"]) for info in found}


def _rows(batch: Any) -> list[dict[str, Any]]:
    """With stamps as integers, ns: Python's datetime knows microseconds."""
    columns = {
        name: (column.cast("int64") if str(column.type).startswith("timestamp") else column).to_pylist()
        for name, column in zip(batch.schema.names, batch.columns)
    }
    return [dict(zip(columns, values)) for values in zip(*columns.values())]
