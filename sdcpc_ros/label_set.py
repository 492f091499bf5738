"""Label sets: which class has which id, name and colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
            return cls(
                name=str(values["name"]),
                class_names=tuple(str(name) for name in values["class_names"]),
                colours=tuple((int(r), int(g), int(b)) for r, g, b in values["colours"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, LabelSetError):
                raise
            raise LabelSetError(
                f"not a label set ({error!r}); "
                "'name', 'class_names' and 'colours' (a list of [red, green, blue]) are needed"
            ) from error


#: CamVid's eleven classes (Brostow et al. 2009), ids and colours as in the SegNet distribution.
CAMVID_11 = LabelSet(
    name="camvid_11",
    class_names=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign_symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    colours=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
)
