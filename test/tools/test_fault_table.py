"""The table of faults from notes as the tests write them."""

from __future__ import annotations

import json
from pathlib import Path

import fault_table
import pytest


def test_what_a_test_notes_becomes_a_row(tmp_path: Path, note_fault, monkeypatch):
    report = tmp_path / "faults.jsonl"
    monkeypatch.setenv("SDCPC_FAULT_REPORT", str(report))
    note_fault("bombs", sent=1, counted={}, served=1)
    note_fault("lies", sent=20_000, counted={"rejected: truncated": 1234, "processed": 5}, served=2)
    note_fault("bombs", sent=3, counted={"rejected: too_large": 3}, served=4)  # run again: the last counts
    lines = fault_table.markdown(fault_table.read_rows([report])).splitlines()
    name = "tools/test_fault_table.py::test_what_a_test_notes_becomes_a_row"
    assert lines[-2:] == [
        f"| bombs | 3 | rejected: too_large 3 | 4 | `{name}` |",
        f"| lies | 20,000 | rejected: truncated 1,234, processed 5 | 2 | `{name}` |",
    ]
    assert lines[-3] == "|---|---|---|---|---|"


def test_nothing_is_noted_unless_a_report_is_asked_for(tmp_path: Path, note_fault, monkeypatch):
    monkeypatch.delenv("SDCPC_FAULT_REPORT", raising=False)
    monkeypatch.chdir(tmp_path)
    note_fault("lies", sent=1, counted={}, served=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no fault is noted in "),
        ("nonsense\n", ", line 1 is no line of a fault report"),
        (json.dumps({"fault": "lies"}) + "\n", ", line 1 is no line of a fault report"),
        ("[]\n", ", line 1 is no line of a fault report"),
    ],
)
def test_what_is_no_report_is_named(tmp_path: Path, monkeypatch, capsys, text, sentence):
    report = tmp_path / "faults.jsonl"
    report.write_text(text)
    monkeypatch.setattr("sys.argv", ["fault_table.py", str(report)])
    assert fault_table.main() == 1
    assert f"{report}" in (said := capsys.readouterr().err) and sentence in said


def test_a_report_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(fault_table.BadReport, match=r"nowhere.jsonl cannot be read: No such file"):
        fault_table.read_rows([tmp_path / "nowhere.jsonl"])
