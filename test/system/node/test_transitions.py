"""Transitions in any order: what the state doesn't allow is refused with an answer; loading keeps nobody waiting."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

TROUBLED = str(Path(__file__).with_name("troubled_node.py"))
LOADING_S = 4.0
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
)
ALLOWED = {"unconfigured": {CONFIGURE}, "inactive": {CLEANUP, ACTIVATE}, "active": {DEACTIVATE}}


@pytest.fixture(scope="module")
def node(start_node, tiny_checkpoint):
    program = (TROUBLED, "--load", str(LOADING_S))
    return start_node(program=program, model=tiny_checkpoint, device="cpu", autostart="false")


def refuses_all_but_allowed(peer, state: str) -> None:
    assert peer.state() == state
    for transition in {CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, 99} - ALLOWED[state]:
        assert not peer.change_state(transition)
    assert peer.state() == state


def test_without_autostart_it_waits_to_be_told(node, peer):
    refuses_all_but_allowed(peer, "unconfigured")
    assert peer.fresh_report("model")["message"] == "unconfigured"
    assert "loading model" not in node.log()


def test_while_the_model_loads_everything_else_is_answered(node, peer):
    answer = peer.begin_to_change_state(CONFIGURE)
    node.wait_for_log("loading model")
    assert peer.state() == "configuring"
    assert peer.fresh_report("model")["message"].startswith("configuring")  # two of them, a second apart
    refused = peer.set_parameter("model", "other")
    assert not refused.successful and "unconfigured" in refused.reason
    assert peer.set_parameter("overlay_opacity", 0.25).successful
    assert not peer.call(Trigger, "reset", Trigger.Request()).success
    assert not peer.change_state(CONFIGURE) and not peer.change_state(ACTIVATE)
    assert not answer.done(), "the model was loaded before all this was asked; nothing is shown"
    peer.wait_until(answer.done, "the end of configuring")
    assert answer.result().success
    refuses_all_but_allowed(peer, "inactive")


def test_it_still_segments_after_all_that_was_refused(node, peer, image, street):
    masks = peer.collect(peer.topic("camera/label/image_raw"), Image)
    assert peer.change_state(ACTIVATE)
    refuses_all_but_allowed(peer, "active")
    assert peer.exchange("/camera/image_raw", image(street()), masks)
    assert "Traceback" not in node.log()


def test_shutdown_ends_what_it_does_and_a_signal_the_process(node, peer):
    assert peer.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert peer.state() == "finalized"
    assert "]: finalized: " in node.log()
    assert peer.fresh_report("model")["message"] == "finalized"
    assert not peer.change_state(CONFIGURE)
    assert node.stop(signal.SIGTERM) == 0 and "Traceback" not in node.log()
