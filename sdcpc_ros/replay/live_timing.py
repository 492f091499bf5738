"""Times of a live run: speed, drops, latency and jitter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class LiveTiming:
    """When each camera frame was published and when its mask arrived, by stamp; system clock, ns."""

    published_ns: dict[int, int] = field(default_factory=dict)
    arrived_ns: dict[int, int] = field(default_factory=dict)

    def latency_ns(self, stamp_ns: int) -> int | None:
        """Of one frame; None if it was not published, or got no mask."""
        if stamp_ns not in self.published_ns or stamp_ns not in self.arrived_ns:
            return None
        return self.arrived_ns[stamp_ns] - self.published_ns[stamp_ns]

    def summary(self) -> dict[str, Any]:
        """For JSON. Latency is from publication to the arrival of the mask, jitter its change from mask to mask."""
        answered = [stamp for stamp in self.published_ns if stamp in self.arrived_ns]
        latencies_ms = np.array([(self.arrived_ns[stamp] - self.published_ns[stamp]) / 1e6 for stamp in answered])
        return {
            "frames_published": len(self.published_ns),
            "frames_labelled": len(answered),
            "frames_dropped": len(self.published_ns) - len(answered),
            "input_rate_hz": _rate_hz(list(self.published_ns.values())),
            "frame_rate_hz": _rate_hz([self.arrived_ns[stamp] for stamp in answered]),
            "latency_ms": _percentiles(latencies_ms),
            "jitter_ms": _percentiles(np.abs(np.diff(latencies_ms))),
        }


def _rate_hz(times_ns: list[int]) -> float | None:
    span_ns = max(times_ns) - min(times_ns) if times_ns else 0
    return (len(times_ns) - 1) * 1e9 / span_ns if span_ns else None


def _percentiles(values: np.ndarray) -> dict[str, float | None]:
    percentiles = np.percentile(values, (50, 95, 100)).tolist() if values.size else [None] * 3
    return dict(zip(("p50", "p95", "max"), percentiles))
