"""The networks that a checkpoint may hold, by the name of their architecture."""

from __future__ import annotations

from typing import Any, TypeAlias

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.given_logits import GivenLogits, GivenLogitsConfig, Runner
from sdcpc_ros.network.sdcpc import SDCPC
from sdcpc_ros.network.segformer import SegFormer, SegFormerConfig
from sdcpc_ros.network.steadied import SteadiedConfig, SteadiedNetwork

NetworkConfig: TypeAlias = SDCPCConfig | SteadiedConfig
StreamNetwork: TypeAlias = SDCPC | SteadiedNetwork

_CONFIGS: dict[str, type[SDCPCConfig] | type[SteadiedConfig]] = {
    config.architecture: config for config in (SDCPCConfig, SegFormerConfig, GivenLogitsConfig)
}


def config_from_dict(architecture: str, values: dict[str, Any]) -> NetworkConfig:
    """A configuration from what a checkpoint says. Raises ValueError naming an unknown architecture or a bad field."""
    if architecture not in _CONFIGS:
        raise ValueError(f"network architecture '{architecture}' is unknown; known are {', '.join(_CONFIGS)}")
    return _CONFIGS[architecture].from_dict(values)


def describe(config: NetworkConfig) -> str:
    """What the network is, in a few words."""
    if isinstance(config, SDCPCConfig):
        return f"SD-CPC with {config.encoder}"
    if isinstance(config, SegFormerConfig):
        return f"SegFormer with {config.encoder}"
    if isinstance(config, GivenLogitsConfig):
        return f"an ONNX model that gives {config.output}"
    return config.architecture


def fixed_size(config: NetworkConfig) -> tuple[int, int] | None:
    """The only (height, width) that the network takes, px; None for any."""
    return config.fixed_size if isinstance(config, GivenLogitsConfig) else None


def describe_temporal_path(config: NetworkConfig) -> str:
    """How the network uses earlier frames, in a few words."""
    if not config.temporal:
        return "none: every frame by itself"
    if isinstance(config, SDCPCConfig):
        return "DSSA with weights"
    return "DSSA without weights"


def build_network(
    config: NetworkConfig,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    runner: Runner | None = None,
) -> StreamNetwork:
    """The network of `config`, randomly initialised. mean, std: that images are normalised with, RGB in 0..255.

    runner: of the model, for GivenLogitsConfig.
    """
    if isinstance(config, SDCPCConfig):
        return SDCPC(config)
    if isinstance(config, SegFormerConfig):
        return SegFormer(config, mean, std)
    if isinstance(config, GivenLogitsConfig) and runner is not None:
        return GivenLogits(config, mean, std, runner)
    raise ValueError(f"no network of architecture '{config.architecture}'")
