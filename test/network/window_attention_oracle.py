"""The definition of window attention, position by position: slow, obvious, and sharing no code with the package."""

from __future__ import annotations

import numpy as np


def window_attention_oracle(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, radius: int, valid: np.ndarray, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, ...], dict[tuple[int, int], float]]]:
    """Output (B, Dv, h, w), mass (B, K, h, w), and all logits as {(b, k, y, x): {(dy, dx): logit}}."""
    batch, references, channels, height, width = keys.shape
    output = np.zeros((batch, values.shape[2], height, width))
    mass = np.zeros((batch, references, height, width))
    all_logits: dict[tuple[int, ...], dict[tuple[int, int], float]] = {}
    for b, y, x in np.ndindex(batch, height, width):
        candidates = []
        for k in range(references):
            logits = {}
            for dy in range(-radius, radius + 1):
                for dx in range(-radius, radius + 1):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        logit = query[b, :, y, x] @ keys[b, k, :, y + dy, x + dx] / np.sqrt(channels)
                        logits[dy, dx] = logit + (0.0 if bias is None else bias[b, k, y, x])
            all_logits[b, k, y, x] = logits
            if valid[b, k]:
                candidates += [(logit, k, offset) for offset, logit in logits.items()]
        if not candidates:
            continue
        weights = np.exp(np.array([logit for logit, _, _ in candidates]) - max(logit for logit, _, _ in candidates))
        for weight, (_, k, (dy, dx)) in zip(weights / weights.sum(), candidates):
            output[b, :, y, x] += weight * values[b, k, :, y + dy, x + dx]
            mass[b, k, y, x] += weight
    return output, mass, all_logits
