"""The definition of window attention, position by position: slow, obvious, and sharing no code with the package."""

from __future__ import annotations

import numpy as np


def window_attention_oracle(
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    radius: int,
    valid: np.ndarray,
    scale: float | None = None,
    position_weight: float = 0.0,
    gather_index: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[tuple[int, ...], dict[tuple[int, int], float]]]:
    """Output (B, Dv, h, w), and all logits as {(b, y, x): {(dy, dx): logit}}."""
    batch, channels, height, width = keys.shape
    scale = 1 / np.sqrt(channels) if scale is None else scale
    frequency = np.pi / (radius + 1)
    if gather_index is not None:
        rows = gather_index.reshape(batch, 1, -1)
        keys, values = (
            np.take_along_axis(part.reshape(batch, part.shape[1], -1), rows, 2).reshape(part.shape)
            for part in (keys, values)
        )
    output = np.zeros((batch, values.shape[1], height, width))
    all_logits: dict[tuple[int, ...], dict[tuple[int, int], float]] = {}
    for b, y, x in np.ndindex(batch, height, width):
        logits = {}
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    product = query[b, :, y, x] @ keys[b, :, y + dy, x + dx]
                    bias = np.cos(frequency * dy) + np.cos(frequency * dx)
                    logits[dy, dx] = scale * product + position_weight * bias
        all_logits[b, y, x] = logits
        if not valid[b]:
            continue
        weights = np.exp(np.array(list(logits.values())) - max(logits.values()))
        for weight, (dy, dx) in zip(weights / weights.sum(), logits):
            output[b, :, y, x] += weight * values[b, :, y + dy, x + dx]
    return output, all_logits
