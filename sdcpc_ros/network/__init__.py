"""The SD-CPC network: tensors in, tensors out."""

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.dssa import FrameMemory
from sdcpc_ros.network.sdcpc import DEFAULT_RATE_HZ, SDCPC, ClipOutput, EncodedFrame

__all__ = ["DEFAULT_RATE_HZ", "SDCPC", "ClipOutput", "EncodedFrame", "FrameMemory", "SDCPCConfig"]
