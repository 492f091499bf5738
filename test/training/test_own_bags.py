"""One's own bags as training data, laid out as docs/training.md says."""

from __future__ import annotations

import csv
import json

import pytest
import torch

pytest.importorskip("rosbags")

from sdcpc_ros.datasets.dataset_kinds import open_dataset
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import load_checkpoint
from sdcpc_ros.replay.image_bags import StreetBag, write_street_bag
from sdcpc_ros.training import trainer
from sdcpc_ros.training.clips import FrameStore


@pytest.mark.slow
def test_bags_are_trained_on_and_validated_on(write_recipe, tmp_path):
    names = {"name": "own", "class_names": [f"own {name}" for name in CAMVID_11.class_names]}
    root = tmp_path / "recordings"
    for seed, (split, length) in enumerate((("train", 4), ("val", 2))):
        (root / split).mkdir(parents=True)
        write_street_bag(root / split / "monday", StreetBag(seed=seed, size=(64, 96), length=length))
    (root / "label_set.json").write_text(json.dumps({**names, "colours": CAMVID_11.colours}))
    recipe = write_recipe(
        dataset="bag",
        phases=[{"steps": 2, "references": 2, "filmed_share": 1.0}],
        validation={"every": 2},
    )
    checkpoint = load_checkpoint(trainer.train(recipe, root, tmp_path / "run"))
    assert checkpoint.label_set.class_names[0] == "own sky"
    assert "4 labelled frames" in checkpoint.training["data"] and "terms of the data" in checkpoint.training["licence"]
    with (tmp_path / "run" / trainer.VALIDATION_LOG).open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]


def test_bags_that_do_not_fit_on_the_device_are_read_by_several_threads(tmp_path):
    """Each opens the bags for itself: a reader is at one place of its file."""
    for seed in range(2):
        write_street_bag(tmp_path / f"bag{seed}", StreetBag(seed=seed, size=(64, 96), length=6))
    dataset = open_dataset("bag", tmp_path, label_set=CAMVID_11)
    resident, read = (
        FrameStore(dataset, range(12), (), (64, 96), torch.device("cpu"), workers=4, resident_bytes=limit)
        for limit in (1 << 30, 0)
    )
    for numbers in (list(range(12)), list(range(11, -1, -1)), [0, 6, 1, 7, 5, 11]):
        assert torch.equal(resident.read(numbers)[0], read.read(numbers)[0])
        assert torch.equal(resident.read(numbers)[1], read.read(numbers)[1])
