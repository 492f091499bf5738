"""The SD-CPC network, and a temporal path for imported segmenters: tensors in, tensors out."""

from typing import TypeAlias

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.cross_frame import FrameMemory
from sdcpc_ros.network.given_logits import GivenLogitsConfig
from sdcpc_ros.network.sdcpc import DEFAULT_RATE_HZ, SDCPC, ClipOutput, EncodedFrame
from sdcpc_ros.network.segformer import SegFormerConfig
from sdcpc_ros.network.steadied import SteadiedNetwork

#: What a checkpoint may hold, and the network that it makes.
NetworkConfig: TypeAlias = SDCPCConfig | SegFormerConfig | GivenLogitsConfig
StreamNetwork: TypeAlias = SDCPC | SteadiedNetwork

__all__ = [
    "DEFAULT_RATE_HZ",
    "SDCPC",
    "ClipOutput",
    "EncodedFrame",
    "FrameMemory",
    "NetworkConfig",
    "SDCPCConfig",
    "StreamNetwork",
]
