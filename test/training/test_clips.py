"""Training samples: functions of seed and position alone."""

from __future__ import annotations

import torch

from sdcpc_ros.datasets.camvid import CamVid
from sdcpc_ros.training.clips import ClipSamples, FromStep
from sdcpc_ros.training.recipe import load_recipe


def _samples(camvid_root, write_recipe, **changes):
    return ClipSamples(
        load_recipe(write_recipe(**{"consistency_weight": 0.0, **changes})), CamVid(camvid_root, "train")
    )


def test_samples_have_the_shape_of_their_phase(camvid_root, write_recipe):
    samples = _samples(camvid_root, write_recipe)
    assert len(samples) == 12
    for index, references in ((0, 0), (5, 0), (6, 2), (11, 2)):
        clip, labels = samples[index]
        assert clip.shape == (references + 1, 3, 48, 64) and clip.dtype == torch.uint8
        assert labels.shape == (48, 64) and labels.dtype == torch.int64


def test_a_sample_depends_on_nothing_but_its_position(camvid_root, write_recipe):
    one, two = _samples(camvid_root, write_recipe), _samples(camvid_root, write_recipe)
    for index in (11, 3, 7):
        for a, b in zip(one[index], two[index]):
            assert torch.equal(a, b)
    assert not torch.equal(one[0][0], one[1][0])


def test_another_seed_gives_other_samples(camvid_root, write_recipe):
    one, two = _samples(camvid_root, write_recipe), _samples(camvid_root, write_recipe, seed=4)
    assert not torch.equal(one[0][0], two[0][0])


def test_the_street_alone_will_do(camvid_root, write_recipe):
    phases = [{"steps": 2, "references": 3, "street_share": 1.0}]
    clip, labels = _samples(camvid_root, write_recipe, phases=phases)[0]
    assert clip.shape[0] == 4 and labels.min() >= 0


def test_frequencies_are_shares_of_labelled_pixels(camvid_root, write_recipe):
    samples = _samples(camvid_root, write_recipe)
    frequencies = samples.class_frequencies(CamVid(camvid_root, "train").label_set)
    assert frequencies.shape == (11,) and abs(frequencies.sum() - 1) < 1e-9


def test_resuming_skips_what_was_seen(camvid_root, write_recipe):
    samples = _samples(camvid_root, write_recipe)
    assert list(FromStep(samples, 4)) == [8, 9, 10, 11]
    assert len(FromStep(samples, 6)) == 0


def test_only_the_newest_frame_is_disturbed(camvid_root, write_recipe):
    def clips(share):
        phases = [{"steps": 2, "references": 2, "street_share": 0.0, "disturbed_share": share}]
        samples = _samples(camvid_root, write_recipe, phases=phases)
        return [samples[i] for i in range(4)]

    for (plain, plain_labels), (disturbed, disturbed_labels) in zip(clips(0.0), clips(1.0)):
        assert torch.equal(plain[:-1], disturbed[:-1]) and torch.equal(plain_labels, disturbed_labels)
        assert not torch.equal(plain[-1], disturbed[-1])


def test_two_views_of_a_clip_take_the_places_of_two_clips(camvid_root, write_recipe):
    samples = _samples(camvid_root, write_recipe, consistency_weight=1.0)
    assert len(samples) == 6 and samples[2][0].shape[0] == 1 and samples[3][0].shape[0] == 3
    assert list(FromStep(samples, 4)) == [4, 5]
