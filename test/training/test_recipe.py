"""Recipes: those that are shipped, and every way one can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdcpc_ros.training.recipe import RecipeError, load_recipe

SHIPPED = sorted((Path(__file__).parents[2] / "config" / "training").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path):
    recipe = load_recipe(path)
    assert recipe.network_config(11).num_classes == 11
    assert recipe.steps > 0


def test_there_is_a_shipped_recipe():
    assert SHIPPED


def test_phases_follow_each_other(write_recipe):
    recipe = load_recipe(write_recipe())
    assert recipe.steps == 6
    assert [recipe.phase_at(step).references for step in range(7)] == [0, 0, 0, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1}, "batch_size is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"crop_size": [16, 64]}, "crop_size"),
        ({"scale_range": [2, 1]}, "scale_range"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"phases": []}, "phases"),
        ({"phases": [{"steps": 3, "references": 0, "street_share": 2}]}, "street_share"),
        ({"phases": [{"steps": 3, "references": 0, "street_share": 0, "disturbed_share": -1}]}, "disturbed_share"),
        ({"phases": [{"steps": 3}]}, "references"),
        ({"momentum": 0.9}, "unknown momentum"),
        ({"batch_size": "many"}, "batch_size|not supported"),
    ],
)
def test_a_bad_recipe_is_refused_by_name(write_recipe, changes, message):
    path = write_recipe(**changes)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: !!python/object/apply:os.getcwd []"])
def test_what_is_no_recipe_is_refused(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="recipe"):
        load_recipe(path)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(RecipeError, match="gone"):
        load_recipe(tmp_path / "gone.yaml")
