"""The networks that a checkpoint may hold, by the name of their architecture."""

from __future__ import annotations

from typing import Any, TypeAlias

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.given_logits import GivenLogitsConfig
from sdcpc_ros.network.sdcpc import SDCPC
from sdcpc_ros.network.segformer import SegFormerConfig
from sdcpc_ros.network.steadied import SteadiedNetwork

NetworkConfig: TypeAlias = SDCPCConfig | SegFormerConfig | GivenLogitsConfig
StreamNetwork: TypeAlias = SDCPC | SteadiedNetwork

_CONFIGS: dict[str, type[NetworkConfig]] = {
    config.architecture: config for config in (SDCPCConfig, SegFormerConfig, GivenLogitsConfig)
}


def config_from_dict(architecture: str, values: dict[str, Any]) -> NetworkConfig:
    """A configuration from what a checkpoint says. Raises ValueError naming an unknown architecture or a bad field."""
    if architecture not in _CONFIGS:
        raise ValueError(f"network architecture '{architecture}' is unknown; known are {', '.join(_CONFIGS)}")
    return _CONFIGS[architecture].from_dict(values)


def describe(config: NetworkConfig) -> str:
    """What the network is, in a few words."""
    if isinstance(config, GivenLogitsConfig):
        return f"an ONNX model that gives {config.output}"
    return f"{'SD-CPC' if isinstance(config, SDCPCConfig) else 'SegFormer'} with {config.encoder}"


def fixed_size(config: NetworkConfig) -> tuple[int, int] | None:
    """The only (height, width) that the network takes, px; None for any."""
    return config.fixed_size if isinstance(config, GivenLogitsConfig) else None


def describe_temporal_path(config: NetworkConfig) -> str:
    """How the network uses earlier frames, in a few words."""
    if not config.temporal:
        return "none: every frame by itself"
    return "DSSA with weights" if isinstance(config, SDCPCConfig) else "DSSA without weights"
