"""The SD-CPC network: tensors in, tensors out."""

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.dynamic_alignment import FrameMemory
from sdcpc_ros.network.sdcpc import SDCPC, ClipOutput, EncodedFrame

__all__ = ["SDCPC", "ClipOutput", "EncodedFrame", "FrameMemory", "SDCPCConfig"]
