"""Label sets: which class has which id, name and colour."""

from __future__ import annotations

import colorsys
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import yaml

#: The id of pixels that carry no label: void in ground truth, "unlabelled" in a published mask.
IGNORE = 255


class LabelSetError(ValueError):
    """A label set is malformed, or does not match the one that is needed."""


@dataclass(frozen=True)
class LabelSet:
    """The classes of a model or data set; a class's id is its position.

    Raises LabelSetError when names repeat, counts differ, or a colour is not three integers in 0..255.
    """

    name: str
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  # RGB

    def __post_init__(self) -> None:
        if not 1 <= len(self.class_names) <= IGNORE:
            raise LabelSetError(
                f"label set '{self.name}' has {len(self.class_names)} classes; between 1 and {IGNORE} are allowed"
            )
        if len(set(self.class_names)) != len(self.class_names):
            repeated = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
            raise LabelSetError(f"label set '{self.name}' names a class twice: {', '.join(repeated)}")
        if len(self.colours) != len(self.class_names):
            raise LabelSetError(
                f"label set '{self.name}' has {len(self.class_names)} classes but {len(self.colours)} colours"
            )
        for class_name, colour in zip(self.class_names, self.colours):
            if len(colour) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in colour):
                raise LabelSetError(
                    f"label set '{self.name}': the colour of '{class_name}' is {colour!r}; "
                    "three integers in 0..255 (red, green, blue) are needed"
                )

    def __len__(self) -> int:
        return len(self.class_names)

    def palette(self) -> np.ndarray:
        """Colours by id, (256, 3) uint8 RGB; ids without a class (255 among them) are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = self.colours
        return palette

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "class_names": list(self.class_names), "colours": [list(c) for c in self.colours]}

    @classmethod
    def from_dict(cls, values: Any) -> LabelSet:
        """The inverse of `to_dict`, for values read from a file. Raises LabelSetError when they are not a label set."""
        try:
            name, class_names = str(values["name"]), tuple(str(name) for name in values["class_names"])
            colours = tuple((index(r), index(g), index(b)) for r, g, b in values["colours"])
        except (KeyError, TypeError, ValueError) as error:
            raise LabelSetError(
                f"not a label set ({error!r}); "
                "'name', 'class_names' and 'colours' (a list of [red, green, blue]) are needed"
            ) from error
        return cls(name, class_names, colours)


_CAMVID_COLOURS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
#: CamVid's eleven classes (Brostow et al. 2009), ids and colours as in the SegNet distribution.
CAMVID_11 = LabelSet("camvid_11", tuple(_CAMVID_COLOURS), tuple(_CAMVID_COLOURS.values()))

#: Cityscapes' nineteen classes (Cordts et al. 2016), ids ("train ids"), names and colours as its scripts have them.
CITYSCAPES_19 = LabelSet(
    name="cityscapes_19",
    class_names=(
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    colours=(
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
        *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0)),
        *((0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ),
)

_VSPW_NAMES = """
wall ceiling door stair ladder escalator Playground_slide handrail_or_fence window rail goal pillar pole floor ground
grass sand athletic_field road path crosswalk building house bridge tower windmill well_or_well_lid other_construction
sky mountain stone wood ice snowfield grandstand sea river lake waterfall water billboard_or_Bulletin_Board sculpture
pipeline flag parasol_or_umbrella cushion_or_carpet tent roadblock car bus truck bicycle motorcycle wheeled_machine
ship_or_boat raft airplane tyre traffic_light lamp person cat dog horse cattle other_animal tree flower other_plant toy
ball_net backboard skateboard bat ball cupboard_or_showcase_or_storage_rack box traveling_case_or_trolley_case basket
bag_or_package trash_can cage plate tub_or_bowl_or_pot bottle_or_cup barrel fishbowl bed pillow table_or_desk
chair_or_seat bench sofa shelf bathtub gun commode roaster other_machine refrigerator washing_machine Microwave_oven fan
curtain textiles clothes painting_or_poster mirror flower_pot_or_vase clock book tool blackboard tissue
screen_or_television computer printer Mobile_phone keyboard other_electronic_product fruit food instrument train
"""
# As in the palette of PASCAL VOC: an id's bits are dealt out in turn to red, green and blue, from the highest bit down.
_ID_BITS = np.arange(1, 125)[:, None, None] >> np.arange(9).reshape(3, 3).T & 1  # (id, channel, place)
#: VSPW's 124 classes (Miao et al. 2021), names and order as in its label_num_dic_final.json, whose ids 1 to 124 are
#: 0 to 123 here. It publishes no colours: these are by rule.
VSPW_124 = LabelSet(
    name="vspw_124",
    class_names=tuple(_VSPW_NAMES.split()),
    colours=tuple((red, green, blue) for red, green, blue in (_ID_BITS @ (128, 64, 32)).tolist()),
)

LABEL_SETS: dict[str, LabelSet] = {known.name: known for known in (CAMVID_11, CITYSCAPES_19, VSPW_124)}

#: A class is taken for a thin structure when its name holds one of these words.
_THIN = frozenset({"pole", "poles", "sign", "signs"})


def thin_classes(class_names: Sequence[str]) -> list[str]:
    """The names of poles and signs among these: "pole", "sign_symbol", "traffic sign"."""
    return [name for name in class_names if _THIN & set(name.lower().replace("_", " ").split())]


def _generated_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Distinct RGB colours with good contrast between neighbouring ids: hues a golden angle apart, in six shades."""
    shades = ((0.85, 0.95), (0.55, 0.75), (0.95, 0.65), (0.40, 0.95), (0.75, 0.45), (0.65, 0.85))
    colours = (colorsys.hsv_to_rgb(i * 0.618034 % 1, *shades[i % len(shades)]) for i in range(count))
    return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours)


def label_set_of_names(name: str, class_names: Sequence[str]) -> LabelSet:
    """A label set of names without colours: the known one with these names, whatever its letters' case and spaces, or a
    new one called `name` with generated colours. A name that comes twice gets its id behind it.

    Raises LabelSetError as LabelSet does.
    """
    for known in LABEL_SETS.values():
        if [*map(_plain, known.class_names)] == [*map(_plain, class_names)]:
            return known
    counts = Counter(class_names)
    unique = tuple(f"{one} {index}" if counts[one] > 1 else one for index, one in enumerate(class_names))
    return LabelSet(name, unique, _generated_colours(len(unique)))


def label_set_of_ids(name: str, entries: Iterable[tuple[int, str]]) -> LabelSet:
    """As `label_set_of_names`, of (id, class name) pairs such as a LabelInfo has, in any order.

    With a label map ids may have gaps, which are named after their ids, and classes may share an id, which gets both
    names. Ids of IGNORE and above, and negative ones, are left out.
    """
    names: dict[int, list[str]] = {}
    for number, class_name in entries:
        if 0 <= number < IGNORE:
            names.setdefault(number, []).append(class_name)
    ids = range(max(names, default=-1) + 1)
    return label_set_of_names(name, ["/".join(names.get(number, [f"id {number}"])) for number in ids])


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary of a file's pairs. Raises LabelSetError for equal keys; of these JSON and YAML keep the last."""
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise LabelSetError(f"'{key}' comes twice, as '{str(found[key])[:40]}' and '{str(value)[:40]}'")
        found[key] = value
    return found


class _UniqueKeyLoader(yaml.SafeLoader):
    """Reads YAML and refuses a mapping with equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        values = (value.value if isinstance(value, yaml.ScalarNode) else "..." for _, value in node.value)
        _unique(zip((self.construct_object(key) for key, _ in node.value), values))
        return mapping


def read_label_set(name_or_path: str) -> LabelSet:
    """A known label set by its name ("camvid_11"), or one from a YAML or JSON file.

    The file holds a list of names by id; a mapping id: name; or either of them under `names` or `class_names`, with
    `colours` (a list of [red, green, blue]) and `name` if wanted. Without colours they are those of the known label set
    with these names, or generated. Raises LabelSetError.
    """
    if name_or_path in LABEL_SETS:
        return LABEL_SETS[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise LabelSetError(f"no label set '{name_or_path}': neither one of {', '.join(LABEL_SETS)} nor a file")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            values = json.loads(text, object_pairs_hook=_unique)
        else:
            values = _UniqueKeyLoader(text).get_single_data()
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise LabelSetError(f"{path}: not readable as YAML or JSON ({str(error).splitlines()[0]})") from error
    title, colours = path.stem, None
    if isinstance(values, dict) and ("names" in values or "class_names" in values):
        title, colours = values.get("name", title), values.get("colours")
        values = values["names"] if "names" in values else values["class_names"]
    try:
        title, names = _name(title), names_by_id(values)
        if colours is None:
            return label_set_of_names(title, names)
        return LabelSet.from_dict({"name": title, "class_names": names, "colours": colours})
    except LabelSetError as error:
        raise LabelSetError(f"{path}: {error}") from error


def names_by_id(values: Any) -> list[str]:
    """Class names from a list, or a mapping of the ids 0, 1, ... (in JSON "0", ...) to them. Raises LabelSetError."""
    if isinstance(values, list) and values:
        return [_name(name) for name in values]
    if isinstance(values, dict) and values:
        by_id = _unique(
            (int(key) if isinstance(key, str) and key.isdecimal() else key, name) for key, name in values.items()
        )
        if all(isinstance(key, int) for key in by_id):
            if sorted(by_id) != list(range(len(values))):
                raise LabelSetError(f"the ids are {min(by_id)} to {max(by_id)} with gaps; 0, 1, 2, ... are needed")
            return [_name(by_id[class_id]) for class_id in range(len(by_id))]
    raise LabelSetError("a list of class names, or a mapping from ids to them, is needed")


def _name(value: Any) -> str:
    """A name from a file, where YAML reads `no` as false and `~` as nothing, and an alias may stand for gigabytes."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise LabelSetError(f"a name is empty or of the type {type(value).__name__}; text is needed, perhaps in quotes")
    return str(value)
