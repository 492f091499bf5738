"""What is kept of a run: `<date>-<device>.json` with every row and a `.md` of the same name that people read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.pages import markdown_table
from benchmarks.rows import Row, filled_columns, short
from sdcpc_ros.runtime.atomic_file import atomic_path

FOLDER = Path(__file__).parent / "results"


class BadRecord(ValueError):
    """A file in the way that is no record of ours."""


def record_name(device: torch.device, on: date) -> str:
    """`2026-11-24-cpu-avx2-2-threads`: the kind of device, and nothing of the machine it sits in."""
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = f"cpu {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    return f"{on.isoformat()}-{re.sub(r'[^a-z0-9]+', '-', kind.lower()).strip('-')}"


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """As JSON, one object a line; the file appears whole."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    _write(path, f"[\n{lines}\n]\n")


def write_record(path: Path, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> None:
    """Write `path`.json and `path`.md, each whole.

    Rows that an earlier run of that day left for other questions stay, so that a question can be run again by itself.
    titles: of the questions. Raises BadRecord when what is there is no such file.
    """
    # Not with_suffix: the name may have a dot.
    file = path.with_name(f"{path.name}.json")
    answered = {row["question"] for row in rows}
    kept = [row for row in _earlier_rows(file) if row["question"] not in answered]
    merged = sorted([*kept, *map(_without_home, rows)], key=lambda row: row["question"])
    write_rows(file, merged)
    _write(path.with_name(f"{path.name}.md"), _page(path.name, merged, titles))


def _earlier_rows(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadRecord(f"'{file}' is there and is no JSON ({error}): move it away") from error
    wanted = {"question", "name", "device", "command"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and wanted <= row.keys() for row in rows):
        raise BadRecord(f"'{file}' is there and holds no rows of a benchmark: move it away")
    return rows


def _without_home(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a backend says it lacks may name a folder of the user's."""
    return {**row, "note": row["note"].replace(str(Path.home()), "~")}


def _page(name: str, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    judged = [row for row in rows if row.get("verdict")]
    missed = [row for row in judged if row["verdict"] == "missed"]
    lines = [f"# Benchmark {name}", f"{len(judged) - len(missed)} of {len(judged)} targets hold."]
    if missed:
        lines.append("Missed:")
        lines += [f"- {_cell(row['name'])}: {short(row['ratio'])}, not {short(row['target'])}" for row in missed]
    lines += ["", "How to read the rows: [docs/benchmarks.md](../../docs/benchmarks.md). Ratios are ours / peer."]
    for question in dict.fromkeys(row["question"] for row in rows):
        own = [row for row in rows if row["question"] == question]
        lines += ["", f"## {titles.get(question, question)}"]
        lines += sorted({f"{row['device']}; {_load(row)}: `{row['command']}`" for row in own})
        lines += ["", *_table(own)]
    return "\n".join(lines) + "\n"


def _load(row: Mapping[str, Any]) -> str:
    """What else ran: times of a busy machine say little, ratios more."""
    return f"{row['load']:.0%} of the cores busy with other things at the start" if "load" in row else "load unknown"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = {field.name for field in fields(Row)}
    headings, lines = filled_columns([Row(**{key: row[key] for key in row.keys() & known}) for row in rows])
    return markdown_table(headings, [[_cell(text) for text in line] for line in lines])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
