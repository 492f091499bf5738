"""Temporally consistent semantic segmentation for ROS 2: SD-CPC in PyTorch."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
#: The shipped model, the default of the node and the commands.
DEFAULT_MODEL = "camvid_efficientnet_lite0"

#: Lazily imported names -> their modules. PyTorch takes seconds to import, and the node and most commands start without
#: it.
_LAZY = {
    "StreamingSegmenter": "sdcpc_ros.streaming.segmenter",
    "Segmentation": "sdcpc_ros.streaming.segmenter",
    "load_checkpoint": "sdcpc_ros.model_files.checkpoint",
    "resolve_model": "sdcpc_ros.model_files.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'sdcpc_ros' has no attribute '{name}'")
    import importlib

    from sdcpc_ros.runtime.openmp import limit_omp_spin

    limit_omp_spin()  # as the node and the command do, before PyTorch is imported
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
