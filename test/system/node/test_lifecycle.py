"""The managed node's way through its states, with models and parameters that do not fit on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import CameraInfo, Image

IMAGES = "/camera/image_raw"


@pytest.fixture(scope="module")
def node(start_node):
    """Started with autostart and what can't work: a parameter out of range, and then a model that is not there."""
    return start_node(model="no_such_model", device="cpu", overlay_opacity=7.0)


@pytest.fixture(scope="module")
def masks(node, peer):
    return peer.collect(peer.topic("camera/label/image_raw"), Image)


@pytest.fixture
def unconfigured(node, peer):
    """The node, brought back to the start."""
    node.wait_for_log("cannot configure")
    if peer.state() == "active":
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    if peer.state() == "inactive":
        assert peer.change_state(Transition.TRANSITION_CLEANUP)
    assert peer.set_parameter("overlay_opacity", 0.5).successful
    assert peer.set_parameter("class_names", [""]).successful
    assert peer.set_parameter("cameras", ["camera"]).successful
    return node


def refuses_to_configure(peer) -> str:
    """Asserts that configuring fails and the node lives on; returns what /diagnostics says of it."""
    assert not peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == "unconfigured"
    report = peer.fresh_report("model")
    assert report["level"] == DiagnosticStatus.ERROR
    return report["message"]


def test_a_bad_value_at_the_start_is_refused_until_it_is_replaced(node, peer):
    node.wait_for_log("cannot configure: overlay_opacity is 7.0; allowed: 0.0 to 1.0")
    assert node.log().count("overlay_opacity is 7.0") == 1
    assert peer.state() == "unconfigured"
    assert "overlay_opacity is 7.0" in refuses_to_configure(peer)
    assert peer.set_parameter("overlay_opacity", 0.25).successful
    assert "overlay_opacity" not in refuses_to_configure(peer)


def test_a_missing_model_is_named_and_can_be_corrected(unconfigured, peer, masks, image, street, tiny_checkpoint):
    assert peer.set_parameter("model", "no_such_model").successful
    assert "no_such_model" in refuses_to_configure(peer)
    assert "cannot configure: no model 'no_such_model'" in unconfigured.log()
    assert peer.set_parameter("model", str(tiny_checkpoint)).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == "inactive"
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert peer.exchange(IMAGES, image(street()), masks)


def test_a_truncated_model_is_refused(unconfigured, peer, tiny_checkpoint: Path, tmp_path: Path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_checkpoint.read_bytes()[:5000])
    assert peer.set_parameter("model", str(broken)).successful
    assert str(broken) in refuses_to_configure(peer)


def test_a_pickle_is_refused(unconfigured, peer, tmp_path: Path):
    pickled = tmp_path / "model.pth"
    pickled.write_bytes(b"\x80\x04.")
    assert peer.set_parameter("model", str(pickled)).successful
    assert "safetensors" in refuses_to_configure(peer)


def test_classes_that_do_not_match_are_refused_with_both_sides_named(unconfigured, peer, tiny_checkpoint):
    assert peer.set_parameter("model", str(tiny_checkpoint)).successful
    assert peer.set_parameter("class_names", ["free_space", "obstacle"]).successful
    message = refuses_to_configure(peer)
    assert "free_space, obstacle" in message and "sky, building, pole" in message and "camvid_11" in message


def test_an_unknown_backend_and_device_are_refused(unconfigured, peer, tiny_checkpoint):
    assert peer.set_parameter("model", str(tiny_checkpoint)).successful
    assert not peer.set_parameter("backend", "abacus").successful
    assert not peer.set_parameter("device", "abacus").successful


def test_a_backend_that_cannot_be_had_is_refused_unless_eager_will_do(unconfigured, peer, tiny_checkpoint):
    assert peer.set_parameter("model", str(tiny_checkpoint)).successful
    assert peer.set_parameter("backend", "tensorrt").successful  # on the CPU
    assert "backend 'tensorrt' needs an NVIDIA GPU" in refuses_to_configure(peer)
    assert peer.set_parameter("backend_fallback", True).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    report = peer.fresh_report("model")
    assert report["level"] == DiagnosticStatus.WARN and "needs an NVIDIA GPU" in report["message"]
    assert report["backend"] == "tensorrt" and report["backend status"].startswith("eager")
    unconfigured.wait_for_log("backend: eager: backend 'tensorrt' needs an NVIDIA GPU")
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    assert peer.set_parameter("backend", "eager").successful
    assert peer.set_parameter("backend_fallback", False).successful


def test_up_and_down_again_and_again(unconfigured, peer, masks, image, street, tiny_checkpoint):
    assert peer.set_parameter("model", str(tiny_checkpoint)).successful
    resources = []
    for _ in range(3):
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        for _ in range(2):
            assert peer.change_state(Transition.TRANSITION_ACTIVATE)
            assert peer.exchange(IMAGES, image(street()), masks)
            assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
            peer.wait_until(
                lambda: not peer.node.get_subscriptions_info_by_topic(IMAGES), "the end of the subscription"
            )
        assert peer.change_state(Transition.TRANSITION_CLEANUP)
        assert peer.state() == "unconfigured"
        assert "]: deactivated: " in unconfigured.log() and "]: cleaned up: " in unconfigured.log()
        process = Path(f"/proc/{unconfigured.process.pid}")
        resources.append([len(list((process / folder).iterdir())) for folder in ("task", "fd")])
    assert all(last <= first for first, last in zip(resources[0], resources[-1])), resources
    assert "Traceback" not in unconfigured.log()


def test_cameras_may_change_while_unconfigured(unconfigured, peer, image, street, tiny_checkpoint):
    assert peer.set_parameter("model", str(tiny_checkpoint)).successful
    assert peer.set_parameter("cameras", ["left", "right"]).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    masks = peer.collect(peer.topic("right/label/image_raw"), Image)
    assert peer.exchange("/right/image_raw", image(street()), masks)


def test_masks_of_the_networks_size_come_with_a_scaled_camera_info(unconfigured, peer, image, street, tiny_checkpoint):
    for name, value in {
        "model": str(tiny_checkpoint),
        "cameras": ["small"],
        "output_size": "network",
        "input_height": 64,
        "input_width": 96,
    }.items():
        assert peer.set_parameter(name, value).successful
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    masks = peer.collect(peer.topic("small/label/image_raw"), Image)
    infos = peer.collect(peer.topic("small/label/camera_info"), CameraInfo)
    info = CameraInfo(height=128, width=192)
    info.k[0] = 200.0

    def scaled() -> list:
        peer.publisher("/small/camera_info", CameraInfo).publish(info)
        mask = peer.exchange("/small/image_raw", image(street(128, 192)), masks)
        assert (mask.height, mask.width, mask.step) == (64, 96, 96)
        return infos

    peer.wait_until(scaled, "a CameraInfo")
    assert (infos[0].height, infos[0].width, infos[0].k[0]) == (64, 96, 100.0)
