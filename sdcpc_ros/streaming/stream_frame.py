"""What goes into a segmenter. Without PyTorch, which takes seconds to import: the node names it before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StreamFrame:
    """The next frame of a stream, as `StreamingSegmenter.segment` takes it."""

    image: np.ndarray  #: (H, W, 3) uint8 RGB
    stamp_s: float | None = None  #: seconds
    stream: str = "camera"
    confidence: bool = False  #: whether the confidence is wanted
