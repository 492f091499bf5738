"""The eager backend: plain PyTorch, on any device, at once."""

from __future__ import annotations

import torch
from torch import Tensor

from sdcpc_ros.network import SDCPC, EncodedFrame, FrameMemory


class EagerBackend:
    """Runs the modules as they are, in float32 and channels-last."""

    def __init__(
        self, model: SDCPC, mean: tuple[float, float, float], std: tuple[float, float, float], device: torch.device
    ) -> None:
        self.device = device
        # Convolutions on CPU and GPU alike are fastest channels-last, which is also how images arrive.
        self._model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self._scale = 1 / torch.tensor(std, device=device).view(3, 1, 1)

    @torch.inference_mode()
    def encode(self, image: Tensor) -> EncodedFrame:
        pixels = image.to(self.device, non_blocking=True).float()
        return self._model.encode((pixels - self._mean) * self._scale)

    @torch.inference_mode()
    def aggregate(self, frame: EncodedFrame, references: FrameMemory, valid: Tensor) -> Tensor:
        return self._model.aggregate(frame, references, valid)
