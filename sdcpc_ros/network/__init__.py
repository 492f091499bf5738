"""The SD-CPC network, and a temporal path for imported segmenters: tensors in, tensors out."""

from sdcpc_ros.network.architectures import NetworkConfig, StreamNetwork
from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.cross_frame import FrameMemory
from sdcpc_ros.network.sdcpc import DEFAULT_RATE_HZ, SDCPC, ClipOutput, EncodedFrame

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
