"""Label sets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sdcpc_ros.label_set import CAMVID_11, IGNORE, LabelSet, LabelSetError


def test_camvid_has_its_published_ids_and_colours():
    assert len(CAMVID_11) == 11
    assert CAMVID_11.class_names.index("road") == 3
    assert CAMVID_11.colours[8] == (64, 0, 128)


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
