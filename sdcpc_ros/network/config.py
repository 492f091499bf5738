"""The configuration of a network: everything that decides the shapes and meaning of its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

_Config = TypeVar("_Config", bound="NetworkFields")

#: RGB, in units of 0..255: a mean or a standard deviation.
Colour = tuple[float, float, float]

ENCODERS = (
    *("mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5", "resnet18", "resnet50", "resnet101", "resnet_tiny"),
    *("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
)
OUTPUT_STRIDES = (8, 16, 32)
#: Fields in earlier checkpoints, with the only value that is still supported.
_FORMER_FIELDS = {"base_width": 64}
#: Fields that no weight depends on: they may differ from those that a network was trained with.
FREE_FIELDS = (
    *("drop_path", "head_dropout", "reference_offsets", "coarse_radius", "fine_radius", "recurrent", "temporal"),
    "persistence",
)


@dataclass(frozen=True)
class NetworkFields:
    """What configurations of networks have in common: fields, checks, and the way into a checkpoint and back.

    Raises ValueError naming the field and what is allowed.
    """

    #: The network's name in a checkpoint.
    architecture: ClassVar[str]

    #: Number of classes, 1..255.
    num_classes: int
    #: Off: every frame is segmented by itself. SD-CPC is built without DSSA then, for ablation only.
    temporal: bool = True
    #: How many frames back the references lie. CFFM and MRCFA use 3, 6, 9; the nearest matches best, and a second one
    #: adds half of the time and no accuracy (ours, docs/design_notes.md).
    reference_offsets: tuple[int, ...] = (1,)
    #: Stage 1 of DSSA: reach of the window at stride 16, in cells (inferred: 4, that is +-64 px).
    coarse_radius: int = 4
    #: Logits that a class which all trusted references have at a place gains there, where the scene hardly moves
    #: (ours). More means less flicker, labels that are slower to change, and a loss of thin things.
    persistence: float = 0.0

    def __post_init__(self) -> None:
        self._require_int("num_classes", 1, 255)
        self._require_bool("temporal")
        self._require_increasing("reference_offsets")
        self._require_int("coarse_radius", 0, 8)
        is_number = isinstance(self.persistence, int | float) and not isinstance(self.persistence, bool)
        self._require("persistence", is_number and 0 <= self.persistence <= 8, "a number in 0..8")

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls: type[_Config], values: dict[str, Any]) -> _Config:
        """The inverse of `to_dict`, for values read from a file. Raises ValueError naming an unknown or bad field."""
        if not isinstance(values, dict):
            raise ValueError(f"network configuration: a mapping is needed, not {type(values).__name__}")
        for field, only in _FORMER_FIELDS.items():
            if values.get(field, only) != only:
                raise ValueError(f"network configuration: {field} is {values[field]!r}; only {only} is supported")
        values = {key: value for key, value in values.items() if key not in _FORMER_FIELDS}
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"network configuration: unknown field {', '.join(unknown)}; known are {', '.join(sorted(known))}"
            )
        try:
            arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**arguments)
        except TypeError as error:
            raise ValueError(f"network configuration: {error}") from error

    def _require(self, field: str, holds: bool, allowed: str) -> None:
        """Raises ValueError naming the field and what is allowed, unless `holds`."""
        if not holds:
            raise ValueError(f"network configuration: {field} is {getattr(self, field)!r}; {allowed}")

    def _require_int(self, field: str, least: int, most: int) -> None:
        self._require(field, _is_int(getattr(self, field), least, most), f"an integer in {least}..{most}")

    def _require_bool(self, field: str) -> None:
        self._require(field, isinstance(getattr(self, field), bool), "true or false")

    def _require_increasing(self, field: str) -> None:
        values = getattr(self, field)
        holds = isinstance(values, tuple) and 1 <= len(values) <= 16 and all(_is_int(v, 1, 64) for v in values)
        self._require(field, holds and all(a < b for a, b in pairwise(values)), "1 to 16 increasing integers in 1..64")


@dataclass(frozen=True)
class SDCPCConfig(NetworkFields):
    """Configuration of `SDCPC`. Values marked *inferred* are our reading of Cen et al. (2025); see docs/network.md."""

    architecture: ClassVar[str] = "sdcpc"

    #: One of ENCODERS.
    encoder: str = "mit_b0"
    #: ResNet only: stride of the last level; 8 and 16 dilate the later stages instead of striding them.
    output_stride: int = 32
    #: MiT only: epsilon of its layer norms; 1e-6 in the original weights, 1e-5 in Hugging Face's.
    layer_norm_eps: float = 1e-6
    #: MiT only: stochastic depth of the last block in training.
    drop_path: float = 0.1
    #: Share of the head's channels that are dropped in training.
    head_dropout: float = 0.1
    #: D, the channels of static and aggregated features (inferred: 128 for MiT-B0, 256 above).
    embed_dim: int = 128
    #: d, the channels of queries, keys and values in every attention but DSSA's second stage: half (inferred: 64).
    key_dim: int = 64
    #: SSEA: side lengths of the pooling grids whose cells are the static tokens (inferred).
    pool_grids: tuple[int, ...] = (1, 2, 4, 8)
    #: SSEA: attend to the static tokens; without, the fused pyramid is S. Off for ablation only.
    static_aggregation: bool = True
    #: DSSA stage 2: reach of the window at stride 4 around the matched place, in cells (inferred: 2, that is +-8 px).
    fine_radius: int = 2
    #: DSSA: a frame leaves the classes that it was given with its references, not those of the frame by itself (ours).
    recurrent: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("encoder", self.encoder in ENCODERS, f"one of {', '.join(ENCODERS)}")
        self._require("output_stride", self.output_stride in OUTPUT_STRIDES, f"one of {OUTPUT_STRIDES}")
        self._require("layer_norm_eps", 0 < self.layer_norm_eps < 1e-2, "a number in (0, 0.01)")
        for field in ("drop_path", "head_dropout"):
            self._require(field, 0 <= getattr(self, field) < 1, "a number in [0, 1)")
        # Half of key_dim must leave features after DSSA takes four channels off (`dssa.feature_channels`).
        for field, least in (("embed_dim", 8), ("key_dim", 16)):
            self._require_int(field, least, 1024)
        self._require_increasing("pool_grids")
        self._require_int("fine_radius", 0, 8)
        for field in ("static_aggregation", "recurrent"):
            self._require_bool(field)


def _is_int(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
