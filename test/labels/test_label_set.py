"""Label sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdcpc_ros.labels.label_set import (
    CAMVID_11,
    CITYSCAPES_19,
    IGNORE,
    LABEL_SETS,
    VSPW_124,
    LabelSet,
    LabelSetError,
    label_set_of_ids,
    read_label_set,
    thin_classes,
)


def test_camvid_has_its_published_ids_and_colours():
    assert len(CAMVID_11) == 11
    assert CAMVID_11.class_names.index("road") == 3
    assert CAMVID_11.colours[8] == (64, 0, 128)


def test_cityscapes_and_vspw_have_their_published_ids():
    assert [CITYSCAPES_19.class_names.index(name) for name in ("road", "sky", "person", "bicycle")] == [0, 10, 11, 18]
    assert CITYSCAPES_19.colours[13] == (0, 0, 142)
    assert [VSPW_124.class_names.index(name) for name in ("wall", "sky", "person", "train")] == [0, 28, 60, 123]


@pytest.mark.parametrize("label_set", LABEL_SETS.values(), ids=lambda label_set: label_set.name)
def test_a_known_set_shows_each_class_in_a_colour_of_its_own(label_set):
    assert len(set(label_set.colours)) == len(label_set)
    assert LABEL_SETS[label_set.name] is label_set


def test_palette_is_black_where_there_is_no_class():
    palette = CAMVID_11.palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert tuple(palette[3]) == (128, 64, 128)
    assert not palette[11:].any() and not palette[IGNORE].any()


def test_survives_json():
    assert LabelSet.from_dict(json.loads(json.dumps(CAMVID_11.to_dict()))) == CAMVID_11


@pytest.mark.parametrize(
    ("names", "colours", "message"),
    [
        ((), (), "0 classes"),
        (("a", "a"), ((0, 0, 0), (1, 1, 1)), "twice: a"),
        (("a", "b"), ((0, 0, 0),), "2 classes but 1 colours"),
        (("a",), ((0, 0, 256),), "colour of 'a'"),
        (("a",), ((0, 0),), "colour of 'a'"),
    ],
)
def test_a_malformed_set_is_refused(names, colours, message):
    with pytest.raises(LabelSetError, match=message):
        LabelSet("bad", names, colours)


@pytest.mark.parametrize("values", [None, [], {}, {"name": "x", "class_names": ["a"], "colours": [[1, 2]]}])
def test_what_is_no_label_set_is_refused(values):
    with pytest.raises(LabelSetError, match="label set"):
        LabelSet.from_dict(values)


class TestReadLabelSet:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a: &a [x, x]\nnames: [*a]", "a name is empty or of the type list"),
            ("names: [a]\nname: [x]", "a name is empty or of the type list"),
            ("[no, b]", "of the type bool; text is needed, perhaps in quotes"),
            ("[a, ~]", "of the type NoneType"),
            ("[a, '']", "a name is empty"),
            ("names: [a]\ncolours: [[.inf, 0, 0]]", "not a label set"),
            ("names: [a]\ncolours: [[1.7, 0, 0]]", "not a label set"),
            ("[2024-99-99]", "not readable as YAML or JSON"),
            ("[" * 3000, "not readable as YAML or JSON"),
        ],
    )
    def test_what_yaml_makes_of_a_slip_is_no_name(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "labels.yaml").write_text(content)
        with pytest.raises(LabelSetError, match=f"labels.yaml: .*{message}"):
            read_label_set(str(tmp_path / "labels.yaml"))

    def test_by_name(self) -> None:
        assert read_label_set("camvid_11") is CAMVID_11
        with pytest.raises(LabelSetError, match=r"no label set 'camvid_12': neither one of camvid_11, .* nor a file"):
            read_label_set("camvid_12")

    @pytest.mark.parametrize("name", ["labels.json", "labels.yaml"])
    def test_from_a_file(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(json.dumps(CAMVID_11.to_dict()))
        assert read_label_set(str(tmp_path / name)) == CAMVID_11

    @pytest.mark.parametrize(
        "content",
        [
            "[a, b]",
            "0: a\n1: b",
            '{"0": "a", "1": "b"}',
            "names: [a, b]",
            '{"name": "x", "class_names": ["a", "b"], "colours": [[1, 2, 3], [4, 5, 6]]}',
        ],
    )
    def test_a_file_comes_in_several_forms(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "labels.yaml").write_text(content)
        assert read_label_set(str(tmp_path / "labels.yaml")).class_names == ("a", "b")

    @pytest.mark.parametrize("ending", ["json", "yaml"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"0: a\n2: b", "with gaps|not readable as YAML or JSON"),
            (b'"a"', "a list of class names"),
            (b"[", "not readable as YAML or JSON"),
            (b"\xff", "not readable as YAML or JSON"),
            (b'{"0": "a", "1": "b", "1": "c"}', "'1' comes twice, as 'b' and 'c'"),
            (b'{"0": "a", "1": "b", "01": "c"}', "'1' comes twice, as 'b' and 'c'"),
            (b'{"names": ["a"], "names": ["b"]}', "'names' comes twice"),
            (b"0: a\n1: b\n0x1: c", "'1' comes twice, as 'b' and 'c'|not readable as YAML or JSON"),
            (b"{}", "a list of class names"),
            (b"[]", "a list of class names"),
            (b'{"name": "a"}', "a list of class names"),
            (b'{"names": ["a"], "colours": [[1, 2]]}', "not a label set"),
        ],
    )
    def test_a_file_that_does_not_fit(self, tmp_path: Path, ending: str, content: bytes, message: str) -> None:
        path = tmp_path / f"labels.{ending}"
        path.write_bytes(content)
        with pytest.raises(LabelSetError, match=rf"labels\.{ending}: .*({message})"):
            read_label_set(str(path))


def test_thin_classes_are_poles_and_signs_by_whole_words() -> None:
    assert thin_classes(CAMVID_11.class_names) == ["pole", "sign_symbol"]
    assert thin_classes(CITYSCAPES_19.class_names) == ["pole", "traffic sign"]
    assert thin_classes(("signal", "tadpole", "Road_Signs")) == ["Road_Signs"]


def test_ids_of_a_label_map_may_have_gaps_and_be_shared():
    entries = [(4, "car"), (1, "road"), (1, "pavement"), (255, "unlabelled"), (-1, "nothing"), (10**9, "far")]
    label_set = label_set_of_ids("mapped", entries)
    assert label_set.class_names == ("id 0", "road/pavement", "id 2", "id 3", "car")
    assert len(set(label_set.colours)) == 5


def test_ids_of_a_known_label_set_have_its_colours():
    entries = reversed(list(enumerate(CAMVID_11.class_names)))
    assert label_set_of_ids("live", entries) is CAMVID_11
