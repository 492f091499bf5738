"""Each rule is broken by a message made for it, and by no other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sdcpc_ros.consumers.mask_rules import (
    broken_class_rules,
    broken_image_rules,
    broken_label_rules,
    broken_pair_rules,
)

CLASSES = {"road": 0, "person": 11}


def image(sec: int = 1, nanosec: int = 0, frame_id: str = "eye", **changes) -> SimpleNamespace:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)
    fields = {
        "header": header,
        "encoding": "mono8",
        "height": 2,
        "width": 3,
        "step": 3,
        "data": bytes([0, 11, 255] * 2),
    }
    return SimpleNamespace(**{**fields, **changes})


def test_a_good_mask_breaks_nothing():
    label = image()
    assert broken_image_rules(label, "label") == broken_label_rules(label, CLASSES) == []
    assert broken_pair_rules(label, image(nanosec=90_000_000)) == []
    assert broken_class_rules(CLASSES, 2, ["person"]) == []
    assert broken_class_rules({"road": 1, "path": 1, "person": 2}, 3, ["path"]) == []  # as a label map may have it


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": "16UC1"}, "label is 16UC1; one byte a pixel"),
        ({"encoding": "16SC1", "step": 6, "data": bytes(12)}, "label is 16SC1; one byte a pixel"),  # not "padded"
        ({"step": 4}, "its rows are padded"),
        ({"data": bytes(5)}, "label holds 5 bytes; 3 x 2 pixels"),
    ],
)
def test_an_image_that_cannot_be_indexed_by_pixels_is_seen(changes, words):
    (sentence,) = broken_image_rules(image(**changes), "label")
    assert words in sentence


@pytest.mark.parametrize(
    ("confidence", "words"),
    [
        (image(width=2), "3 x 2 and 2 x 2 pixels"),
        (image(nanosec=110_000_000), "0.110 s apart"),
        (image(frame_id="other"), "frame 'eye', confidence in 'other'"),
    ],
)
def test_a_confidence_of_another_image_is_seen(confidence, words):
    (sentence,) = broken_pair_rules(image(), confidence)
    assert words in sentence


def test_ids_without_a_name_are_seen():
    assert broken_label_rules(image(data=bytes([0, 7, 255, 11, 8, 0])), CLASSES) == [
        "ids [7, 8] are in the mask, but not in the LabelInfo"
    ]


@pytest.mark.parametrize(
    ("class_ids", "listed", "words"),
    [
        ({"road": 0}, 2, "share a name"),
        ({"road": 0, "person": 255}, 2, "the ids of person are not in 0..254"),
        ({"road": 0, "tree": 1}, 2, "has no person; it has road, tree"),
    ],
)
def test_classes_that_cannot_be_found_by_name_are_seen(class_ids, listed, words):
    broken = broken_class_rules(class_ids, listed, ["person"])
    assert any(words in sentence for sentence in broken)
