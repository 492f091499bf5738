"""The input of a segmenter. It is apart from the segmenter because PyTorch takes seconds to import."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sdcpc_ros.streaming.geometry import MIN_SIDE


@dataclass(frozen=True)
class StreamFrame:
    """The next frame of a stream; the arguments of `StreamingSegmenter.segment`."""

    image: np.ndarray  #: (H, W, 3) uint8 RGB
    stamp_s: float | None = None  #: seconds; None: 1/15 s after the last frame of the stream
    stream: str = "camera"
    confidence: bool = False  #: whether the confidence is wanted
    frame_id: str = ""  #: the coordinate frame of the camera; another one is another camera
    encoding: str = ""  #: of the source, as `bgr8`; another one means another camera mode
    source_size: tuple[int, ...] = ()  #: (height, width) of the source, where the image was resized

    def check(self) -> None:
        """Raises ValueError for an image or a stamp that cannot be used."""
        image = self.image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"the image is {found}; uint8 (H, W, 3) RGB is needed")
        height, width = image.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise ValueError(f"the image is {width}x{height} px; at least {MIN_SIDE}x{MIN_SIDE} is needed")
        if self.stamp_s is not None and not math.isfinite(self.stamp_s):
            raise ValueError(f"the stamp is {self.stamp_s} s; a finite number is needed")
