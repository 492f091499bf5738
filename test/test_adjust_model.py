"""Other settings, the same weights: what changes, what may not, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sdcpc_ros.adjust_model import adjust_model
from sdcpc_ros.checkpoint import Checkpoint, CheckpointError, load_checkpoint, normalization, save_checkpoint
from sdcpc_ros.label_set import LabelSet
from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.network.config import FREE_FIELDS

FARM = LabelSet("farm", ("soil", "crop", "stone"), ((90, 60, 20), (0, 200, 0), (128, 128, 128)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = SDCPC(SDCPCConfig(3, encoder="resnet18", base_width=8, embed_dim=16, key_dim=8))
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint(network.config, FARM, *normalization("resnet18"), (64, 64), network.state_dict()))
    return path


@pytest.fixture
def frequencies(tmp_path: Path) -> Path:
    path = tmp_path / "class_frequencies.json"
    path.write_text(json.dumps({"dataset": "farm", "labelled_frames": 2, "pixels": [800, 200, 0]}))
    return path


def test_settings_change_and_weights_stay(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "adjusted.safetensors"
    adjust_model(model, output, config_fields={"reference_offsets": [2, 4], "vote_floor": 0.5})
    before, after = load_checkpoint(model), load_checkpoint(output)
    assert after.config.reference_offsets == (2, 4) and after.config.vote_floor == 0.5
    assert after.config.embed_dim == before.config.embed_dim and after.label_set == before.label_set
    assert all(torch.equal(tensor, before.state_dict[name]) for name, tensor in after.state_dict.items())
    assert after.training["adjusted"] == [{"reference_offsets": [2, 4], "vote_floor": 0.5, "prior_shift": 0.0}]


def test_shifted_priors_change_the_odds_by_the_power_of_the_frequencies(
    model: Path, frequencies: Path, tmp_path: Path
) -> None:
    shifted = adjust_model(model, tmp_path / "shifted.safetensors", prior_shift=0.5, frequencies=frequencies)
    clip = torch.randn(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (checkpoint.build_model()(clip) for checkpoint in (load_checkpoint(model), shifted))
    for old, new in ((before.logits, after.logits), (before.static_logits, after.static_logits)):
        change = (new - old).mean((0, 2, 3))
        assert change.mean().item() == pytest.approx(0, abs=1e-4)
        assert (change[0] - change[1]).item() == pytest.approx(0.5 * np.log(4), abs=1e-4)
        assert change[2] < change[1] and change.isfinite().all()  # a class that was never seen


def test_every_free_field_is_one_and_leaves_the_weights_as_they_are() -> None:
    network = SDCPC(SDCPCConfig(3, encoder="resnet18", base_width=8, embed_dim=16, key_dim=8))
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    other = {
        **{"drop_path": 0.5, "head_dropout": 0.5, "reference_offsets": [1], "coarse_radius": 1, "fine_radius": 1},
        **{"difference_role": "none", "class_vote": False, "vote_floor": 0.5, "recurrent": True, "selection": False},
        **{"selection_difference": 0.5, "selection_confidence": 0.5},
    }
    assert set(other) == FREE_FIELDS
    changed = SDCPC(SDCPCConfig.from_dict({**network.config.to_dict(), **other}))
    assert {name: tensor.shape for name, tensor in changed.state_dict().items()} == shapes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config_fields": {"embed_dim": 32}}, "embed_dim cannot be changed without training; what can is class_vote"),
        ({"config_fields": {"depth": 3}}, "depth cannot be changed"),
        ({"config_fields": {"vote_floor": 2}}, "vote_floor is 2; a number in 0..1"),
        ({"prior_shift": 2.0}, "prior_shift is 2; a number in 0..1"),
        ({"prior_shift": 0.5}, "prior_shift needs the frequencies"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(model: Path, tmp_path: Path, changes, message) -> None:
    output = tmp_path / "adjusted.safetensors"
    with pytest.raises(ValueError, match=message):
        adjust_model(model, output, **changes)
    assert not output.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pixels": [1, 2]}', '{"pixels": [1, -2, 3]}', '{"pixels": "many"}'])
def test_bad_frequencies_are_refused_by_name(model: Path, frequencies: Path, tmp_path: Path, text: str) -> None:
    frequencies.write_text(text)
    with pytest.raises(CheckpointError, match="class_frequencies"):
        adjust_model(model, tmp_path / "adjusted.safetensors", prior_shift=0.5, frequencies=frequencies)
