"""What a reader that indexes masks by `data[v * width + u]` needs of them: the rules, without ROS.

They are those of the Nav2 semantic segmentation layer (kiwicampus): it looks at neither encoding nor step, indexes the
confidence by the label's pixels, finds classes by name, and drops masks as long as no LabelInfo has come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

UNLABELLED = 255
#: Label and confidence are one observation when their stamps are no further apart, seconds.
MAX_STAMP_GAP_S = 0.1


def broken_image_rules(image: Any, what: str) -> list[str]:
    """Sentences, one for each rule that a sensor_msgs/Image (or anything with its fields) breaks; `what` names it."""
    broken = []
    if image.encoding not in ("mono8", "8UC1"):
        broken.append(f"{what} is {image.encoding}; one byte a pixel is needed: mono8 or 8UC1")
    if image.step != image.width:
        broken.append(f"{what} has a step of {image.step} bytes for a width of {image.width}: its rows are padded")
    if len(image.data) != image.height * image.width:
        broken.append(f"{what} holds {len(image.data)} bytes; {image.width} x {image.height} pixels are as many")
    return broken


def broken_pair_rules(label: Any, confidence: Any) -> list[str]:
    """What a label image and the confidence that goes with it break together."""
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
    """What a LabelInfo breaks: `class_ids` by name, of `listed` entries, for a reader that looks for `wanted` names."""
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
    """What the ids of a label image that breaks no image rule break."""
    counts = np.bincount(np.frombuffer(label.data, np.uint8), minlength=UNLABELLED + 1)
    unknown = set(np.flatnonzero(counts).tolist()) - set(class_ids.values()) - {UNLABELLED}
    return [f"ids {sorted(unknown)} are in the mask, but not in the LabelInfo"] if unknown else []


def stamp_s(message: Any) -> float:
    """The stamp of a message's header, seconds."""
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
