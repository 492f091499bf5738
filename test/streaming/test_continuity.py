from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from sdcpc_ros.streaming.continuity import break_between


@dataclass(frozen=True)
class Facts:
    stamp_s: float = 5.0
    frame_id: str = "optical"
    size: tuple[int, int] = (480, 640)
    encoding: str = "rgb8"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({}, None),  # the same stamp twice goes on
        ({"stamp_s": 5.5}, None),  # exactly the longest gap
        ({"stamp_s": 5.50001}, "gap"),
        ({"stamp_s": 4.999999999}, "backward"),
        ({"frame_id": "other", "stamp_s": 0.0}, "frame_id"),  # the first rule that is broken names the cause
        ({"size": (480, 641)}, "size"),
        ({"encoding": "bgr8"}, "encoding"),
    ],
)
def test_each_rule_has_its_cause(change, cause):
    assert break_between(Facts(), replace(Facts(), **change), max_gap_s=0.5) == cause


@pytest.mark.parametrize("start_ns", [0, 7, 1_700_000_000_123_456_789, 4_000_000_000_999_999_999])
def test_the_longest_gap_is_allowed_at_every_epoch(start_ns):
    """Stamps in seconds are rounded; frames at 1 Hz must not break by that."""
    stamps_s = [(start_ns + number * 10**9) / 1e9 for number in range(1000)]
    frames = [Facts(stamp_s) for stamp_s in stamps_s]
    assert {break_between(a, b, max_gap_s=1.0) for a, b in pairwise(frames)} == {None}
    assert break_between(frames[0], Facts(stamps_s[1] + 1e-5), max_gap_s=1.0) == "gap"
