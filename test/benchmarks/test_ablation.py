"""The ablation: its rows are networks, runs are skipped when done, and the table says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from benchmarks import ablation
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import Checkpoint, load_checkpoint, normalization, save_checkpoint
from sdcpc_ros.network import SDCPC
from sdcpc_ros.training.recipe import load_recipe, recipe_from

pytestmark = pytest.mark.slow

CONFIG = Path(ablation.__file__).with_name("ablation.yaml")
TINY = {
    "network": {"encoder": "resnet_tiny", "embed_dim": 16, "key_dim": 16},
    "crop_size": [32, 48],
    "input_size": [32, 48],
    "batch_size": 2,
    "workers": 0,
    "phases": [{"steps": 5, "references": 0}, {"steps": 5, "references": 1, "trains": "temporal"}],
}


@pytest.fixture
def camvid(tmp_path):
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (tmp_path / "camvid" / split / folder).mkdir(parents=True)
            for frame in range(2):
                image = np.full((32, 48), frame, np.uint8)
                cv2.imwrite(str(tmp_path / "camvid" / split / folder / f"a_{frame}.png"), image)
    return tmp_path / "camvid"


@pytest.fixture
def arguments(camvid, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    recipe = recipe_from(TINY)
    torch.manual_seed(0)
    network = SDCPC(recipe.network_config(11))
    start = Checkpoint(network.config, CAMVID_11, *normalization("resnet18"), (32, 48), network.state_dict())
    save_checkpoint(tmp_path / "start.safetensors", start)
    options = {
        "root": camvid,
        "from": tmp_path / "start.safetensors",
        "config": tmp_path / "tiny.yaml",
        "steps": 2,
        "seeds": 2,
        "street-frames": 2,
        "threads": 1,
        "work": tmp_path / "work",
        "results": tmp_path / "results",
    }
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


@pytest.mark.parametrize("row", ablation.ROWS, ids=lambda row: row.name)
def test_every_row_is_a_network_of_the_shipped_recipe(row):
    values = ablation.recipe_for(row, yaml.safe_load(CONFIG.read_text()), steps=70, seed=2)
    recipe = recipe_from(values)
    with torch.device("meta"):
        network = SDCPC(recipe.network_config(11))
    assert recipe.steps == (35 if row.single_frames else 70) and recipe.seed == 2
    assert recipe.phases[0].steps == 35  # of the network by itself, in all rows
    assert (recipe.phases[-1].references == 0) == row.single_frames
    assert (recipe.prototypes.per_class if recipe.prototypes else 0) == row.prototypes
    config = network.config.to_dict()
    assert {name: config[name] for name in row.network} == row.network
    assert {name: getattr(recipe, name) for name in row.recipe} == row.recipe
    assert recipe.consistency_weight == load_recipe(CONFIG).consistency_weight


def test_rows_are_compared_with_rows_that_differ_in_one_thing():
    rows = {row.name: row for row in ablation.ROWS}
    assert len(rows) == len(ablation.ROWS)
    for row in ablation.ROWS[1:]:
        other = rows[row.against]
        own, others = ({**r.network, **r.recipe, "prototypes": r.prototypes} for r in (row, other))
        fields = {name for name in {*own, *others} if own.get(name) != others.get(name)}
        if row.name == "dssa":
            fields -= {"recurrent"}  # a row of its own
        assert len(fields) == 1


def test_rows_are_trained_scored_and_not_trained_again(arguments, tmp_path, monkeypatch):
    rows = ["--rows", "recurrent"]
    assert ablation.main([*arguments, *rows]) == 0
    results = json.loads((tmp_path / "results" / "ablation.json").read_text())["runs"]
    assert [(result["row"], result["seed"]) for result in results] == [("recurrent", 0), ("recurrent", 1)]
    text = (tmp_path / "results" / "ablation.md").read_text()
    assert "| + a recurrent memory | 2 | " in text and "--steps 2 --seeds 2" in text
    monkeypatch.setattr(ablation, "train", None)  # what is done is not done again
    assert ablation.main([*arguments, *rows]) == 0
    assert (tmp_path / "results" / "ablation.md").read_text() == text
    with pytest.raises(TypeError):  # another budget is another run
        ablation.main([*arguments, *rows, "--steps", "3"])


def test_runs_begin_with_the_base_wherever_they_can(arguments, tmp_path):
    base = load_checkpoint(tmp_path / "start.safetensors")
    wider = recipe_from({**TINY, "network": {**TINY["network"], "key_dim": 24}, "seed": 5})
    ablation.starting_weights(base, wider, tmp_path / "own.safetensors")
    own = load_checkpoint(tmp_path / "own.safetensors")
    assert own.config.key_dim == 24
    same = [name for name, tensor in own.state_dict.items() if base.state_dict[name].shape == tensor.shape]
    assert all(torch.equal(own.state_dict[name], base.state_dict[name]) for name in same)
    assert len(same) < len(own.state_dict) and any(name.startswith("encoder.") for name in same)


def test_the_table_has_mean_spread_and_change():
    def result(row, seed, miou):
        scores = {"miou": miou, "mvc8": 0.9, "mvc16": None, "tc": 0.5}
        both = dict.fromkeys(("streaming", "single_frame"), scores)
        return {"row": row, "seed": seed, "val": both, "street": both}

    runs = [("ssea", 0, 0.5), ("ssea", 1, 0.6), ("dssa", 0, 0.52), ("dssa", 1, 0.66)]
    text = ablation.table([result(*run) for run in runs], "how")
    rows = [line for line in text.splitlines() if line.startswith("| +")]
    assert rows[0].startswith("| + SSEA | 2 | 55.00 ± 7.07 | 55.00 ± 7.07 | 90.00 ± 0.00 | nan")
    assert rows[0].endswith("| - |") and rows[1].endswith("| +4.00 ± 2.83 (+ SSEA) |")


def test_the_budget_is_the_recorded_one_unless_said_otherwise():
    options = ablation.parse(["--root", "x", "--steps", "7"])
    assert (options.steps, options.seeds, options.crop, options.towns) == (7, 3, None, None)


@pytest.mark.parametrize("option", ["--steps", "--seeds", "--street-frames"])
def test_a_budget_of_nothing_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        ablation.parse(["--root", "x", option, "0"])
    assert "1 or more is needed" in capsys.readouterr().err
