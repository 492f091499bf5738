from __future__ import annotations

import numpy as np

from sdcpc_ros.evaluation.html_report import class_section, confusion_section


def confusion_of(names: str, matrix: np.ndarray, unlabelled: np.ndarray):
    classes = [{"name": name} for name in names]
    report = {"classes": classes, "confusion": matrix.tolist(), "unlabelled": unlabelled.tolist()}
    section = confusion_section(report)
    return None if section is None else dict(section.parts)


def test_classes_are_sorted_by_iou_and_bars_are_as_long_as_it():
    classes = [
        {"name": name, "colour": (1, 2, 3), "iou": iou} for name, iou in (("low", 0.2), ("no", None), ("a_b", 1))
    ]
    table = dict(class_section(classes).parts)["classes"]
    assert [(row["name"], row["bar"]) for row in table["rows"]] == [("a b", "100.0"), ("low", "20.0"), ("no", None)]
    assert table["rows"][0]["colour"] == "rgb(1 2 3)" and table["head"] == ["IoU"]


def test_without_a_truth_bars_are_shares_of_the_labels():
    section = class_section([{"name": "a", "colour": (1, 2, 3), "iou": None, "predicted_share": 0.25}])
    assert section.title == "Share of each class" and dict(section.parts)["classes"]["rows"][0]["bar"] == "25.0"


def test_rows_of_the_confusion_matrix_are_shares_of_the_truth():
    section = confusion_of("abc", np.array([[90, 10, 0], [0, 0, 0], [1, 0, 999]]), np.zeros(3, int))["confusion"]
    assert section["columns"] == ["a", "b", "c"]
    assert [row["name"] for row in section["rows"]] == ["a", "c"]  # the truth holds no b
    texts = [[cell and cell["text"] for cell in row["cells"]] for row in section["rows"]]
    assert texts == [["90", "10", None], [None, None, "100"]]
    assert section["rows"][0]["cells"][1]["note"] == "a taken for b: 10.0\u202f%"


def test_unlabelled_pixels_have_a_column():
    section = confusion_of("ab", np.diag([5, 5]), np.array([5, 0]))["confusion"]
    assert section["columns"] == ["a", "b", "no label"]
    assert section["rows"][0]["cells"][2]["note"] == "a taken for no label: 50.0\u202f%"


def test_the_largest_confusions_come_first_and_never_a_class_with_itself():
    section = confusion_of("abc", np.array([[60, 30, 10], [0, 0, 0], [0, 50, 50]]), np.zeros(3, int))
    expected = ((50, "c", "b"), (30, "a", "b"), (10, "a", "c"))
    assert section["list"] == [f"{share}\u202f% of {true} is taken for {given}" for share, true, given in expected]


def test_without_a_truth_there_is_no_confusion():
    assert confusion_of("ab", np.zeros((2, 2), int), np.zeros(2, int)) is None
