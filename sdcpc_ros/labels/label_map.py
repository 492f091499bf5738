"""Label maps: from the classes of a model to the ids that consumers of its masks want."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml

from sdcpc_ros.labels.label_set import IGNORE, LabelSet, LabelSetError

#: Keys of a label map that are no classes: pixels without a label, and every class that is not named.
UNLABELLED, DEFAULT = "unlabelled", "default"
#: The name, in a LabelInfo, of the id that `DEFAULT` gives.
BACKGROUND = "background"
_ENTRY = re.compile(r"(?P<name>.*\S)\s*:\s*(?P<id>-?\d{1,9})\s*")


class MaskEncoding(NamedTuple):
    """An encoding of masks."""

    dtype: np.dtype[np.integer[Any]]
    unlabelled: int  #: the id of pixels without a label, unless a label map says another


ENCODINGS = {
    "mono8": MaskEncoding(np.dtype("u1"), 255),
    "8UC1": MaskEncoding(np.dtype("u1"), 255),
    "16UC1": MaskEncoding(np.dtype("<u2"), 65535),
    "16SC1": MaskEncoding(np.dtype("<i2"), -1),
}

#: Label maps by name. Names that a model lacks are left out of these.
PRESETS: dict[str, dict[str, int]] = {
    # What a ground robot plans with, under the names of CamVid, Cityscapes, ADE20K and VSPW; 0 is background.
    "nav2": {
        UNLABELLED: 0,
        DEFAULT: 0,
        **dict.fromkeys(("road", "crosswalk"), 1),
        **dict.fromkeys(("sidewalk", "pavement", "path"), 2),
        "floor": 3,
        **dict.fromkeys(("grass", "terrain", "earth", "ground", "dirt track"), 4),
        **dict.fromkeys(("person", "pedestrian"), 5),
        **dict.fromkeys(("bicyclist", "rider", "bicycle", "motorcycle", "minibike"), 6),
        **dict.fromkeys(("car", "truck", "bus", "train", "van"), 7),
    }
}


@dataclass(frozen=True, eq=False)
class LabelMap:
    """The ids of published masks, from those of a model's classes."""

    encoding: str
    lookup: np.ndarray  #: (256,) of the encoding's type: the published id of each class, and of IGNORE
    listed: tuple[tuple[int, str], ...]  #: ids and names for a LabelInfo, ascending; several names may share an id
    #: Of each class, the number of its group: those of one id. None where each class has an id of its own.
    groups: tuple[int, ...] | None
    #: (256,) uint8: the first class of each one's group, or IGNORE; None where every class keeps its id.
    merged: np.ndarray | None = field(repr=False, default=None)
    #: (256,) uint8: as `merged`, with IGNORE for what is background or unlabelled.
    shown: np.ndarray | None = field(repr=False, default=None)

    def published(self, labels: np.ndarray) -> np.ndarray:
        """(H, W) uint8 class ids -> (H, W) of the encoding's type; the same array where nothing changes."""
        if self.merged is None and self.lookup.dtype == np.uint8:
            return labels
        return cv2.LUT(labels, self.lookup)


def read_label_map(entries: Sequence[str], label_set: LabelSet, encoding: str) -> LabelMap:
    """The label map of a model for masks of an encoding, one of ENCODINGS.

    entries: "name: id" texts; or the name of a preset, or the path of a YAML file with `name: id` lines, by itself; or
    none, and every class keeps its id. The names UNLABELLED and DEFAULT stand for pixels without a label and for all
    classes that are not named; without DEFAULT these keep their ids. Raises LabelSetError with a sentence for a name
    that the model lacks, an id beyond the encoding, and an id that two names would share without saying so.
    """
    dtype, own_unlabelled = ENCODINGS[encoding]
    given = _given_ids(entries, label_set)
    unlabelled, default = given.get(UNLABELLED, own_unlabelled), given.get(DEFAULT)
    ids = [
        given.get(name, class_id if default is None else default) for class_id, name in enumerate(label_set.class_names)
    ]
    _refuse_ids_beyond(given, encoding)
    _refuse_clashes(given, label_set, encoding)
    lookup = np.full(256, unlabelled, dtype)
    lookup[: len(ids)] = ids
    listed = {(number, name) for number, name in zip(ids, label_set.class_names) if name in given or default is None}
    if default is not None:
        listed.add((default, BACKGROUND))
    if UNLABELLED in given and unlabelled >= 0 and unlabelled not in {number for number, _ in listed}:
        listed.add((unlabelled, UNLABELLED))
    kept = tuple(sorted(entry for entry in listed if entry[0] != own_unlabelled))
    if not given:
        return LabelMap(encoding, lookup, kept, None)
    first = {number: ids.index(number) for number in ids}  # the first class of each id
    merged, shown = np.full(256, IGNORE, np.uint8), np.full(256, IGNORE, np.uint8)
    for table, nothing in ((merged, {own_unlabelled}), (shown, {unlabelled, default, own_unlabelled})):
        table[: len(ids)] = [IGNORE if number in nothing else first[number] for number in ids]
    merged[IGNORE] = IGNORE if unlabelled == own_unlabelled else first.get(unlabelled, IGNORE)
    group_of = {number: group for group, number in enumerate(first)}
    groups = tuple(group_of[number] for number in ids) if len(first) < len(ids) else None
    return LabelMap(encoding, lookup, kept, groups, merged, shown)


def _refuse_ids_beyond(given: Mapping[str, int], encoding: str) -> None:
    dtype, own_unlabelled = ENCODINGS[encoding]
    limits = np.iinfo(dtype)
    for name, number in given.items():
        # A LabelInfo has no negative ids.
        least = limits.min if name == UNLABELLED else 0
        if number != own_unlabelled and not least <= number <= limits.max:
            raise LabelSetError(
                f"label_map gives '{name}' the id {number}; with label_encoding {encoding} {least} to {limits.max} "
                "are allowed"
            )


def _refuse_clashes(given: Mapping[str, int], label_set: LabelSet, encoding: str) -> None:
    """An id may be shared by names that a label map gives it, not by what it does not speak of."""
    own_unlabelled = ENCODINGS[encoding].unlabelled
    if DEFAULT not in given:
        for class_id, name in enumerate(label_set.class_names):
            clashing = next((other for other, number in given.items() if number == class_id), None)
            if name not in given and clashing is not None:
                raise LabelSetError(
                    f"label_map gives '{clashing}' the id {class_id}, which '{name}' keeps; give '{name}' an id too, "
                    f"or all others one with '{DEFAULT}'"
                )
    elif given.get(BACKGROUND, given[DEFAULT]) != given[DEFAULT]:
        raise LabelSetError(
            f"label_map gives the class '{BACKGROUND}' the id {given[BACKGROUND]} and '{DEFAULT}' {given[DEFAULT]}, "
            f"which is called '{BACKGROUND}' too; give both one id"
        )
    hidden = next((name for name, number in given.items() if number == own_unlabelled and name != DEFAULT), None)
    if UNLABELLED not in given and hidden is not None:
        raise LabelSetError(
            f"label_map gives '{hidden}' the id {own_unlabelled}, that of unlabelled pixels in {encoding}; "
            f"if that is meant, add '{UNLABELLED}: {own_unlabelled}'"
        )


def _given_ids(entries: Sequence[str], label_set: LabelSet) -> Mapping[str, int]:
    """The ids that a label map gives, by name."""
    if not entries:
        return {}
    known = {*label_set.class_names, UNLABELLED, DEFAULT}
    if len(entries) == 1 and entries[0] in PRESETS:
        preset = PRESETS[entries[0]]
        if not preset.keys() & set(label_set.class_names):
            raise LabelSetError(
                f"label_map '{entries[0]}' names no class of the model; label set '{label_set.name}' has "
                f"{', '.join(label_set.class_names)}"
            )
        return {name: number for name, number in preset.items() if name in known}
    given: dict[str, int] = {}
    for text in _lines(entries):
        found = _ENTRY.fullmatch(text)
        if found is None:
            raise LabelSetError(f"label_map holds '{text}'; 'name: id' with a whole number is needed")
        name = found["name"].strip()
        if name in given:
            raise LabelSetError(f"label_map names '{name}' twice")
        if name not in known:
            hint = _hint(name, known)
            raise LabelSetError(f"label_map names '{name}', which model and label_map do not know; {hint}")
        given[name] = int(found["id"])
    return given


def _lines(entries: Sequence[str]) -> list[str]:
    """ "name: id" texts: the entries themselves, or what is in the one file that they name."""
    if len(entries) > 1 or _ENTRY.fullmatch(entries[0]):
        return list(entries)
    path = Path(os.path.expanduser(entries[0]))  # Path.expanduser raises for an unknown user
    if path.suffix not in (".yaml", ".yml"):
        raise LabelSetError(
            f"label_map is '{entries[0]}'; allowed: 'name: id' texts, a .yaml file or a preset ({', '.join(PRESETS)})"
        )
    try:
        # Composed, not loaded: a dictionary would silently keep the last of two ids for one name.
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LabelSetError(f"label_map '{path}' cannot be read: {' '.join(reason.split())}") from error
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    if not pairs or not all(isinstance(part, yaml.ScalarNode) for pair in pairs for part in pair):
        raise LabelSetError(f"label_map '{path}' holds something else than 'name: id' lines")
    return [f"{name.value}: {number.value}" for name, number in pairs]


def _hint(name: str, known: set[str]) -> str:
    by_lower = {one.lower().replace("_", " "): one for one in sorted(known)}
    nearest = difflib.get_close_matches(name.lower().replace("_", " "), by_lower, n=1)
    return f"did you mean '{by_lower[nearest[0]]}'?" if nearest else f"known are {', '.join(sorted(known))}"
