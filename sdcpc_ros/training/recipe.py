"""A training recipe: a YAML file, read into one frozen dataclass and validated once."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from sdcpc_ros.network import SDCPCConfig


class RecipeError(ValueError):
    """A recipe is missing, unreadable, or holds a value that is not allowed."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with clips of `references` earlier frames and the one to be labelled."""

    steps: int
    references: int
    street_share: float  #: share of the clips that come from the synthetic street, 0..1; the others are CamVid's
    disturbed_share: float = 0.0  #: share of the clips whose newest frame is partly spoilt (`augmentation.disturb`)


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of; raises RecipeError naming the field and what is allowed."""

    network: dict[str, Any]  #: fields of SDCPCConfig, without num_classes
    phases: tuple[Phase, ...]
    seed: int
    batch_size: int
    crop_size: tuple[int, int]  #: (height, width), px
    input_size: tuple[int, int]  #: (height, width) the checkpoint is declared for, px
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    ema_decay: float
    class_balance: float  #: power of the median-frequency class weights, 0..1 (`losses.class_weights`)
    auxiliary_weight: float  #: of the static head's loss
    #: Of the divergence between two views of the newest frame (`training.views`). Above 0, half of a batch are second
    #: views of the other half.
    consistency_weight: float
    encoder_rate: float  #: the encoder's learning rate as a share of the others', 1 from scratch, less when pre-trained
    scale_range: tuple[float, float]  #: random rescaling before the crop
    street_towns: int
    street_frames: int  #: rendered per town, at 15 Hz

    def __post_init__(self) -> None:
        checks = {
            "phases": len(self.phases) >= 1
            and all(p.steps >= 1 and 0 <= p.references <= 16 for p in self.phases)
            and all(0 <= share <= 1 for p in self.phases for share in (p.street_share, p.disturbed_share)),
            "seed": self.seed >= 0,
            "batch_size": self.batch_size >= 2 and not (self.consistency_weight > 0 and self.batch_size % 2),
            "crop_size": len(self.crop_size) == 2 and min(self.crop_size) >= 32,
            "input_size": len(self.input_size) == 2 and min(self.input_size) >= 32,
            "learning_rate": self.learning_rate > 0,
            "weight_decay": self.weight_decay >= 0,
            "warmup_steps": self.warmup_steps >= 0,
            "ema_decay": 0 <= self.ema_decay < 1,
            "class_balance": 0 <= self.class_balance <= 1,
            "auxiliary_weight": self.auxiliary_weight >= 0,
            "consistency_weight": self.consistency_weight >= 0,
            "encoder_rate": 0 < self.encoder_rate <= 10,
            "scale_range": len(self.scale_range) == 2 and 0.1 <= self.scale_range[0] <= self.scale_range[1] <= 10,
            "street_towns": self.street_towns >= 1,
            "street_frames": self.street_frames >= 1,
        }
        allowed = {
            "phases": "one or more of {steps: >= 1, references: 0..16, street_share: 0..1, disturbed_share: 0..1}",
            "seed": "0 or more",
            "batch_size": "2 or more (batch norm needs company), even if consistency_weight is above 0,",
            "class_balance": "a number in 0..1",
            "encoder_rate": "above 0, up to 10",
            "crop_size": "[height, width], 32 or more each",
            "input_size": "[height, width], 32 or more each",
            "scale_range": "[low, high] in 0.1..10",
            "ema_decay": "a number in [0, 1)",
            "learning_rate": "above 0",
        }
        for name, holds in checks.items():
            if not holds:
                needed = allowed.get(name, "0 or more")
                raise RecipeError(f"recipe: {name} is {getattr(self, name)!r}; {needed} is needed")

    @property
    def clips_per_step(self) -> int:
        """Different clips in a batch."""
        return self.batch_size // 2 if self.consistency_weight > 0 else self.batch_size

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """The phase that a step belongs to."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]

    def network_config(self, num_classes: int) -> SDCPCConfig:
        return SDCPCConfig.from_dict({"num_classes": num_classes, **self.network})


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe. Raises RecipeError with a sentence that names the file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not a readable recipe ({error})") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of names to values")
    known = {field.name for field in fields(Recipe)}
    unknown, missing = sorted(set(values) - known), sorted(known - set(values))
    if unknown or missing:
        found = (("unknown", unknown), ("missing", missing))
        problems = [f"{title} {', '.join(names)}" for title, names in found if names]
        raise RecipeError(f"{path}: {'; '.join(problems)}; a recipe holds {', '.join(sorted(known))}")
    try:
        return Recipe(
            **{
                **values,
                "phases": tuple(Phase(**phase) for phase in values["phases"]),
                **{name: tuple(values[name]) for name in ("crop_size", "input_size", "scale_range")},
            }
        )
    except (TypeError, AttributeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
