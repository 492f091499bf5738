"""A slow network that runs out of memory now and then, under a clock that jumps and transitions at the wrong moment."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

TROUBLED = str(Path(__file__).parents[1] / "troubled_node.py")
DELAY_S = 0.3
PATIENCE_S = 1.0  # every third frame is lost, and has to be sent again
NAMESPACE = "/robot/head"
NODE_NAME = f"{NAMESPACE}/segmentation_node"
IMAGES = f"{NAMESPACE}/camera/image_raw"


@pytest.fixture(scope="module")
def node(start_node, tiny_checkpoint):
    program = (TROUBLED, "--delay", str(DELAY_S), "--fail-every", "3", "--failure", "memory")
    return start_node(
        program=program,
        namespace=NAMESPACE,
        model=tiny_checkpoint,
        device="cpu",
        use_sim_time="true",
        max_gap=3600.0,
    )


@pytest.fixture(scope="module")
def masks(node, peer):
    return peer.collect(peer.topic("camera/label/image_raw"), Image)


def test_out_of_memory_costs_a_frame_and_no_more(node, peer, masks, image, street, note_fault):
    for stamp in range(10, 15):
        assert peer.exchange(IMAGES, image(street(), stamp), masks, PATIENCE_S)
    report = peer.fresh_report("camera")
    assert int(report["lost to faults"]) >= 1 and int(report["resets: fault"]) >= 1
    assert "a frame was lost to OutOfMemoryError: CUDA out of memory" in node.log()
    assert node.is_alive()
    counted = {key: int(report[key]) for key in ("lost to faults", "resets: fault")}
    note_fault("out of memory in the network", sent=counted["lost to faults"], counted=counted, served=len(masks))


def test_a_clock_that_jumps(node, peer, masks, image, street, note_fault):
    """The clock stands, leaps and goes back; stamps follow it. Reports go on, and tell how far off the stamps are."""
    clock = peer.node.create_publisher(Clock, "/clock", 10)
    peer.wait_until(lambda: clock.get_subscription_count() > 0, "the node on /clock")
    before, times_s, answered = (
        int(peer.fresh_report("camera")["resets: backward"]),
        (1000, 1000, 5000, 200, 0),
        len(masks),
    )
    for now_s in times_s:
        clock.publish(Clock(clock=Time(sec=now_s)))
        peer.spin_for(0.3)
        assert peer.exchange(IMAGES, image(street(), now_s + 0.25), masks, PATIENCE_S)
    report = peer.fresh_report("camera")
    backward = int(report["resets: backward"]) - before
    assert backward >= 2
    clock.publish(Clock(clock=Time(sec=100)))
    peer.spin_for(0.3)

    def off_the_clock() -> bool:
        peer.exchange(IMAGES, image(street(), 40.0), masks, PATIENCE_S)
        report = peer.fresh_report("camera")
        return report["level"] == DiagnosticStatus.WARN and report["message"].startswith("the stamps are 60.0 s behind")

    peer.wait_until(off_the_clock, "a warning of stamps that the clock does not fit")
    counted = {"resets: backward": backward, "warnings that the clock does not fit": 1}
    note_fault(
        "/clock standing, leaping, going back", sent=len(times_s) + 1, counted=counted, served=len(masks) - answered
    )


def test_transitions_in_the_midst_of_inference(node, peer, masks, image, street, note_fault):
    publisher, rounds = peer.publisher(IMAGES), 3
    for _ in range(rounds):
        before = peer.count("camera", "received")
        while peer.count("camera", "received") == before:
            publisher.publish(image(street(), 300.0))
            peer.spin_for(0.1)
        begun = time.monotonic()
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)  # waits for the frame in work
        assert time.monotonic() - begun < DELAY_S + 5
        assert peer.change_state(Transition.TRANSITION_CLEANUP)
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert peer.exchange(IMAGES, image(street(), 301.0), masks, PATIENCE_S)
    assert "cannot" not in node.log()
    counted = {"transitions made": 4 * rounds}
    note_fault("deactivate and cleanup in the midst of inference", sent=2 * rounds, counted=counted, served=1)


def test_it_ends_in_the_midst_of_it_all(node, peer, image, street):
    peer.publisher(IMAGES).publish(image(street(), 400.0))
    begun = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - begun < 4
    assert "shutting down" in node.log()
