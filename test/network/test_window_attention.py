"""Window attention against its definition, for many shapes, windows and reference counts, borders included."""

from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from sdcpc_ros.network.window_attention import fused_op, tile_geometry, tile_layouts, window_attention
from sdcpc_ros.network.window_attention.tile_geometry import TILE

_SPEC = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("window_attention_oracle.py"))
_ORACLE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_ORACLE)


def _inputs(seed, batch, channels, value_channels, height, width):
    """Queries, keys and values."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, count, height, width, generator=generator, dtype=torch.float64)
        for count in (channels, channels, value_channels)
    ]


def _check(query, keys, values, radius, valid):
    result = window_attention(query, keys, values, radius=radius, valid=valid)
    output, logits = _ORACLE.window_attention_oracle(query.numpy(), keys.numpy(), values.numpy(), radius, valid.numpy())
    np.testing.assert_allclose(result.output.numpy(), output, atol=1e-10)
    offsets = result.argmax_offset.numpy()
    assert not offsets[~valid.numpy()].any()
    for (b, y, x), candidates in logits.items():
        if valid[b]:  # a KeyError would be an offset out of the window or frame
            chosen = candidates[tuple(offsets[b, :, y, x])]
            assert chosen == pytest.approx(max(candidates.values()), abs=1e-10)


@pytest.mark.parametrize("radius", [0, 1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 11), (TILE, TILE), (TILE + 1, 2 * TILE - 1), (12, 15)])
def test_equals_its_definition(height, width, radius):
    _check(*_inputs(0, 3, 5, 3, height, width), radius, torch.ones(3, dtype=torch.bool))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    valid=st.lists(st.booleans(), min_size=1, max_size=4),
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    radius=st.integers(0, 5),
)
def test_equals_its_definition_anywhere(seed, valid, height, width, radius):
    _check(*_inputs(seed, len(valid), 4, 2, height, width), radius, torch.tensor(valid))


@pytest.mark.parametrize("tiles", [1, 5])
def test_strips_join_without_a_seam(monkeypatch, tiles):
    query, keys, values = _inputs(6, 4, 5, 3, 15, 10)
    arguments = {"radius": 2, "valid": torch.tensor([True, False, True, True])}
    whole = window_attention(query, keys, values, **arguments)
    monkeypatch.setattr(tile_layouts, "STRIP_NUMBERS", 1)
    monkeypatch.setattr(tile_layouts, "FEWEST_TILES", tiles)
    for expected, found in zip(whole, window_attention(query, keys, values, **arguments)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("height", "width"), [(15, 10), (8, 12), (3, 21)])
@pytest.mark.parametrize("radius", [1, 4])
def test_it_is_the_same_without_gradients(monkeypatch, height, width, radius):
    query, keys, values = _inputs(6, 3, 5, 3, height, width)
    arguments = {"radius": radius, "valid": torch.tensor([True, False, True])}
    monkeypatch.setattr(tile_layouts, "STRIP_NUMBERS", 1)
    monkeypatch.setattr(tile_layouts, "FEWEST_TILES", 2)
    whole = window_attention(query, keys, values, **arguments)
    with torch.inference_mode():
        written = window_attention(query, keys, values, **arguments)
    for expected, found in zip(whole, written):
        torch.testing.assert_close(found, expected)


@pytest.fixture(params=["gathered", "unfolded", "operator"])
def form(request, monkeypatch):
    """Both layouts of the portable form, and the operator."""
    if request.param == "unfolded":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    if request.param == "operator":
        monkeypatch.setattr(fused_op, "takes", lambda *_: True)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_further_terms_equal_their_definition(form, scale):
    """The relative position bias, and gather indices as maps that were gathered before."""
    radius, weight = 2, torch.tensor(0.7, dtype=torch.float64)
    query, keys, values = _inputs(9, 3, 5, 3, 9, 6)
    valid = torch.tensor([True, False, True])
    index = torch.randint(0, 9 * 6, (3, 9, 6), generator=torch.Generator().manual_seed(0))
    found = window_attention(
        query, keys, values, radius=radius, valid=valid, scale=scale, position_weight=weight, gather_index=index
    )
    rows = index.flatten(1)[:, None]
    keys, values = (part.flatten(2).gather(2, rows.expand(-1, part.shape[1], -1)).view_as(part)
                    for part in (keys, values))  # fmt: skip
    expected = torch.zeros(3, 3, 9, 6, dtype=torch.float64)
    for b, y, x in itertools.product((0, 2), range(9), range(6)):
        logits, seen = [], []
        for dy, dx in itertools.product(range(-radius, radius + 1), repeat=2):
            if 0 <= y + dy < 9 and 0 <= x + dx < 6:
                product = query[b, :, y, x] @ keys[b, :, y + dy, x + dx] * (5**-0.5 if scale is None else scale)
                bias = math.cos(math.pi * dy / (radius + 1)) + math.cos(math.pi * dx / (radius + 1))
                logits.append(product + weight * bias)
                seen.append(values[b, :, y + dy, x + dx])
        expected[b, :, y, x] = torch.stack(logits).softmax(0) @ torch.stack(seen)
    torch.testing.assert_close(found.output, expected)
    assert not found.argmax_offset[1].any()


@pytest.mark.parametrize("with_index", [False, True])
def test_a_map_that_is_not_valid_spoils_no_other(form, with_index):
    """Whatever finite numbers it holds, also where their products are not finite."""
    query, keys, values = (part.half() for part in _inputs(6, 2, 5, 3, 9, 6))
    index = torch.randint(0, 9 * 6, (2, 9, 6), generator=torch.Generator().manual_seed(0)) if with_index else None
    arguments = {"radius": 2, "valid": torch.tensor([False, True]), "gather_index": index}
    expected = window_attention(query, keys, values, **arguments).output[1]
    keys[0], values[0] = 6e4, 6e4
    found = window_attention(query, keys, values, **arguments).output
    assert torch.equal(found[1], expected)


@pytest.mark.parametrize("through_the_operator", [False, True])
def test_without_values_it_finds_the_same_offsets(monkeypatch, through_the_operator):
    query, keys, values = _inputs(4, 2, 5, 3, 9, 6)
    valid = torch.tensor([True, False])
    index = torch.randint(0, 9 * 6, (2, 9, 6), generator=torch.Generator().manual_seed(0))
    if through_the_operator:
        monkeypatch.setattr(fused_op, "takes", lambda *_: True)
    expected = window_attention(query, keys, values, radius=2, valid=valid, gather_index=index)
    found = window_attention(query, keys, None, radius=2, valid=valid, gather_index=index)
    assert found.output is None and torch.equal(found.argmax_offset, expected.argmax_offset)


def test_the_position_weight_learns():
    query, keys, values = _inputs(5, 2, 3, 2, 5, 4)
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    valid = torch.ones(2, dtype=torch.bool)
    assert torch.autograd.gradcheck(
        lambda it: window_attention(query, keys, values, radius=1, valid=valid, position_weight=it).output, (weight,)
    )


def test_what_is_made_while_a_cuda_graph_is_captured_is_not_kept(monkeypatch):
    """It would lie in the graph's own memory; and what was kept before might not outlive the graph that reads it."""
    query, keys, values = _inputs(7, 2, 4, 2, 9, 9)
    arguments = {"radius": 2, "valid": torch.ones(2, dtype=torch.bool)}
    tile_geometry.made_once.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    captured = window_attention(query, keys, values, **arguments)
    assert tile_geometry.made_once.cache_info().currsize == 0
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    expected = window_attention(query, keys, values, **arguments)
    before = tile_geometry.made_once.cache_info()
    assert before.currsize > 0
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    again = window_attention(query, keys, values, **arguments)
    assert tile_geometry.made_once.cache_info() == before  # neither kept nor taken
    for wanted, found, other in zip(expected, captured, again):
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(other, wanted)


@pytest.mark.parametrize("radius", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("length", [1, 4, 7, 12, 13, 30])
def test_tiles_of_a_kind_have_one_window(radius, length):
    like, size = torch.zeros(()), (length, 9)
    kinds = tile_geometry.tile_kinds(radius, 2, *size, like.device)
    windows = tile_geometry.windows_of_kinds(like, radius, *size, None)
    frames = tile_geometry.frame_of_tiles(radius, *size, like.dtype, like.device)
    each = tile_geometry.window_of_a_tile(radius, like.dtype, like.device) + frames[:, None]
    assert len(windows) == kinds.max() + 1
    torch.testing.assert_close(windows[kinds], each.repeat(2, 1, 1))


def test_no_tensor_holds_all_pairs_or_all_windows():
    class LargestMade(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() >= tensor.nbytes:
                    self.numbers = max(self.numbers, tensor.numel())
            return result

    query, keys, values = _inputs(8, 1, 16, 16, 40, 40)
    with torch.inference_mode(), LargestMade() as largest:
        window_attention(query, keys, values, radius=2, valid=torch.ones(1, dtype=torch.bool))
    positions, window = 40 * 40, 5 * 5
    assert largest.numbers < positions * positions
    assert largest.numbers < positions * window * 16


def test_what_is_remembered_fits_the_next_call():
    """Windows and positions are kept from call to call: other sizes, types, and those of other modes in between."""
    for height, width, dtype in ((9, 9, torch.float64), (9, 10, torch.float64), (9, 9, torch.float32)):
        query, keys, values = (part.to(dtype) for part in _inputs(7, 2, 4, 2, height, width))
        valid = torch.ones(2, dtype=torch.bool)
        with torch.inference_mode():
            first = window_attention(query, keys, values, radius=2, valid=valid).output.clone()
        output = window_attention(query.requires_grad_(), keys, values, radius=2, valid=valid).output
        output.sum().backward()
        torch.testing.assert_close(output, first)


def test_contents_of_invalid_maps_do_not_matter():
    query, keys, values = _inputs(1, 3, 4, 4, 10, 9)
    valid = torch.tensor([True, False, True])
    before = window_attention(query, keys, values, radius=2, valid=valid)
    keys[1], values[1] = 1e6, -1e6
    after = window_attention(query, keys, values, radius=2, valid=valid)
    torch.testing.assert_close(before.output, after.output)
    torch.testing.assert_close(before.argmax_offset, after.argmax_offset)
    assert not after.output[1].any()


def test_maps_of_a_batch_do_not_mix():
    query, keys, values = _inputs(2, 3, 4, 4, 10, 9)
    together = window_attention(query, keys, values, radius=3, valid=torch.ones(3, dtype=torch.bool)).output
    for one in range(3):
        part = (maps[one : one + 1] for maps in (query, keys, values))
        alone = window_attention(*part, radius=3, valid=torch.ones(1, dtype=torch.bool)).output
        torch.testing.assert_close(together[one : one + 1], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_stays_finite_and_near(dtype):
    inputs = _inputs(4, 2, 8, 8, 12, 12)
    valid = torch.tensor([True, False])
    exact = window_attention(*inputs, radius=2, valid=valid)
    low = window_attention(*(part.to(dtype) for part in inputs), radius=2, valid=valid)
    torch.testing.assert_close(low.output.double(), exact.output, atol=0.05 if dtype != torch.float32 else 1e-5, rtol=0)


def test_gradients_are_those_of_finite_differences():
    inputs = [part.requires_grad_() for part in _inputs(5, 2, 3, 2, 5, 4)]
    valid = torch.ones(2, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda *it: window_attention(*it, radius=1, valid=valid).output, inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -1}, "radius is -1"),
        ({"valid": torch.ones(1, 2, dtype=torch.bool)}, r"valid is \(1, 2\)"),
        ({"keys": torch.zeros(2, 4, 5, 6)}, r"keys is \(2, 4, 5, 6\)"),
        ({"values": torch.zeros(3, 4, 6, 6)}, r"values is \(3, 4, 6, 6\)"),
        ({"gather_index": torch.zeros(2, 1, 6, 6, dtype=torch.int32)}, r"gather_index is \(2, 1, 6, 6\)"),
        ({"position_weight": torch.zeros(1)}, r"position_weight is \(1,\)"),
        ({"query": torch.zeros(4, 6, 6)}, "query"),
    ],
)
def test_bad_shapes_are_named(change, message):
    arguments = {
        "query": torch.zeros(2, 4, 6, 6),
        "keys": torch.zeros(2, 4, 6, 6),
        "values": torch.zeros(2, 4, 6, 6),
        "radius": 1,
        "valid": torch.ones(2, dtype=torch.bool),
    }
    with pytest.raises(ValueError, match=message):
        window_attention(**{**arguments, **change})
