"""Where training frames come from: in memory or not, and what they are told to be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.training import sources
from sdcpc_ros.training.distributed import World
from sdcpc_ros.training.recipe import RecipeError

ALONE = World(0, 1, torch.device("cpu"))


def test_small_data_are_decoded_once_and_are_the_same(camvid_root, make_recipe, monkeypatch):
    recipe = make_recipe()
    kept = sources.training_split(recipe, camvid_root)
    monkeypatch.setattr(sources, "_MEMORY", 0)
    read = sources.training_split(recipe, camvid_root)
    assert isinstance(kept, sources.InMemory) and not isinstance(read, sources.InMemory)
    assert kept.image(1) is kept.image(1) and read.image(1) is not read.image(1)
    assert (kept.names, kept.runs, kept.labelled) == (read.names, read.runs, read.labelled)
    one, two = kept.clip(3, (1, 2)), read.clip(3, (1, 2))
    assert all((a == b).all() for a, b in zip(one.images, two.images)) and (one.labels == two.labels).all()


def test_frequencies_are_shares_of_labelled_pixels_counted_once(camvid_root, make_recipe, tmp_path, monkeypatch):
    dataset = sources.training_split(make_recipe(), camvid_root)
    path = tmp_path / "frequencies.json"
    frequencies = sources.class_frequencies(dataset, path, ALONE)
    labels = np.concatenate([dataset.labels(i).ravel() for i in range(len(dataset))])
    expected = np.bincount(labels, minlength=256)[:11]
    assert frequencies == pytest.approx(expected / expected.sum())
    monkeypatch.setattr(dataset, "labels", None)
    assert (sources.class_frequencies(dataset, path, ALONE) == frequencies).all()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pixels": [1]}', '{"pixels": "x"}'])
def test_frequencies_of_something_else_are_counted_anew(camvid_root, make_recipe, tmp_path, content):
    dataset = sources.training_split(make_recipe(), camvid_root)
    path = tmp_path / "frequencies.json"
    path.write_text(content)
    assert sources.class_frequencies(dataset, path, ALONE).sum() == pytest.approx(1)
    assert json.loads(path.read_text())["labelled_frames"] == 4


def test_an_unknown_kind_and_a_wrong_root_are_named(camvid_root, tmp_path):
    with pytest.raises((RecipeError, DatasetError), match="coco"):
        sources.open_dataset("coco", camvid_root, "train")
    with pytest.raises(ValueError, match="no folder"):
        sources.open_dataset("camvid", tmp_path, "train")


def test_towns_are_rendered_only_where_they_are_used(make_recipe):
    assert len(sources.render_towns(make_recipe())) == 1
    assert sources.render_towns(make_recipe(phases=[{"steps": 1, "references": 0}])) == []
