"""The rules that the Nav2 semantic segmentation layer (kiwicampus) expects masks to follow. No ROS in here.

The layer indexes masks by `data[v * width + u]`, without a look at encoding and step, and the confidence by the same
index; it finds classes by name, and drops masks until a LabelInfo has come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

UNLABELLED = 255
#: Label and confidence are one observation when their stamps are no further apart, seconds.
MAX_STAMP_GAP_S = 0.1


def broken_image_rules(image: Any, what: str) -> list[str]:
    """A sentence for each rule that an Image, or an object with its fields, breaks; `what` names it."""
    if image.encoding not in ("mono8", "8UC1"):
        return [f"{what} is {image.encoding}; one byte a pixel is needed: mono8 or 8UC1"]
    broken = []
    if image.step != image.width:
        broken.append(f"{what} has a step of {image.step} bytes for a width of {image.width}: its rows are padded")
    if len(image.data) != image.height * image.width:
        broken.append(f"{what} holds {len(image.data)} bytes; {image.width} x {image.height} pixels are as many")
    return broken


def broken_pair_rules(label: Any, confidence: Any) -> list[str]:
    """A sentence for each rule that a label image and its confidence break together."""
    broken = []
    if (label.height, label.width) != (confidence.height, confidence.width):
        sizes = f"{label.width} x {label.height} and {confidence.width} x {confidence.height}"
        broken.append(f"label and confidence are {sizes} pixels; one size is needed")
    gap_s = abs(stamp_s(label) - stamp_s(confidence))
    if gap_s > MAX_STAMP_GAP_S:
        broken.append(f"label and confidence are {gap_s:.3f} s apart; at most {MAX_STAMP_GAP_S} s are allowed")
    if label.header.frame_id != confidence.header.frame_id:
        broken.append(f"label is in frame '{label.header.frame_id}', confidence in '{confidence.header.frame_id}'")
    return broken


def broken_class_rules(class_ids: Mapping[str, int], listed: int, wanted: Sequence[str]) -> list[str]:
    """A sentence for each rule that a LabelInfo breaks.

    class_ids: by name. listed: the number of its entries. wanted: names that a reader looks for.
    """
    broken = []
    if len(class_ids) != listed:
        broken.append(f"the LabelInfo lists {listed} classes, but some share a name")
    strange = sorted(name for name, number in class_ids.items() if not 0 <= number < UNLABELLED)
    if strange:
        broken.append(f"the ids of {', '.join(strange)} are not in 0..{UNLABELLED - 1}")
    missing = [name for name in wanted if name not in class_ids]
    if missing:
        broken.append(f"the LabelInfo has no {', '.join(missing)}; it has {', '.join(class_ids)}")
    return broken


def broken_label_rules(label: Any, class_ids: Mapping[str, int]) -> list[str]:
    """A sentence if a label image that breaks no image rule has ids that are not in the LabelInfo."""
    counts = np.bincount(np.frombuffer(label.data, np.uint8), minlength=UNLABELLED + 1)
    unknown = set(np.flatnonzero(counts).tolist()) - set(class_ids.values()) - {UNLABELLED}
    return [f"ids {sorted(unknown)} are in the mask, but not in the LabelInfo"] if unknown else []


def stamp_s(message: Any) -> float:
    """The stamp of a message's header, seconds."""
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
