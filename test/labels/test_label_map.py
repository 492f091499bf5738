"""Label maps: ids, LabelInfo, and a sentence for each map that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdcpc_ros.labels.label_map import ENCODINGS, PRESETS, read_label_map
from sdcpc_ros.labels.label_set import CAMVID_11, CITYSCAPES_19, IGNORE, VSPW_124, LabelSet, LabelSetError

ROAD, PAVEMENT, SKY = (CAMVID_11.class_names.index(name) for name in ("road", "pavement", "sky"))
ALL = np.array([[*range(len(CAMVID_11)), IGNORE]], np.uint8)


def published(entries: list[str], encoding: str = "mono8", label_set: LabelSet = CAMVID_11) -> list[int]:
    """What the ids of all classes, and IGNORE, become."""
    return read_label_map(entries, label_set, encoding).published(ALL)[0].tolist()


@pytest.mark.parametrize(("encoding", "unlabelled"), [("mono8", 255), ("8UC1", 255), ("16UC1", 65535), ("16SC1", -1)])
def test_without_a_map_the_ids_are_the_models(encoding: str, unlabelled: int) -> None:
    label_map = read_label_map([], CAMVID_11, encoding)
    mask = label_map.published(ALL)
    assert mask.dtype == ENCODINGS[encoding].dtype
    assert mask[0].tolist() == [*range(11), unlabelled]
    assert label_map.listed == tuple(enumerate(CAMVID_11.class_names))
    assert label_map.groups is None and label_map.merged is None and label_map.shown is None
    if mask.dtype == np.uint8:
        assert mask is ALL  # nothing is copied


def test_many_names_share_an_id_and_the_rest_is_background() -> None:
    entries = ["road: 1", "pavement : 1", "car: 200", "default: 7", "unlabelled: 0"]
    label_map = read_label_map(entries, CAMVID_11, "mono8")
    expected = dict.fromkeys(range(11), 7) | {ROAD: 1, PAVEMENT: 1, CAMVID_11.class_names.index("car"): 200}
    assert label_map.published(ALL)[0].tolist() == [*(expected[index] for index in range(11)), 0]
    named = ((1, "pavement"), (1, "road"), (7, "background"), (200, "car"))
    assert label_map.listed == ((0, "unlabelled"), *named)  # every id that a mask may have
    assert label_map.groups[ROAD] == label_map.groups[PAVEMENT] != label_map.groups[SKY]
    assert set(label_map.groups) == {0, 1, 2}
    assert label_map.shown[SKY] == IGNORE and label_map.shown[PAVEMENT] == ROAD == label_map.merged[PAVEMENT]
    assert label_map.merged[SKY] == SKY and label_map.merged[IGNORE] == IGNORE


@given(st.permutations(range(20, 31)), st.sampled_from(sorted(ENCODINGS)))
def test_any_renumbering_keeps_names_with_their_ids(ids: list[int], encoding: str) -> None:
    entries = [f"{name}: {number}" for name, number in zip(CAMVID_11.class_names, ids)]
    label_map = read_label_map(entries, CAMVID_11, encoding)
    assert published(entries, encoding) == [*ids, ENCODINGS[encoding].unlabelled]
    assert dict(label_map.listed) == dict(zip(ids, CAMVID_11.class_names))
    assert label_map.groups is None  # every class is still one by itself


def test_without_a_default_the_others_keep_their_ids() -> None:
    assert published(["road: 90"]) == [*range(3), 90, *range(4, 11), 255]
    label_map = read_label_map(["unlabelled: 99"], CAMVID_11, "mono8")
    assert label_map.listed[-1] == (99, "unlabelled")


def test_classes_may_become_unlabelled() -> None:
    label_map = read_label_map(["road: 1", "default: -1"], CAMVID_11, "16SC1")
    assert set(label_map.published(ALL)[0].tolist()) == {1, -1}
    assert label_map.listed == ((1, "road"),)
    assert label_map.merged[SKY] == IGNORE  # not counted
    assert published(["sky: 255", "unlabelled: 255"])[SKY] == 255
    assert published(["unlabelled: -5"], "16SC1")[-1] == -5


@pytest.mark.parametrize("label_set", [CAMVID_11, CITYSCAPES_19, VSPW_124])
def test_the_preset_for_nav2_has_background_at_0(label_set: LabelSet) -> None:
    label_map = read_label_map(["nav2"], label_set, "mono8")
    assert label_map.lookup[IGNORE] == 0 and (0, "background") in label_map.listed
    listed = {name: number for number, name in label_map.listed}
    for class_id, name in enumerate(label_set.class_names):
        assert label_map.lookup[class_id] == PRESETS["nav2"].get(name, 0) == listed.get(name, 0)
    assert {"road", "car"} < set(listed)


def test_a_file_is_as_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    file.write_text("# ids\ndefault: 0\n'traffic light': 3\n\"road\": 1\n")
    assert read_label_map([str(file)], CITYSCAPES_19, "mono8").listed == (
        *((0, "background"), (1, "road"), (3, "traffic light")),
    )


def test_the_example_fits_the_shipped_model() -> None:
    example = Path(__file__).parents[2] / "config" / "label_map.yaml"
    listed = read_label_map([str(example)], CAMVID_11, "mono8").listed
    assert listed[0] == (0, "background") and len(listed) == 6


@pytest.mark.parametrize(
    ("entries", "encoding", "message"),
    [
        (["Road: 1"], "mono8", "names 'Road'.*did you mean 'road'"),
        (["sign symbol: 1"], "mono8", "did you mean 'sign_symbol'"),
        (["unlabeled: 0"], "mono8", "did you mean 'unlabelled'"),
        (["zebra: 1"], "mono8", "known are bicyclist, building"),
        (["road: 256"], "mono8", "'road' the id 256; with label_encoding mono8 0 to 255 are allowed"),
        (["road: -1"], "mono8", "0 to 255 are allowed"),
        (["unlabelled: -1"], "16UC1", "0 to 65535 are allowed"),
        (["road: 40000"], "16SC1", "0 to 32767 are allowed"),
        (["road: -2"], "16SC1", "0 to 32767 are allowed"),
        (["default: -2"], "16SC1", "0 to 32767 are allowed"),
        (["road: 0"], "mono8", "gives 'road' the id 0, which 'sky' keeps; give 'sky' an id too"),
        (["unlabelled: 0"], "mono8", "gives 'unlabelled' the id 0, which 'sky' keeps"),
        (["road: 255", "default: 0"], "mono8", "that of unlabelled pixels in mono8; .*add 'unlabelled: 255'"),
        (["sky: -1"], "16SC1", "that of unlabelled pixels in 16SC1"),
        (["road: 1", "road: 2"], "mono8", "names 'road' twice"),
        (["road: 1", "nav2"], "mono8", "holds 'nav2'; 'name: id'"),
        (["mine"], "mono8", "is 'mine'; allowed: 'name: id' texts, a .yaml file or a preset"),
        (["nowhere.yaml"], "mono8", "'nowhere.yaml' cannot be read: No such file or directory$"),
        (["~nobody-here/a.yaml"], "mono8", "'~nobody-here/a.yaml' cannot be read: No such file or directory$"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(entries: list[str], encoding: str, message: str) -> None:
    with pytest.raises(LabelSetError, match=message):
        read_label_map(entries, CAMVID_11, encoding)


def test_background_is_one_name_for_one_id() -> None:
    own = LabelSet("own", ("background", "thing"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(LabelSetError, match=r"'background' the id 3 and 'default' 0.*give both one id"):
        read_label_map(["background: 3", "default: 0"], own, "mono8")
    assert read_label_map(["thing: 5", "default: 0"], own, "mono8").listed == ((0, "background"), (5, "thing"))
    with pytest.raises(
        LabelSetError, match="'nav2' names no class of the model; label set 'own' has background, thing"
    ):
        read_label_map(["nav2"], own, "mono8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road: 1\nroad: 2\n", "names 'road' twice"),
        ("- road: 1\n", "something else than 'name: id' lines"),
        ("road: [1, 2]\n", "something else than 'name: id' lines"),
        ("", "something else"),
        ("road: one\n", "holds 'road: one'; 'name: id' with a whole number is needed"),
        ("a: [", "cannot be read: while parsing"),
        ("[" * 3000, "cannot be read: maximum recursion depth"),
        ("road: " + "9" * 6000, "'name: id' with a whole number is needed"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(LabelSetError, match=message):
        read_label_map([str(tmp_path / "map.yaml")], CAMVID_11, "mono8")
