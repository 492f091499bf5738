"""One's own bags as training data, laid out as docs/training.md says."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("rosbags")

from sdcpc_ros.bags.street_bag import StreetBag, write_street_bag
from sdcpc_ros.checkpoint import load_checkpoint
from sdcpc_ros.label_set import CAMVID_11
from sdcpc_ros.training import trainer


def test_bags_are_trained_on_and_validated_on(write_recipe, tmp_path):
    names = {"name": "own", "class_names": [f"own {name}" for name in CAMVID_11.class_names]}
    root = tmp_path / "recordings"
    for seed, (split, length) in enumerate((("train", 4), ("val", 2))):
        (root / split).mkdir(parents=True)
        write_street_bag(root / split / "monday", StreetBag(seed=seed, size=(64, 96), length=length))
    (root / "label_set.json").write_text(json.dumps({**names, "colours": CAMVID_11.colours}))
    recipe = write_recipe(
        dataset="bag",
        past="filmed",
        time_reversal=0.5,
        phases=[{"steps": 2, "references": 2}],
        validation={"every": 2},
        workers=1,  # which opens the bags for itself
    )
    checkpoint = load_checkpoint(trainer.train(recipe, root, tmp_path / "run"))
    assert checkpoint.label_set.class_names[0] == "own sky"
    assert "4 labelled frames" in checkpoint.training["data"] and "terms of the data" in checkpoint.training["licence"]
    with (tmp_path / "run" / trainer.VALIDATION_LOG).open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]
