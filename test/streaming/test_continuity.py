from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from sdcpc_ros.streaming.continuity import break_between


@dataclass(frozen=True)
class Facts:
    stamp_ns: int = 5_000_000_000
    frame_id: str = "optical"
    size: tuple[int, int] = (480, 640)
    encoding: str = "rgb8"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({}, None),  # the same stamp twice goes on
        ({"stamp_ns": 5_500_000_000}, None),  # exactly the longest gap
        ({"stamp_ns": 5_500_000_001}, "gap"),
        ({"stamp_ns": 4_999_999_999}, "backward"),
        ({"frame_id": "other", "stamp_ns": 0}, "frame_id"),  # the first rule that is broken names the cause
        ({"size": (480, 641)}, "size"),
        ({"encoding": "bgr8"}, "encoding"),
    ],
)
def test_each_rule_has_its_cause(change, cause):
    assert break_between(Facts(), replace(Facts(), **change), max_gap_s=0.5) == cause
