"""Where training frames come from, and what they are told to be."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sdcpc_ros.datasets.video_dataset import DatasetError
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.training import sources
from sdcpc_ros.training.distributed import DistributedContext
from sdcpc_ros.training.recipe import STREET_SEED, RecipeError

ALONE = DistributedContext(0, 1, torch.device("cpu"))


def test_clips_come_from_data_of_the_size_of_their_first_frame(camvid_root, make_recipe):
    recipe = make_recipe()
    batches = sources.clip_batches(recipe, sources.training_split(recipe, camvid_root), ALONE.device)
    assert batches.store.size == (64, 96)
    # Six frames of the data set, then the town's four.
    assert batches.store.read([0, 5, 6, 9])[0].shape == (4, 3, 64, 96)
    assert {frame for index in range(40) for frame in batches.planner.plan(index + 6).frames} <= set(range(10))


def test_crops_of_rare_classes_are_centred_on_their_pixels(camvid_root, make_recipe):
    recipe = make_recipe(
        **{"rare_classes": ["pole"], "rare_share": 1.0, "scale_range": [2.0, 2.0]},
        phases=[{"steps": 9, "references": 0}],
    )
    dataset = sources.training_split(recipe, camvid_root)
    batches = sources.clip_batches(recipe, dataset, ALONE.device)
    pole = CAMVID_11.class_names.index("pole")
    for plan in map(batches.planner.plan, range(12)):
        assert (dataset.labels(plan.frames[-1]) == pole).any()
    assert ((batches.batch(range(12)).labels == pole).flatten(2).any(2)).float().mean() > 0.9


def test_a_rare_class_that_no_frame_shows_is_never_asked_for(camvid_root, make_recipe, monkeypatch):
    recipe = make_recipe(rare_classes=["pole"], rare_share=1.0, phases=[{"steps": 1, "references": 0}])
    dataset = sources.training_split(recipe, camvid_root)
    monkeypatch.setattr(dataset, "labels", lambda index: np.zeros((64, 96), np.uint8))
    batch = sources.clip_batches(recipe, dataset, ALONE.device).batch(range(2))
    assert set(batch.labels.unique().tolist()) <= {0, 255}


def test_classes_that_the_data_do_not_have_are_named(camvid_root, make_recipe):
    with pytest.raises(RecipeError, match="rare_classes: CamVid train has no zebra; it has sky, building"):
        sources.training_split(make_recipe(rare_classes=["pole", "zebra"]), camvid_root)


def test_a_video_that_is_left_out_is_not_trained_on(camvid_root, make_recipe):
    whole = sources.training_split(make_recipe(), camvid_root)
    recipe = make_recipe(leave_out=["0001TP"], phases=[{"steps": 99, "references": 1, "filmed_share": 0.5}])
    left = sources.training_split(recipe, camvid_root)
    assert left.name == "CamVid train without 0001TP"
    assert left.names == [name for name in whole.names if "0006R0" in name] and len(left.labelled) == 2
    assert [len(run) for run in left.runs] == [2] and left.rate_hz == pytest.approx(whole.rate_hz)
    batches = sources.clip_batches(recipe, left, ALONE.device)
    assert {frame for index in range(30) for frame in batches.planner.plan(index).frames} == {0, 1}
    first = whole.names.index(left.names[0])
    assert (batches.store.read([0])[0][0].permute(1, 2, 0).numpy() == whole.image(first)).all()


def test_videos_to_leave_out_that_are_not_there_are_named(camvid_root, make_recipe):
    with pytest.raises(RecipeError, match="leave_out: CamVid train has no video 0016E5; it has 0001TP, 0006R0"):
        sources.training_split(make_recipe(leave_out=["0016E5"]), camvid_root)
    with pytest.raises(RecipeError, match="no labelled frame to train on"):
        sources.training_split(make_recipe(leave_out=["0001TP", "0006R0"]), camvid_root)


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
    assert json.loads(path.read_text())["labelled_frames"] == 6


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


def test_a_drive_is_rendered_at_the_size_of_the_data():
    ((images, labels),) = sources.render_drives((STREET_SEED,), 4, (48, 64))
    assert images.shape == (4, 48, 64, 3) and labels.shape == (4, 48, 64)


@pytest.fixture
def rendered(monkeypatch) -> list[int]:
    """Seeds of the towns that are rendered, as blank ones."""
    seeds: list[int] = []

    def blank(seed, frames, size):
        seeds.append(seed)
        return np.full((frames, *size, 3), seed % 251, np.uint8), np.zeros((frames, *size), np.uint8)

    monkeypatch.setattr(sources, "render_drive", blank)
    monkeypatch.setattr(sources.torch, "get_num_threads", lambda: 1)
    sources.render_drives.cache_clear()
    yield seeds
    sources.render_drives.cache_clear()


def _phases(*, everything: float, temporal: float | None):
    """A phase of each stage, of this share of street."""
    phases = [{"steps": 5, "references": 0, "street_share": everything}]
    if temporal is not None:
        phases.append({"steps": 5, "references": 2, "trains": "temporal", "street_share": temporal})
    return phases


@pytest.mark.parametrize(
    ("shares", "temporal_towns", "numbers"),
    [
        ((0.5, 0.5), 2, [0, 1, 2, 3, 4]),
        ((0.5, 0.5), 0, [0, 1, 2]),  # shared
        ((0.0, 0.5), 2, [3, 4]),  # nobody drives through the first ones
        ((0.0, 0.5), 0, [0, 1, 2]),
        ((0.5, 0.0), 2, [0, 1, 2]),
        ((0.5, None), 2, [0, 1, 2]),
        ((0.0, 0.0), 2, []),
    ],
)
def test_towns_of_the_temporal_phases_follow_the_others_and_are_rendered_if_need_be(
    camvid_root, make_recipe, rendered, shares, temporal_towns, numbers
):
    phases = _phases(everything=shares[0], temporal=shares[1])
    recipe = make_recipe(street_towns=3, temporal_towns=temporal_towns, phases=phases)
    store = sources.clip_batches(recipe, sources.training_split(recipe, camvid_root), ALONE.device).store
    assert rendered == [STREET_SEED + number for number in numbers]
    last = 6 + 4 * len(numbers) - 1  # six frames of the data set, four of each town
    assert store.read([last])[0].shape == (1, 3, 64, 96)
    with pytest.raises(IndexError):
        store.read([last + 1])


def test_seeds_of_the_towns_begin_above_those_of_the_demo_and_the_tests():
    assert STREET_SEED == 1000


@pytest.mark.parametrize("shared", [False, True])
def test_the_temporal_stage_drives_through_towns_that_the_rest_has_not_learnt(
    camvid_root, make_recipe, rendered, shared
):
    phases = _phases(everything=1.0, temporal=1.0)
    recipe = make_recipe(street_towns=2, temporal_towns=0 if shared else 3, phases=phases)
    batches = sources.clip_batches(recipe, sources.training_split(recipe, camvid_root), ALONE.device)
    seen = []
    for clips in (range(10), range(10, 20)):  # 2 clips a step, 5 steps a phase
        frames = {frame for clip in clips for frame in batches.planner.plan(clip).frames}
        images = batches.store.read(sorted(frames))[0]
        seen.append({int(image[0, 0, 0]) for image in images})
    first, later = ({(STREET_SEED + number) % 251 for number in numbers} for numbers in (range(2), range(2, 5)))
    assert seen == [first, first if shared else later]
