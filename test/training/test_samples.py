"""Training samples: functions of seed and index alone, of the shape their phase asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sdcpc_ros.label_set import IGNORE
from sdcpc_ros.training.distributed import World
from sdcpc_ros.training.recipe import RecipeError
from sdcpc_ros.training.samples import ClipSamples, StepSampler, remembered
from sdcpc_ros.training.sources import render_towns, training_split


@pytest.fixture(scope="module")
def towns(make_recipe):
    return render_towns(make_recipe())


@pytest.fixture
def make_samples(camvid_root, make_recipe, towns):
    def make(**changes: Any) -> ClipSamples:
        recipe = make_recipe(**{"consistency_weight": 0.0, **changes})
        return ClipSamples(recipe, training_split(recipe, camvid_root), towns)

    return make


def _phase(references: int, **changes: float) -> dict[str, Any]:
    return {"phases": [{"steps": 2, "references": references, **changes}]}


def test_samples_have_the_shape_of_their_phase(make_samples):
    samples = make_samples()
    assert len(samples) == 24
    for index, references in ((0, 0), (11, 0), (12, 2), (23, 2)):
        sample = samples[index]
        assert sample.clip.shape == (references + 1, 3, 48, 64) and sample.clip.dtype == torch.uint8
        assert sample.labels.shape == (1, 48, 64) and sample.labels.dtype == torch.int64
        assert sample.valid.shape == (references,) and sample.valid.dtype == torch.bool
        assert sample.motion.shape == (2, 3)


def test_a_sample_depends_on_nothing_but_its_index(make_samples):
    one, two = (make_samples(consistency_weight=1.0) for _ in "ab")
    for index in (11, 3, 7):
        assert all(torch.equal(a, b) for a, b in zip(one[index], two[index]))
    assert not torch.equal(one[0].clip, one[1].clip)
    assert not torch.equal(one[0].clip, make_samples(consistency_weight=1.0, seed=4)[0].clip)


def test_the_second_view_is_the_newest_frame_moved(make_samples):
    samples = make_samples(consistency_weight=1.0)
    assert len(samples) == 12  # two views take the places of two clips
    sample = samples[6]
    assert sample.clip.shape[0] == 4 and sample.labels.shape[0] == 2
    newest, view = sample.clip[2:].float()
    assert 0 < (newest - view).abs().mean() < (newest - newest.flip(2)).abs().mean()
    assert not torch.equal(sample.labels[0], sample.labels[1])


def test_the_street_alone_will_do(make_samples):
    sample = make_samples(**_phase(2, street_share=1.0))[0]
    assert sample.clip.shape[0] == 3 and sample.labels.min() >= 0


def test_only_the_newest_frame_is_disturbed(make_samples):
    plain, disturbed = (make_samples(**_phase(2, disturbed_share=share)) for share in (0.0, 1.0))
    for index in range(4):
        a, b = plain[index], disturbed[index]
        assert torch.equal(a.clip[:-1], b.clip[:-1]) and torch.equal(a.labels, b.labels)
        assert not torch.equal(a.clip[-1], b.clip[-1])


def test_filmed_references_are_the_frames_before_or_after(make_samples):
    """The labelled frame decides which references there are: of four frames in a row the first has none before it."""
    seen = {}
    for reversal in (0.0, 1.0):
        samples = make_samples(**_phase(2), past="filmed", time_reversal=reversal)
        asked: list[tuple[int, ...]] = []
        clip = samples.dataset.clip

        def spy(index, offsets, clip=clip, asked=asked):
            asked.append(tuple(offsets))
            return clip(index, offsets)

        samples.dataset.clip = spy  # type: ignore[method-assign]
        for index in range(8):
            samples[index]
        seen[reversal] = set(asked)
    assert seen == {0.0: {(1, 2)}, 1.0: {(-1, -2)}}


def test_what_was_not_filmed_is_masked_or_made_up(make_samples, monkeypatch):
    monkeypatch.setattr("sdcpc_ros.training.samples._YOUNG_SHARE", 0.0)
    masked = [make_samples(**_phase(2), past="filmed")[i].valid for i in range(8)]
    assert not all(valid.all() for valid in masked)
    samples = make_samples(**_phase(2), past="filmed", missing="made_up")
    assert all(samples[i].valid.all() for i in range(8))
    rng = np.random.default_rng(0)
    first = [samples._from_dataset(2, rng)[0] for _ in range(20)]
    # A stand-in would be the labelled frame itself; what is made up has moved.
    assert not any((images[0] == images[-1]).all() for images in first)


def test_other_offsets_than_the_networks_can_be_filmed(make_samples):
    samples = make_samples(**_phase(1), past="filmed", offsets=[3])
    assert samples.recipe.reference_offsets == (3,)
    assert any(samples[i].valid.any() for i in range(8)) and not all(samples[i].valid.any() for i in range(8))


def test_some_streams_have_only_just_begun():
    rng = np.random.default_rng(0)
    valid = np.array([remembered(3, rng) for _ in range(1000)])
    assert (np.diff(valid.astype(int)) >= 0).all()  # a remembered frame means that all later ones are remembered
    shares = np.bincount(valid.sum(1), minlength=4) / 1000
    assert shares[3] == pytest.approx(0.7, abs=0.05) and shares[:3].min() > 0.05
    assert remembered(0, rng).shape == (0,)


def test_a_crop_may_be_all_void_but_never_out_of_range(make_samples):
    samples = make_samples()
    for index in range(0, 24, 3):
        labels = samples[index].labels
        assert ((labels < 11) | (labels == IGNORE)).all()


def test_ranks_share_the_samples_of_every_step(make_recipe):
    recipe = make_recipe(consistency_weight=0.0)
    alone = list(StepSampler(recipe, World(0, 1, torch.device("cpu")), 4))
    assert alone == list(range(16, 24))
    ranks = [list(StepSampler(recipe, World(rank, 2, torch.device("cpu")), 4)) for rank in range(2)]
    assert ranks == [[16, 17, 20, 21], [18, 19, 22, 23]]
    assert len(StepSampler(recipe, World(0, 2, torch.device("cpu")), 4)) == 4
    with pytest.raises(RecipeError, match="4 clips, which 3 ranks cannot share"):
        StepSampler(recipe, World(0, 3, torch.device("cpu")), 0)
