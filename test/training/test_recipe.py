"""Recipes: those that are shipped, and every way one can be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from sdcpc_ros.labels.label_set import CAMVID_11, CITYSCAPES_19, VSPW_124
from sdcpc_ros.network import SDCPC
from sdcpc_ros.training.recipe import PrototypeSettings, RecipeError, ValidationSettings, load_recipe, recipe_from

SHIPPED = sorted((Path(__file__).parents[2] / "config" / "training").glob("*.yaml"))
CLASSES = {"camvid": len(CAMVID_11), "cityscapes": len(CITYSCAPES_19), "vspw": len(VSPW_124)}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_their_networks_build(path):
    recipe = load_recipe(path)
    config = recipe.network_config(CLASSES[recipe.dataset])
    with torch.device("meta"):
        network = SDCPC(config)
    assert sum(parameter.numel() for parameter in network.parameters()) > 1e6
    assert recipe.steps > 0 and path.stem.startswith(recipe.dataset)
    # A step can be shared by one, two and four GPUs.
    assert recipe.clips_per_step % 4 == 0


def test_the_recipe_in_the_documentation_loads():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert recipe_from(yaml.safe_load(block)).dataset == "bag"


def test_there_are_shipped_recipes():
    assert SHIPPED


def test_phases_follow_each_other(write_recipe):
    recipe = load_recipe(write_recipe())
    assert recipe.steps == 6
    assert [recipe.phase_at(step).references for step in range(7)] == [0, 0, 0, 2, 2, 2, 2]


def test_groups_of_fields_become_settings(write_recipe):
    recipe = load_recipe(write_recipe())
    assert recipe.prototypes == PrototypeSettings(per_class=2, dimension=8)
    assert recipe.validation == ValidationSettings(every=3)
    assert recipe.views == 2 and recipe.clips_per_step == 2 and recipe.uses_street


def test_a_stage_is_all_phases_that_train_the_same(make_recipe):
    def phases(*stages):
        return [{"steps": steps, "references": 1, "trains": trains} for steps, trains in stages]

    recipe = make_recipe(phases=phases((3, "all"), (2, "all"), (4, "temporal"), (1, "temporal")))
    assert [recipe.stage_at(step) for step in (0, 4, 5, 9)] == [(0, 5), (0, 5), (5, 5), (5, 5)]
    alone = make_recipe(phases=phases((4, "temporal")))
    assert alone.stage_at(3) == (0, 4)


def test_videos_that_are_left_out_replace_the_recipes(write_recipe):
    path = write_recipe(leave_out=["0001TP"])
    assert load_recipe(path).leave_out == ("0001TP",)
    assert load_recipe(path, ["0016E5", "0006R0"]).leave_out == ("0006R0", "0016E5")


def _temporal():
    return {"steps": 1, "references": 1, "trains": "temporal"}


def _phase(**changes):
    return {"phases": [{"steps": 3, "references": 0, **changes}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1}, "batch_size is 1"),
        ({"batch_size": 3}, "batch_size is 3; with a consistency_weight it must be even"),
        ({"batch_size": "many"}, "batch_size is 'many'; an integer of 2 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"crop_size": [16, 64]}, "crop_size"),
        ({"crop_size": 64}, "crop_size"),
        ({"scale_range": [2, 1]}, "scale_range"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": True}, "learning_rate"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; one of adamw, sgd"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"past": "filmed"}, "unknown past; a recipe holds"),
        ({"rate_range_hz": [30, 1]}, r"rate_range_hz is \(30, 1\); \[low, high\]"),
        ({"rate_range_hz": [0, 30]}, r"numbers in 0\.1\.\.120"),
        ({"max_stride": 0}, r"max_stride is 0; an integer in 1\.\.64"),
        ({"rare_classes": "pole"}, "rare_classes is 'pole'; a list of names of classes"),
        ({"rare_share": 1.5, "rare_classes": ["pole"]}, r"rare_share is 1\.5; a number in \[0, 1\]"),
        ({"rare_share": 0.5}, "rare_share or paste_share is above 0, but no rare_classes"),
        ({"leave_out": "0001TP"}, "leave_out is '0001TP'; a list of names of videos"),
        ({"temporal_towns": -1}, "temporal_towns is -1; an integer of 0 or more"),
        ({"street_frames": 2}, "street_frames is 2; more than the 2 references"),
        ({"trust_weight": -1}, "trust_weight is -1"),
        ({"stability_weight": "much"}, "stability_weight is 'much'"),
        ({"phases": [{"steps": 3, "references": 4}]}, "4 references, but the network has 2 reference_offsets"),
        ({"phases": []}, "phases"),
        ({"phases": 3}, "phases is 3; a list"),
        ({"phases": [3]}, "a phase of a recipe is 3; a mapping"),
        (_phase(street_share=2), "phases: street_share"),
        (_phase(disturbed_share=-1), "phases: disturbed_share"),
        (_phase(cut_share=True), "phases: cut_share is True"),
        (_phase(paste_share=0.5), "rare_share or paste_share is above 0, but no rare_classes"),
        (_phase(filmed_share=0.5, street_share=0.4, cut_share=0.2), "add up to more than 1"),
        (_phase(trains="dssa"), "phases: trains is 'dssa'; one of all, temporal"),
        (_phase(trains="temporal"), "trains is 'temporal' with 0 references; 1 or more"),
        ({"phases": [_temporal(), {"steps": 1, "references": 0}]}, "train 'all' must come before"),
        (
            {"network": {"encoder": "resnet18", "temporal": False, "reference_offsets": [1, 2]}},
            "temporal is false; true is needed",
        ),
        (_phase(refs=1), "unknown refs; a phase holds"),
        ({"phases": [{"steps": 3}]}, "missing references"),
        ({"prototypes": {"weight": 0}}, "prototypes: weight is 0"),
        ({"prototypes": {"count": 3}}, "unknown count; prototypes holds"),
        ({"validation": {}}, "missing every"),
        ({"validation": {"every": 0}}, "validation: every is 0"),
        ({"momentum": 0.9}, "unknown momentum"),
        ({"network": {"encoder": "vgg16"}}, "network: .*encoder is 'vgg16'"),
        ({"network": {"depth": 3}}, "network: .*unknown field depth"),
        ({"network": {"num_classes": 5}}, "num_classes follows from the data set"),
        ({"network": []}, "network"),
    ],
)
def test_a_bad_recipe_is_refused_by_name(write_recipe, changes, message):
    path = write_recipe(**changes)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: !!python/object/apply:os.getcwd []"])
def test_what_is_no_recipe_is_refused(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="recipe"):
        load_recipe(path)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(RecipeError, match="gone"):
        load_recipe(tmp_path / "gone.yaml")
