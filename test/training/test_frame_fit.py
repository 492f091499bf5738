"""The fit that a whole reference needs is between that of cuts and that of a running camera."""

from __future__ import annotations

import pytest
import torch

from sdcpc_ros.model_files.checkpoint import load_checkpoint, shipped_models
from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.training.frame_fit import measured_frame_fit
from sdcpc_ros.training.recipe import recipe_from
from sdcpc_ros.training.sources import clip_batches, training_split

from .conftest import RECIPE

MEAN, STD = torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 60.0)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network():
    return SDCPC(SDCPCConfig(11, **{**RECIPE["network"], "reference_offsets": (1, 2)})).eval()


def _batches(root, **changes):
    recipe = recipe_from({**RECIPE, **changes})
    return clip_batches(recipe, training_split(recipe, root), torch.device("cpu"))


def _last_phase(**shares):
    return [{"steps": 3, "references": 2, "trains": "temporal", **shares}]


@pytest.mark.slow
def test_with_it_a_trained_network_trusts_a_running_camera_and_nothing_from_before_a_cut(camvid_root):
    network = load_checkpoint(shipped_models()["camvid_efficientnet_lite0"]).build_model()
    shares = {"cut_share": 0.4, "street_share": 0.6}
    batches = _batches(camvid_root, phases=_last_phase(**shares), crop_size=[96, 128], street_frames=16)
    found = measured_frame_fit(network, batches, MEAN, STD)
    (cosine, full_cosine), (smoothness, full_smoothness) = found.tolist()
    assert 0.3 < cosine < full_cosine < 1 and 0.3 < smoothness < full_smoothness < 1
    network.dssa.frame_fit.copy_(found)
    clips = batches.batch(range(24))
    with torch.inference_mode():
        trust = network((clips.clip - MEAN) / STD, clips.age_s, batches.recipe.views).aggregation.trust
    trust = trust[:: batches.recipe.views, -1].mean((1, 2))
    running = (clips.age_s[:, -1] >= 0) & (clips.age_s[:, -1] < 0.2) & ~clips.cut
    assert trust[clips.cut].mean() < 0.02 and trust[running].mean() > 0.2


@pytest.mark.parametrize("shares", [{"cut_share": 0.0}, {"cut_share": 1.0}])
def test_without_clips_of_both_sorts_nothing_is_measured(camvid_root, network, shares):
    assert measured_frame_fit(network, _batches(camvid_root, phases=_last_phase(**shares)), MEAN, STD) is None


def test_a_network_without_a_temporal_path_has_nothing_to_measure(camvid_root):
    network = SDCPC(SDCPCConfig(11, **{**RECIPE["network"], "reference_offsets": (1, 2), "temporal": False})).eval()
    assert measured_frame_fit(network, _batches(camvid_root, phases=_last_phase(cut_share=0.5)), MEAN, STD) is None


def test_single_frames_have_no_references_to_measure(camvid_root, network):
    phases = [{"steps": 2, "references": 0}]
    assert measured_frame_fit(network, _batches(camvid_root, phases=phases), MEAN, STD) is None
