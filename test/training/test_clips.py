"""Training batches: functions of seed and index alone, of the shape their phase asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sdcpc_ros.labels.label_set import CAMVID_11, IGNORE
from sdcpc_ros.training.clip_plan import ClipPlan, ClipPlanner
from sdcpc_ros.training.clips import ClipBatches
from sdcpc_ros.training.losses import Sample
from sdcpc_ros.training.sources import clip_batches, training_split

CPU = torch.device("cpu")
RARE = ["pole", "bicyclist"]


@pytest.fixture(scope="module")
def make(camvid_root, make_recipe) -> Callable[..., ClipBatches]:
    def batches(**changes: Any) -> ClipBatches:
        recipe = make_recipe(**{"consistency_weight": 0.0, **changes})
        return clip_batches(recipe, training_split(recipe, camvid_root), CPU)

    return batches


def _phase(references: int, **changes: Any) -> dict[str, Any]:
    return {"phases": [{"steps": 9, "references": references, **changes}]}


def _equal(one: Sample, two: Sample) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two))


def test_batches_have_the_shape_of_their_phase(make):
    batches = make()
    for first, references in ((0, 0), (8, 0), (12, 2), (20, 2)):
        batch = batches.batch(range(first, first + 4))
        assert batch.clip.shape == (4, references + 1, 3, 48, 64) and batch.clip.dtype == torch.float32
        assert batch.labels.shape == (4, 1, 48, 64) and batch.labels.dtype == torch.int64
        assert batch.age_s.shape == (4, references) and batch.age_s.dtype == torch.float32
        assert batch.motion.shape == (4, 2, 3)
        assert batch.cut.shape == (4,) and batch.cut.dtype == torch.bool


SHARES = {"street_share": 0.2, "filmed_share": 0.2, "cut_share": 0.2, "turn_share": 0.5, "disturbed_share": 0.5}


def test_a_clip_depends_on_nothing_but_its_index(make):
    everything = {**_phase(2, paste_share=0.5, **SHARES), "rare_classes": RARE, "rare_share": 0.5}
    one, two = (make(consistency_weight=1.0, **everything) for _ in "ab")
    assert _equal(one.batch(range(8)), two.batch(range(8)))
    two.batch([11])
    for index in (11, 3, 7):
        assert _equal(one.batch([index]), two.batch([index]))
    assert not torch.equal(one.batch([0]).clip, one.batch([1]).clip)
    assert not torch.equal(one.batch([0]).clip, make(consistency_weight=1.0, seed=4, **everything).batch([0]).clip)


def test_a_clip_is_the_same_whatever_else_is_in_its_batch(make):
    """So that several ranks see what one sees."""
    batches = make(consistency_weight=1.0, **_phase(2, paste_share=0.5, **SHARES), rare_classes=RARE)
    whole = batches.batch(range(12))
    parts = [batches.batch(range(first, first + 3)) for first in (0, 3, 6, 9)]
    for name, joined, values in zip(Sample._fields, map(torch.cat, zip(*parts)), whole):
        if name == "clip":  # grey levels are rounded: sums in another order may put one on the other side
            assert (joined - values).abs().max() <= 1 and (joined != values).float().mean() < 1e-4
        else:
            assert torch.equal(joined, values), name


def test_values_are_grey_levels_and_labels_are_classes_or_void(make):
    batch = make(**_phase(2, **SHARES)).batch(range(12))
    assert batch.clip.min() >= 0 and batch.clip.max() <= 255 and torch.equal(batch.clip, batch.clip.round())
    assert ((batch.labels < 11) & (batch.labels >= 0) | (batch.labels == IGNORE)).all()


def test_the_second_view_is_the_newest_frame_moved(make):
    batch = make(consistency_weight=1.0).batch(range(6, 8))
    assert batch.clip.shape[1] == 4 and batch.labels.shape[1] == 2
    for clip, labels in zip(batch.clip, batch.labels):
        newest, view = clip[2:]
        assert 0 < (newest - view).abs().mean() < (newest - newest.flip(2)).abs().mean()
        assert not torch.equal(labels[0], labels[1])


def test_labels_lie_on_their_pixels(make):
    """Images whose colour is their class: of two pixels of a frame, the one of the higher class has more red."""
    batch = make(scale_range=[1.0, 1.0], **_phase(0)).batch(range(12))
    for clip, labels in zip(batch.clip, batch.labels):
        known = labels[0] != IGNORE
        red = clip[0, 0] / clip[0].sum(0).clamp_min(1)
        assert torch.corrcoef(torch.stack((red[known], labels[0].float()[known])))[0, 1] > 0.7


def test_the_street_alone_will_do(make):
    batch = make(**_phase(2, street_share=1.0)).batch(range(2))
    assert batch.clip.shape[1] == 3 and (batch.labels != IGNORE).any()


def test_only_the_newest_frame_is_damaged(make):
    for weight, views in ((0.0, 1), (1.0, 2)):
        plain, damaged = (
            make(consistency_weight=weight, **_phase(2, disturbed_share=share)).batch(range(6)) for share in (0.0, 1.0)
        )
        assert torch.equal(plain.clip[:, :-views], damaged.clip[:, :-views])
        assert torch.equal(plain.labels, damaged.labels)
        assert (plain.clip[:, -views:] != damaged.clip[:, -views:]).any((2, 3, 4)).float().mean() > 0.5


def test_only_the_clips_of_a_cut_are_said_to_be_cut(make):
    assert make(**_phase(2, cut_share=1.0)).batch(range(4)).cut.all()
    assert not make(**_phase(2, filmed_share=1.0)).batch(range(4)).cut.any()


def test_filmed_references_that_are_missing_have_a_negative_age(make):
    ages = make(**_phase(2, filmed_share=1.0)).batch(range(24)).age_s
    assert set(ages[:, 1].tolist()) == {-1.0, 1.0} and set(ages[:, 0].tolist()) == {-1.0, 2.0}


class _Unpasted:
    """Another planner's plans, without what they paste."""

    def __init__(self, planner: ClipPlanner) -> None:
        self.planner = planner

    def plan(self, index: int) -> ClipPlan:
        return self.planner.plan(index)._replace(paste=np.asarray(-1))


def test_pasted_objects_have_their_labels(make):
    """Their pixels appear in images and labels alike; the rest stays as it was."""
    pasted = make(**_phase(1, paste_share=1.0), rare_classes=RARE)
    rare = [CAMVID_11.class_names.index(name) for name in RARE]
    plain = ClipBatches(pasted.recipe, _Unpasted(pasted.planner), pasted.store, rare)
    before, after = plain.batch(range(12)), pasted.batch(range(12))
    changed = before.labels[:, 0] != after.labels[:, 0]
    assert changed.any() and set(after.labels[:, 0][changed].unique().tolist()) <= set(rare)
    different = (before.clip != after.clip).any(2)
    for frame in (0, 1):  # what is pasted is in the synthetic reference too
        assert different[:, frame].any()
    assert different[:, 1][changed].float().mean() > 0.9
