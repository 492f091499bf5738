"""Classes and confusions in the page of a fleet, which holds little else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page

from sdcpc_ros.evaluation.html_report import write_fleet_page, write_report

Write = Callable[..., Page]


@pytest.fixture
def page_of(tmp_path: Path) -> Write:
    """The page of classes (names, or dicts as in a report) with this confusion matrix."""

    def written(classes: Any, matrix: np.ndarray, unlabelled: np.ndarray) -> Page:
        named = [{"name": each} if isinstance(each, str) else each for each in classes]
        entries = [{"colour": (1, 2, 3), "iou": 0.5, **each} for each in named]
        scores = {"scores": None, "classes": entries, "confusion": matrix.tolist(), "unlabelled": unlabelled.tolist()}
        write_fleet_page(tmp_path / "fleet.html", {"bags": [], "failed": 0, "missed": 0, **scores})
        return Page((tmp_path / "fleet.html").read_text(encoding="utf-8"))

    return written


def test_classes_are_sorted_by_iou_and_bars_are_as_long_as_it(page_of: Write) -> None:
    classes = [{"name": name, "iou": iou} for name, iou in (("low", 0.2), ("no", None), ("a_b", 1))]
    page = page_of(classes, np.eye(3, dtype=int), np.zeros(3, int))
    swatch = "background:rgb(1 2 3)"
    assert page.attributes("style")[:5] == [swatch, "width:100.0%", swatch, "width:20.0%", swatch]
    assert re.search(r"class\s*IoU\s*a b\s*100\.0\u202f%\s*low\s*20\.0\u202f%\s*no\s*–", page.text)


def test_without_a_truth_bars_are_shares_of_the_labels(make_report, tmp_path: Path) -> None:
    report, _ = make_report(frames=3, truth=False)
    write_report(tmp_path / "report.html", report)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    shares = sorted((each["predicted_share"] for each in report["classes"]), reverse=True)
    assert "Share of each class" in page.text
    bars = [style for style in page.attributes("style") if style.startswith("width")]
    assert bars == [f"width:{100 * share:.1f}%" for share in shares]


def test_rows_of_the_confusion_matrix_are_shares_of_the_truth(page_of: Write) -> None:
    page = page_of("abc", np.array([[90, 10, 0], [0, 0, 0], [1, 0, 999]]), np.zeros(3, int))
    # The truth holds no b, and a cell of a thousandth is empty.
    shares = ("a taken for a: 90.0", "a taken for b: 10.0", "c taken for c: 99.9")
    assert page.attributes("title") == [f"{share}\u202f%" for share in shares]
    assert re.search(r"a\s*b\s*c\s*a\s*90\s*10\s*c\s*100\s", page.text)


def test_unlabelled_pixels_have_a_column(page_of: Write) -> None:
    page = page_of("ab", np.diag([5, 5]), np.array([5, 0]))
    assert re.search(r"a\s*b\s*no label\s*a\s*50\s*50\s*b\s*100\s", page.text)
    assert page.attributes("title")[1] == "a taken for no label: 50.0\u202f%"


def test_the_largest_confusions_come_first_and_never_a_class_with_itself(page_of: Write) -> None:
    page = page_of("abc", np.array([[60, 30, 10], [0, 0, 0], [0, 50, 50]]), np.zeros(3, int))
    expected = ((50, "c", "b"), (30, "a", "b"), (10, "a", "c"))
    found = re.findall(r"\d+\u202f% of \w is taken for \w", page.text)
    assert found == [f"{share}\u202f% of {true} is taken for {given}" for share, true, given in expected]


def test_without_a_truth_there_is_no_confusion(page_of: Write) -> None:
    assert "Confusion matrix" not in page_of("ab", np.zeros((2, 2), int), np.zeros(2, int)).text
