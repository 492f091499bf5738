"""Whatever an image message says, the conversion layer gives a picture of the size it claims, or refuses with a cause.

SDCPC_HOSTILE_MESSAGES sets how many are made, raw and compressed together: 20000 take a minute or two.
"""

from __future__ import annotations

import array
import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs", reason="no ROS 2 in this environment")

from sdcpc_ros.images.decoding import BadImage
from sdcpc_ros.nodes.image_messages import decode, image_format

_SPEC = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile_messages.py"))
_HOSTILE = importlib.util.module_from_spec(_SPEC)
sys.modules["hostile"] = _HOSTILE  # where dataclasses look for it
_SPEC.loader.exec_module(_HOSTILE)

MAX_PIXELS = 1 << 20
EXAMPLES = int(os.environ.get("SDCPC_HOSTILE_MESSAGES", 2000)) // 2
_settings = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


def check(fields: dict) -> str:
    """What came of it: "picture", or the cause of the refusal."""
    message = SimpleNamespace(**{**fields, "data": array.array("B", fields["data"])})
    try:
        promised = image_format(message, MAX_PIXELS)
        picture = decode(message, promised)
    except BadImage as error:
        assert error.cause in BadImage.CAUSES and len(str(error)) < 1000
        return error.cause
    assert picture.shape == (promised.height, promised.width, 3) and picture.dtype == np.uint8
    return "picture"


def attack(messages: st.SearchStrategy) -> Counter[str]:
    """How often each came of EXAMPLES messages."""
    outcomes: Counter[str] = Counter()

    @_settings
    @given(message=messages)
    def run(message) -> None:
        outcomes[check(message.fields)] += 1

    run()
    assert outcomes["picture"] and len(outcomes) > 2  # neither all well nor all refused at the door
    return outcomes


def test_any_raw_image_gives_a_picture_or_a_refusal(note_fault):
    outcomes = attack(_HOSTILE.RAW)
    fault = "Image with every field true or a lie, through the conversion layer"
    note_fault(fault, sent=outcomes.total(), counted=outcomes, served=outcomes["picture"])


def test_any_compressed_image_gives_a_picture_or_a_refusal(note_fault):
    outcomes = attack(_HOSTILE.COMPRESSED)
    fault = "CompressedImage with every field true or a lie, through the conversion layer"
    note_fault(fault, sent=outcomes.total(), counted=outcomes, served=outcomes["picture"])
