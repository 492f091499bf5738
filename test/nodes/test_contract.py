"""Every line of docs/contract.md names the tests that hold it, and each of them is there."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CONTRACT = TESTS.parent / "docs" / "contract.md"


def rows() -> list[tuple[str, str]]:
    """(line, its tests) of every table."""
    cells = [line.strip("| ").split(" | ") for line in CONTRACT.read_text(encoding="utf-8").splitlines() if "|" in line]
    return [(row[0], row[1]) for row in cells if len(row) == 2 and row[0] != "guarantee"]


@lru_cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_there_is_a_contract() -> None:
    assert len(rows()) > 40


@pytest.mark.parametrize(("line", "tests"), rows(), ids=lambda text: text[:30])
def test_every_line_is_held_by_tests_that_exist(line: str, tests: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert named, f"no test holds: {line}"
    assert not [f"{file}::{name}" for file, name in named if name not in functions(file)]
