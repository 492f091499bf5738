"""Where training frames come from: in memory or not, and what they are told to be."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sdcpc_ros.datasets.errors import DatasetError
from sdcpc_ros.label_set import CAMVID_11
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


def test_an_unknown_kind_and_a_wrong_root_are_named(camvid_root, make_recipe, tmp_path):
    with pytest.raises(DatasetError, match="coco"):
        sources.training_split(make_recipe(dataset="coco"), camvid_root)
    with pytest.raises(DatasetError, match="no "):
        sources.training_split(make_recipe(), tmp_path)


def test_the_street_goes_with_its_own_classes_alone(camvid_root, make_recipe, monkeypatch):
    other = replace(CAMVID_11, name="camvid_other", class_names=tuple(reversed(CAMVID_11.class_names)))
    dataset = sources.open_dataset("camvid", camvid_root, "train")
    dataset.label_set = other
    monkeypatch.setattr(sources, "open_dataset", lambda *_: dataset)
    with pytest.raises(RecipeError, match="street_share is above 0, but the street has the classes of camvid_11"):
        sources.training_split(make_recipe(), camvid_root)


def test_towns_are_rendered_only_where_they_are_used(make_recipe):
    assert len(sources.render_towns(make_recipe())) == 1
    assert sources.render_towns(make_recipe(phases=[{"steps": 1, "references": 0}])) == ()
