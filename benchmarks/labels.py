"""Labels at image size from stride-4 logits of 19 classes: part of question d."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Effort, interleaved
from benchmarks.rows import Row
from sdcpc_ros.streaming.label_upsampling import DeviceLabels, labels_from_logits

_CLASSES = 19
_TARGET_MS = 6.0


def rows(effort: Effort) -> Iterator[Row]:
    """Ours against interpolating every class, with PyTorch and on a CPU with OpenCV too."""
    size = (72, 128) if effort.quick else (720, 1280)
    logits = _logits(size)
    calls = _on_gpu(logits.to(effort.device), size) if effort.on_gpu else _on_cpu(logits, size)
    timings = interleaved(calls, effort)
    what = f"labels of {_CLASSES} classes at {size[1]}x{size[0]}: ours"
    (_, ours), *peers = timings.items()
    least_mb = (logits.nbytes + size[0] * size[1]) / 1e6
    for number, (name, peer) in enumerate(peers):
        compared = ours.compared_to(peer)
        row = Row(f"{what} / {name}", **compared, ours_mb=least_mb, peer_mb=least_mb)
        if number == 0 and not effort.on_gpu:
            row = replace(row, target=_TARGET_MS / compared["peer_ms"], note=f"target: {_TARGET_MS:.0f} ms on a CPU")
        yield row


def _logits(size: tuple[int, int]) -> Tensor:
    """(1, C, H/4, W/4), classes last in memory as the network leaves them: regions as large as a picture's, with noisy
    borders. A quarter of the cells has samples of several classes; of a street scene's, a tenth."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.randn(1, _CLASSES, 6, 10, generator=generator) * 4
    fine = F.interpolate(regions, (size[0] // 4, size[1] // 4), mode="bicubic")
    noisy = fine + 0.3 * torch.randn(fine.shape, generator=generator)
    return noisy.contiguous(memory_format=torch.channels_last)


def _on_cpu(logits: Tensor, size: tuple[int, int]) -> dict[str, Callable[[], object]]:
    classes_last, planes = logits[0].numpy(), logits.contiguous()  # each gets what suits it
    return {
        "ours": lambda: labels_from_logits(classes_last, size),
        "interpolate, then argmax": lambda: _interpolate_all(planes, size).numpy(),
        "cv2.resize of each class and a running maximum": lambda: _resize_each(planes[0].numpy(), size),
    }


def _on_gpu(logits: Tensor, size: tuple[int, int]) -> dict[str, Callable[[], object]]:
    ours = DeviceLabels((logits.shape[2], logits.shape[3]), size, logits.device)
    return {"ours": lambda: ours(logits), "interpolate, then argmax": lambda: _interpolate_all(logits, size)}


def _interpolate_all(logits: Tensor, size: tuple[int, int]) -> Tensor:
    whole = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return whole.argmax(1)[0].to(torch.uint8)


def _resize_each(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) -> (H, W) uint8, the quickest way that does not look at what the logits are."""
    labels = np.zeros(size, np.uint8)
    best = cv2.resize(logits[0], size[::-1], interpolation=cv2.INTER_LINEAR)
    for class_id, plane in enumerate(logits[1:], start=1):
        whole = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR)
        wins = np.asarray(cv2.compare(whole, best, cv2.CMP_GT))
        cv2.max(best, whole, dst=best)
        cv2.max(labels, np.bitwise_and(wins, np.uint8(class_id), out=wins), dst=labels)
    return labels
