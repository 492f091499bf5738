"""A training recipe: a YAML file, read into one frozen dataclass and validated once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sdcpc_ros.network import SDCPCConfig
from sdcpc_ros.training.recipe_rules import (
    BELOW_ONE,
    NON_NEGATIVE,
    POSITIVE,
    SHARE,
    SIZE,
    TEXT,
    RecipeError,
    Rule,
    Settings,
    integer,
    interval,
    names,
    number,
    one_of,
    setting,
)

#: Seeds of the towns for training start here; lower ones are for the demo and the tests, never trained on.
STREET_SEED = 1000
STREET_RATE_HZ = 15.0  #: of the street's drives

_NETWORK = Rule(lambda value: isinstance(value, dict), "a mapping of SDCPCConfig's fields")
_PHASES = Rule(
    lambda value: isinstance(value, tuple) and len(value) >= 1, "a list of one or more {steps, references, ...}"
)


@dataclass(frozen=True)
class Phase(Settings):
    """A stretch of training with clips of `references` earlier frames and the one to be labelled."""

    within = "phases: "

    steps: int = setting(integer(1))
    references: int = setting(integer(0, 16))
    #: "all" of the network, or "temporal": the DSSA alone, on the averaged weights of the rest as they are.
    trains: str = setting(one_of("all", "temporal"), "all")
    #: The sources of references, as shares of the clips (`clip_plan`); the rest is synthetic.
    street_share: float = setting(SHARE, 0.0)  #: the synthetic street, not the data set
    filmed_share: float = setting(SHARE, 0.0)  #: the data set's own neighbouring frames
    cut_share: float = setting(SHARE, 0.0)  #: another frame, as after a cut
    turn_share: float = setting(SHARE, 0.0)  #: of the synthetic references: those of a camera that turns
    #: Share of the clips whose newest frame is partly damaged (`augmentation.damage`).
    disturbed_share: float = setting(SHARE, 0.0)
    paste_share: float = setting(SHARE, 0.0)  #: share of the clips into which objects of the rare classes are pasted

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.street_share + self.filmed_share + self.cut_share > 1:
            raise RecipeError("recipe: phases: street_share, filmed_share and cut_share add up to more than 1")
        if self.trains == "temporal" and self.references == 0:
            raise RecipeError("recipe: phases: trains is 'temporal' with 0 references; 1 or more are needed")


@dataclass(frozen=True)
class PrototypeSettings(Settings):
    """MCP-CL (`training.class_prototypes`): the weight of its loss, and its own settings. All inferred."""

    within = "prototypes: "

    weight: float = setting(POSITIVE, 0.1)  #: of the loss
    per_class: int = setting(integer(1, 100), 10)
    dimension: int = setting(integer(2, 4096), 256)
    momentum: float = setting(BELOW_ONE, 0.999)
    temperature: float = setting(POSITIVE, 0.1)
    compactness_weight: float = setting(NON_NEGATIVE, 0.1)
    pixels_per_class: int = setting(integer(1), 64)  #: at most, of each image


@dataclass(frozen=True)
class ValidationSettings(Settings):
    """Scoring in streaming mode while training; the best weights by mIoU are kept beside the last ones."""

    within = "validation: "

    every: int = setting(integer(1))  #: steps
    split: str = setting(TEXT, "val")


@dataclass(frozen=True)
class Recipe(Settings):
    """The settings of a training run; raises RecipeError naming the field and the allowed values."""

    #: Fields of SDCPCConfig, without num_classes.
    network: Mapping[str, Any] = setting(_NETWORK)
    phases: tuple[Phase, ...] = setting(_PHASES)
    crop_size: tuple[int, int] = setting(SIZE)  #: (height, width), px
    input_size: tuple[int, int] = setting(SIZE)  #: (height, width) the checkpoint is declared for, px

    # Data.
    dataset: str = setting(TEXT, "camvid")  #: the kind; `sdcpc train --root` says where it is
    split: str = setting(TEXT, "train")
    #: Names of the split's videos that are not trained on, as drives of CamVid.
    leave_out: tuple[str, ...] = setting(names("videos"), ())
    #: Frame rates of the synthetic references, [low, high], Hz: a robot's camera may be slow, or drop frames.
    rate_range_hz: tuple[float, float] = setting(interval(0.1, 120), (1.0, 30.0))
    max_stride: int = setting(integer(1, 64), 1)  #: filmed references lie up to so many frames of the data set apart
    #: Names of the classes that crops are centred on and that are pasted.
    rare_classes: tuple[str, ...] = setting(names("classes"), ())
    rare_share: float = setting(SHARE, 0.0)  #: share of the crops that contain a pixel of a rare class for certain
    scale_range: tuple[float, float] = setting(interval(0.1, 10), (0.5, 2.0))  #: random rescaling before the crop
    #: Drawn by the street's seeds from STREET_SEED on, where a phase has a street_share.
    street_towns: int = setting(integer(1), 40)
    #: Further towns for phases that train "temporal". On towns of earlier phases the network rarely errs, so the
    #: temporal path gets little gradient. 0: all phases share the first towns.
    temporal_towns: int = setting(integer(0), 0)
    street_frames: int = setting(integer(1), 20)  #: rendered per town, at 15 Hz
    seed: int = setting(integer(0), 0)
    batch_size: int = setting(integer(2), 8)  #: labelled frames in a step, over all ranks; batch norm needs two
    #: Threads that decode frames where the data set does not fit on the device.
    workers: int = setting(integer(0, 64), 4)

    # Optimisation.
    optimizer: str = setting(one_of("adamw", "sgd"), "adamw")  #: "adamw", or "sgd" with momentum 0.9
    learning_rate: float = setting(POSITIVE, 1e-3)
    #: The encoder's learning rate as a share of the others'; less when it is pre-trained.
    encoder_rate: float = setting(number(lambda value: 0 < value <= 10, "in (0, 10]"), 1.0)
    weight_decay: float = setting(NON_NEGATIVE, 0.01)
    warmup_steps: int = setting(integer(0), 0)
    schedule_power: float = setting(NON_NEGATIVE, 0.9)  #: of the polynomial by which the learning rate falls to 0
    gradient_clip: float = setting(POSITIVE, 5.0)  #: largest norm of all gradients together
    #: Of the moving average of the weights, which is exported; 0: none.
    ema_decay: float = setting(BELOW_ONE, 0.0)
    #: Of a GPU's arithmetic, "float16" with loss scaling; a CPU always uses float32.
    precision: str = setting(one_of("float32", "float16", "bfloat16"), "float32")

    # Losses.
    #: Power of the median-frequency class weights, 0..1 (`losses.class_weights`).
    class_balance: float = setting(SHARE, 0.0)
    #: Of 1 - the batch's mean IoU (`losses.jaccard_loss`), beside the cross-entropy.
    jaccard_weight: float = setting(NON_NEGATIVE, 0.0)
    auxiliary_weight: float = setting(NON_NEGATIVE, 0.5)  #: of the static head's loss
    #: Of the divergence between two views of the newest frame (`losses.consistency_loss`). Above 0, half of a batch
    #: are second views of the other half.
    consistency_weight: float = setting(NON_NEGATIVE, 0.0)
    #: In phases with references (`losses.temporal_losses`): of each reference's vote, of the trust in it, and of the
    #: divergence of the result from the right votes of trusted references.
    vote_weight: float = setting(NON_NEGATIVE, 0.5)
    trust_weight: float = setting(NON_NEGATIVE, 0.5)
    stability_weight: float = setting(NON_NEGATIVE, 4.0)
    prototypes: PrototypeSettings | None = None  #: MCP-CL; without: none

    # Output.
    #: Steps between saved states, from which a stopped run resumes, and between lines of the log.
    save_every: int = setting(integer(1), 100)
    validation: ValidationSettings | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.consistency_weight > 0 and self.batch_size % 2:
            raise RecipeError(
                f"recipe: batch_size is {self.batch_size}; with a consistency_weight it must be even: two views a clip"
            )
        network = self.network_config(num_classes=1)  # raises now, not once the data are read
        offsets = network.reference_offsets
        most = max(phase.references for phase in self.phases)
        if most > len(offsets):
            raise RecipeError(
                f"recipe: a phase has {most} references, but the network has {len(offsets)} reference_offsets; "
                "as many are needed"
            )
        if self.uses_street and self.street_frames <= most:
            raise RecipeError(
                f"recipe: street_frames is {self.street_frames}; more than the {most} references of a phase are needed"
            )
        if (self.rare_share or any(phase.paste_share for phase in self.phases)) and not self.rare_classes:
            raise RecipeError("recipe: rare_share or paste_share is above 0, but no rare_classes are named")
        trains = [phase.trains for phase in self.phases]
        if "temporal" in trains and not network.temporal:
            raise RecipeError("recipe: a phase trains 'temporal', but network: temporal is false; true is needed")
        if trains != sorted(trains):  # "all" before "temporal"
            raise RecipeError("recipe: phases that train 'all' must come before those that train 'temporal'")

    @property
    def views(self) -> int:
        """Labelled frames of a clip: the newest, and where views must agree a second view of it."""
        return 2 if self.consistency_weight > 0 else 1

    @property
    def clips_per_step(self) -> int:
        """Different clips in a batch, over all ranks."""
        return self.batch_size // self.views

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def uses_street(self) -> bool:
        return any(phase.street_share > 0 for phase in self.phases)

    def towns_for(self, trains: str) -> range:
        """Seeds of the towns that phases of this `Phase.trains` drive through; none if none of them does."""
        if not any(phase.street_share > 0 for phase in self.phases if phase.trains == trains):
            return range(0)
        first, count = STREET_SEED, self.street_towns
        if trains == "temporal" and self.temporal_towns:
            first, count = first + count, self.temporal_towns
        return range(first, first + count)

    def phase_at(self, step: int) -> Phase:
        """The phase that a step belongs to."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]

    def stage_at(self, step: int) -> tuple[int, int]:
        """The first step and the length of the stage of a step: all phases that train the same part of the network.

        The learning rate falls to zero over a stage.
        """
        trains = self.phase_at(step).trains
        before = sum(phase.steps for phase in self.phases if phase.trains < trains)
        return before, sum(phase.steps for phase in self.phases if phase.trains == trains)

    def network_config(self, num_classes: int) -> SDCPCConfig:
        """Raises RecipeError naming the field of `network` and the allowed values."""
        if "num_classes" in self.network:
            raise RecipeError("recipe: network: num_classes follows from the data set; leave it out")
        try:
            return SDCPCConfig.from_dict({"num_classes": num_classes, **self.network})
        except ValueError as error:
            raise RecipeError(f"recipe: network: {error}") from error


def load_recipe(path: str | os.PathLike[str], leave_out: Sequence[str] = ()) -> Recipe:
    """Read a recipe. leave_out: if any, in place of the recipe's. Raises RecipeError that names the file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not a readable recipe ({error})") from error
    try:
        recipe = recipe_from(values)
        return replace(recipe, leave_out=tuple(sorted(leave_out))) if leave_out else recipe
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def recipe_from(values: Any) -> Recipe:
    """A recipe from the values of a YAML file. Raises RecipeError naming the field and the allowed values."""
    if isinstance(values, dict):
        values = dict(values)
        if isinstance(values.get("phases"), list):
            values["phases"] = [Phase.from_dict(phase, "a phase") for phase in values["phases"]]
        for name, kind in (("prototypes", PrototypeSettings), ("validation", ValidationSettings)):
            if values.get(name) is not None:
                values[name] = kind.from_dict(values[name], name)
    return Recipe.from_dict(values, "a recipe")
