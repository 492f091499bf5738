"""What comes over the wire as it should not: hostile fields, bytes that are no message, bombs, streams that change."""

from __future__ import annotations

import array
import importlib.util
import os
import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

_SPEC = importlib.util.spec_from_file_location("hostile", Path(__file__).parents[3] / "nodes" / "hostile_messages.py")
_HOSTILE = importlib.util.module_from_spec(_SPEC)
sys.modules["hostile"] = _HOSTILE  # where dataclasses look for it
_SPEC.loader.exec_module(_HOSTILE)

EXAMPLES = int(os.environ.get("SDCPC_HOSTILE_MESSAGES_OVER_DDS", 500)) // 2
_settings = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


def as_message(kind: type, hostile) -> Image | CompressedImage:
    fields = {**hostile.fields, "data": array.array("B", hostile.fields["data"])}
    message = kind(header=Header(frame_id=hostile.frame_id), **fields)
    message.header.stamp.sec, message.header.stamp.nanosec = hostile.sec, hostile.nanosec
    return message


def test_hostile_messages_are_counted_and_good_ones_served(target):
    sent = {"front": 0, "rear": 0}

    def attack(camera: str, kind: type, hostile) -> None:
        publisher = target.peer.publisher(target.FRONT if camera == "front" else target.REAR, kind)
        publisher.publish(as_message(kind, hostile))
        sent[camera] += 1
        target.peer.spin_for(0.002)  # no faster than it is read, or most would be lost on the way

    @_settings
    @given(hostile=_HOSTILE.RAW)
    def attack_front(hostile) -> None:
        attack("front", Image, hostile)

    @_settings
    @given(hostile=_HOSTILE.COMPRESSED)
    def attack_rear(hostile) -> None:
        attack("rear", CompressedImage, hostile)

    for camera, run in (("front", attack_front), ("rear", attack_rear)):
        target.serves(camera)
        run()
        target.serves(camera)
        report = target.balance(camera)
        assert sent[camera] >= 0.9 * EXAMPLES
        assert int(report["received"]) > 0.1 * sent[camera]  # best effort: a busy machine loses many on the way
        assert int(report["rejected"]) > 0.2 * int(report["received"])
        assert int(report["lost to faults"]) == 0, target.process.log()
        assert "Traceback" not in target.process.log()
        kind = "Image" if camera == "front" else "CompressedImage"
        target.note(f"{kind} with every field true or a lie, over DDS", sent=sent[camera], camera=camera)


def test_bytes_that_are_no_message(target):
    """The middleware throws away what cannot be deserialised; what can, after all, is for the node to judge."""
    whole = bytes(serialize_message(target.good_image(pixels=np.zeros((40, 40), np.uint8), encoding="mono8")))
    target.serves()
    publisher, chance, sent = target.peer.publisher(target.FRONT), random.Random(0), 150
    for _ in range(sent):
        damaged = bytearray(whole[: chance.choice([len(whole), chance.randrange(4, 120)])])
        for _ in range(chance.randrange(1, 12)):  # in the fields, or in what says how long they are
            damaged[chance.randrange(4, min(len(damaged), 80))] = chance.randrange(256)
        publisher.publish(bytes(damaged))
        target.peer.spin_for(0.003)
    target.serves()
    assert "Traceback" not in target.process.log()
    target.note("serialised images cut short, or with bytes changed in fields and lengths", sent=sent)


def test_text_that_is_not_utf8_is_counted(target):
    whole = bytes(serialize_message(target.good_image()))
    damaged = whole.replace(b"rgb8", b"\xff\xfe\xff\xfe")
    sent = target.send_until_counted(damaged, "front", "rejected: unknown_encoding")
    target.serves()
    target.note("an encoding that is not UTF-8", sent=sent)


def png_bomb(side: int) -> bytes:
    """A PNG of a few hundred kilobytes or less that decodes to side * side bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    squeezer = zlib.compressobj(9)
    rows = b"".join(squeezer.compress(bytes(side + 1)) for _ in range(side)) + squeezer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_not_decoded(target):
    bomb = CompressedImage(format="png", data=array.array("B", png_bomb(12_000)))
    assert len(bomb.data) < 200_000
    before_mib = float(target.peer.fresh_report("model")["process memory (MiB)"])
    sent = target.send_until_counted(bomb, "rear", "rejected: too_large")
    assert float(target.peer.fresh_report("model")["process memory (MiB)"]) < before_mib + 50
    target.serves("rear")
    target.note("a PNG of 150 kB that decodes to 144 MB", sent=sent, camera="rear")


@pytest.mark.parametrize("seconds", [(50, 40), (50, 50), (50, 0), (50, 2**31 - 1, 51)], ids=str)
def test_stamps_of_every_kind(target, seconds):
    """Backward, equal, zero, and far in the future with a way back: each frame is served, none is frozen out."""
    for stamp in seconds:
        message = target.good_image(float(stamp))
        target.masks["front"].clear()
        assert target.serves(message=message).header == message.header
    target.note(f"stamps of {', '.join(str(second) for second in seconds)} s", sent=len(seconds))


def test_size_encoding_and_frame_change_with_every_frame(target, street):
    before = target.peer.fresh_report("front")
    for index, (height, width) in enumerate(((64, 96), (120, 160), (33, 47), (64, 96), (90, 121), (48, 64))):
        pixels, encoding = street(height, width), ("rgb8", "bgr8", "mono8")[index % 3]
        fields = {"pixels": pixels if encoding != "mono8" else pixels[..., 0], "encoding": encoding}
        message = target.good_image(**fields, frame_id=f"eye_{index}")
        mask = target.serves(message=message)
        assert (mask.height, mask.width, mask.header.frame_id) == (height, width, f"eye_{index}")
    after = target.peer.fresh_report("front")
    assert int(after["resets: frame_id"]) >= int(before["resets: frame_id"]) + 6
    assert int(after["lost to faults"]) == int(before["lost to faults"])
    target.note("another size, encoding and frame_id with every frame", sent=6)
