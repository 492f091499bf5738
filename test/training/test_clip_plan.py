"""Plans of clips: functions of seed and index, whose frames, ages and views are as their source says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sdcpc_ros.datasets.video_dataset import VideoDataset, VideoFrame
from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.training.clip_plan import ClipPlan, ClipPlanner

LABELLED = [2, 4, 6, 11, 13]  #: of 15 frames in two runs, 0.5 s apart
RUNS = [range(8), range(8, 15)]
TOWNS = [range(15, 35), range(35, 55)]
SHARED = {"all": TOWNS, "temporal": TOWNS}
OFFSETS = {"reference_offsets": [1, 2, 3]}
RARE = [np.array([[4, 0.9, -0.5], [11, -0.2, 0.3]]), np.empty((0, 3))]


class Film(VideoDataset):
    """Frames that a planner does not read."""

    def __init__(self) -> None:
        frames = [VideoFrame(str(i > 7), i / 2, f"{i}", i in LABELLED) for i in range(15)]
        super().__init__("film", CAMVID_11, frames)

    image = labels = sources = None  # type: ignore[assignment]


@pytest.fixture
def planner(make_recipe) -> Callable[..., ClipPlanner]:
    def make(references: int = 3, rare=(), **changes: Any) -> ClipPlanner:
        shares = {name: changes.pop(name) for name in list(changes) if name.endswith("_share") and name != "rare_share"}
        recipe = make_recipe(
            **{"phases": [{"steps": 9, "references": references, **shares}], "street_frames": 20, **changes},
            network={"encoder": "resnet_tiny", "embed_dim": 16, "key_dim": 16, **OFFSETS},
        )
        return ClipPlanner(recipe, Film(), SHARED, (96, 128), rare)

    return make


def _plans(planner: ClipPlanner, count: int = 120) -> list[ClipPlan]:
    return [planner.plan(index) for index in range(count)]


def _equal(one: ClipPlan, two: ClipPlan) -> bool:
    return all(map(np.array_equal, one, two))


SHARES = {"street_share": 0.25, "filmed_share": 0.25, "cut_share": 0.25, "disturbed_share": 0.5, "turn_share": 0.5}


def test_a_plan_is_a_function_of_seed_and_index(planner):
    one, two = planner(**SHARES), planner(**SHARES)
    two.plan(17)  # what was asked before changes nothing
    assert all(_equal(one.plan(index), two.plan(index)) for index in (31, 3, 4, 0))
    assert not _equal(one.plan(3), one.plan(4))
    assert not _equal(one.plan(3), planner(seed=4, **SHARES).plan(3))


def test_plans_have_the_shapes_that_they_say(planner):
    for references in (0, 1, 3):
        for plan in _plans(planner(references, **SHARES), 50):
            count = references + 2
            assert len(plan.frames) == count and plan.matrices.shape == (count, 2, 3)
            assert plan.age_s.shape == (references,) and plan.motion.shape == (2, 3)
            assert plan.colour.shape == (count, 7) and plan.shadow.shape == (4,) and plan.haze.shape == (2,)
            assert plan.grain.shape == plan.blur.shape == plan.jpeg.shape == (count,)
            assert plan.boxes.shape == (len(plan.kinds), 4)
            exact = {"frames", "cut", "paste", "noise", "kinds"}
            floats = [values for name, values in plan._asdict().items() if name not in exact]
            assert all(values.dtype == np.float32 and np.isfinite(values).all() for values in floats)


def test_one_view_is_planned_without_a_consistency_weight(planner):
    assert len(planner(2, consistency_weight=0.0).plan(0).frames) == 3


def test_a_cut_never_shows_the_labelled_frame(planner):
    plans = _plans(planner(cut_share=1.0))
    assert all(plan.cut for plan in plans)
    for plan in plans:
        assert plan.frames[-1] not in plan.frames[:3] and set(plan.frames) <= set(LABELLED)
    assert {plan.frames[0] for plan in plans} == set(LABELLED)
    assert not any(plan.cut for plan in _plans(planner(0, cut_share=1.0), 20))


def test_filmed_references_lie_on_both_sides_and_stay_in_the_run(planner):
    sides = set()
    for plan in _plans(planner(filmed_share=1.0, max_stride=2)):
        last = plan.frames[-1]
        run = next(run for run in RUNS if last in run)
        assert not plan.cut
        for frame, age_s, back in zip(plan.frames, plan.age_s, (3, 2, 1)):
            assert frame in run
            if age_s >= 0:
                assert age_s == pytest.approx(abs(frame - last) / 2) and frame != last
                assert (last - frame) % back == 0 and abs(last - frame) // back in (1, 2)
                sides.add(np.sign(last - frame))
    assert sides == {-1, 1}


def test_a_filmed_reference_that_is_not_there_is_missing(planner):
    """After frame 6 its run has one more: of three later references the two furthest are missing."""
    plans = [plan for plan in _plans(planner(filmed_share=1.0)) if plan.frames[-1] == 6]
    assert {plan.frames[2] for plan in plans} == {5, 7}
    for plan in plans:
        assert plan.frames[:3].tolist() == [3, 4, 5] if plan.frames[2] == 5 else (plan.age_s[:2] < 0).all()


def test_a_street_clip_strides_within_its_town(planner):
    strides = set()
    for plan in _plans(planner(street_share=1.0)):
        town = next(town for town in TOWNS if plan.frames[0] in town)
        assert all(frame in town for frame in plan.frames) and plan.paste == -1
        steps = np.diff(plan.frames[:4])
        assert (steps == steps[0]).all() and steps[0] >= 1 and plan.frames[-1] == plan.frames[-2]
        there = plan.age_s >= 0
        assert np.allclose(plan.age_s[there], (steps[0] * np.array([3, 2, 1]) / 15)[there])
        strides.add(int(steps[0]))
    assert strides == set(range(1, 7))


def test_a_street_clip_drives_through_the_towns_of_its_phase(planner):
    """Through all of them, and no other."""
    phases = [{"steps": 30, "references": 2, "trains": trains, "street_share": 1.0} for trains in ("all", "temporal")]
    plans = planner(phases=phases)  # 2 clips a step
    plans.towns = {"all": [*TOWNS[:1], range(55, 75)], "temporal": TOWNS[1:]}
    towns = {trains: set() for trains in plans.towns}
    for index in range(120):
        plan = plans.plan(index)
        (town,) = {frame // 20 for frame in np.array(plan.frames) - 15}
        towns["all" if index < 60 else "temporal"].add(town)
    assert towns == {"all": {0, 2}, "temporal": {1}}


def test_rates_of_synthetic_clips_cover_the_range(planner):
    rates = np.array([1 / plan.age_s[-1] for plan in _plans(planner(rate_range_hz=[2.0, 20.0])) if plan.age_s[-1] >= 0])
    assert rates.min() >= 2 * 0.999 and rates.max() <= 20 * 1.001
    counts, _ = np.histogram(np.log(rates), np.log([2, 4, 8, 20]))
    assert (counts > len(rates) / 6).all()


def test_some_streams_have_only_just_begun(planner):
    there = np.array([plan.age_s >= 0 for plan in _plans(planner(), 400)])
    assert (np.diff(there.astype(int)) >= 0).all()  # where a reference is there, so are all later ones
    shares = np.bincount(there.sum(1), minlength=4) / len(there)
    assert shares[3] == pytest.approx(0.75, abs=0.06) and shares[:3].min() > 0.03


def test_the_sources_come_in_their_shares(planner):
    plans = _plans(planner(street_share=0.2, cut_share=0.3, filmed_share=0.4), 500)
    street = [plan.frames[-1] >= 15 for plan in plans]
    filmed = [not plan.cut and len(set(plan.frames)) > 1 and plan.frames[-1] < 15 for plan in plans]
    assert np.mean(street) == pytest.approx(0.2, abs=0.06)
    assert np.mean([plan.cut for plan in plans]) == pytest.approx(0.3, abs=0.06)
    assert np.mean(filmed) == pytest.approx(0.4, abs=0.07)


def _sideways(plan: ClipPlan) -> float:
    """How far the newest reference lies from the labelled frame sideways, as a share of the frame's width."""
    crop, reference = plan.matrices[-2], plan.matrices[-3]
    return abs(float(reference[0, 2] - crop[0, 2])) / 2


def test_a_turning_camera_moves_sideways_by_a_share_of_the_width(planner):
    turned = np.array([_sideways(plan) for plan in _plans(planner(turn_share=1.0, rate_range_hz=[29.9, 30.0]))])
    driven = np.array([_sideways(plan) for plan in _plans(planner(rate_range_hz=[29.9, 30.0]))])
    assert np.median(driven) < 0.02 < np.quantile(turned, 0.05) and turned.max() < 0.25


def test_references_of_a_slow_camera_lie_further_away(planner):
    def moved(rate_hz: float) -> float:
        plans = _plans(planner(rate_range_hz=[rate_hz, rate_hz]))
        return float(np.mean([np.abs(plan.matrices[0] - plan.matrices[-2]).max() for plan in plans]))

    assert moved(1.0) > 4 * moved(20.0)


def test_crops_lie_in_the_frame_where_they_fit(planner):
    scales = set()
    for plan in _plans(planner(0, scale_range=[0.8, 1.6])):
        crop = plan.matrices[0]
        reach = np.abs(np.diag(crop[:, :2]))
        scales.add(round(48 / 96 / reach[1], 3))
        assert (np.abs(crop[:, 2]) + reach <= 1 + 1e-5).all() and crop[0, 1] == crop[1, 0] == 0
    assert min(scales) < 0.9 and max(scales) > 1.4 and min(scales) >= 0.8 and max(scales) <= 1.6


def test_second_views_move_a_little(planner):
    motions = np.stack([plan.motion for plan in _plans(planner(0), 64)])
    away = np.abs(motions - np.eye(2, 3))
    assert away.max() <= 0.09 and (away.max((1, 2)) > 0.003).all()
    plan = planner(0).plan(0)
    square = [np.vstack([matrix, [0, 0, 1]]) for matrix in (plan.matrices[0], plan.motion, plan.matrices[1])]
    assert np.allclose(square[0] @ square[1], square[2], atol=1e-5)


def test_crops_of_a_rare_class_contain_its_pixel(planner):
    for plan in _plans(planner(0, rare=RARE, rare_share=1.0, rare_classes=["pole", "car"])):
        pixel = next(row for row in RARE[0] if row[0] == plan.frames[-1])
        crop = plan.matrices[0]
        inside = (pixel[1:] - crop[:, 2]) / np.diag(crop[:, :2])
        assert (np.abs(inside) <= 1).all()


def test_what_is_pasted_shows_a_rare_class(planner):
    shares = {"paste_share": 1.0, "cut_share": 0.3, "street_share": 0.3}
    plans = _plans(planner(rare=RARE, rare_classes=["pole", "car"], **shares))
    assert {int(plan.paste) for plan in plans} == {-1, 4, 11}
    assert all(plan.paste == -1 for plan in plans if plan.cut or plan.frames[-1] >= 15)
    assert all(plan.paste == -1 for plan in _plans(planner(rare=RARE), 50))


def test_damage_comes_in_its_share(planner):
    def damaged(share: float) -> float:
        boxes = np.stack([plan.boxes for plan in _plans(planner(disturbed_share=share))])
        return float((boxes[..., 2] > boxes[..., 0]).any(1).mean())

    assert damaged(0.0) == 0 and damaged(1.0) == 1 and damaged(0.4) == pytest.approx(0.4, abs=0.15)


def test_a_phase_begins_at_its_step(planner, make_recipe):
    recipe = make_recipe()  # 2 clips a step, 3 steps without references
    plans = ClipPlanner(recipe, Film(), SHARED, (96, 128), ())
    assert [len(plans.plan(index).age_s) for index in (0, 5, 6, 11)] == [0, 0, 2, 2]
