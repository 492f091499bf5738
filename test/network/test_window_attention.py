"""Window attention against its definition, for many shapes, windows and reference counts, borders included."""

from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path
from unittest import mock

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


@pytest.fixture(autouse=True, params=["tiles", "columns"], scope="module")
def _layout(request):
    """Small frames are laid out in one way, large ones in another: here small ones in both."""
    with mock.patch.object(tile_layouts.Columns, "pays", lambda *_: request.param == "columns"):
        yield


def _inputs(seed, batch, references, channels, value_channels, height, width):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return (
        random(batch, channels, height, width),
        random(batch, references, channels, height, width),
        random(batch, references, value_channels, height, width),
        random(batch, references, height, width),
    )


def _check(query, keys, values, radius, valid, bias):
    result = window_attention(query, keys, values, radius=radius, valid=valid, bias=bias)
    output, mass, logits = _ORACLE.window_attention_oracle(
        query.numpy(), keys.numpy(), values.numpy(), radius, valid.numpy(), None if bias is None else bias.numpy()
    )
    np.testing.assert_allclose(result.output.numpy(), output, atol=1e-10)
    np.testing.assert_allclose(result.mass.numpy(), mass, atol=1e-10)
    offsets = result.offset.numpy()
    assert not offsets[~valid.numpy()].any()
    for (b, k, y, x), candidates in logits.items():
        if valid[b, k]:
            chosen = candidates[
                tuple(offsets[b, k, :, y, x])
            ]  # a KeyError would be an offset out of the window or frame
            assert chosen == pytest.approx(max(candidates.values()), abs=1e-10)


@pytest.mark.parametrize("radius", [0, 1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 11), (TILE, TILE), (TILE + 1, 2 * TILE - 1), (12, 15)])
@pytest.mark.parametrize("references", [1, 3])
def test_equals_its_definition(height, width, radius, references):
    query, keys, values, bias = _inputs(0, 2, references, 5, 3, height, width)
    _check(query, keys, values, radius, torch.ones(2, references, dtype=torch.bool), bias)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 2),
    references=st.integers(1, 4),
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    radius=st.integers(0, 5),
    with_bias=st.booleans(),
    data=st.data(),
)
def test_equals_its_definition_anywhere(seed, batch, references, height, width, radius, with_bias, data):
    query, keys, values, bias = _inputs(seed, batch, references, 4, 2, height, width)
    valid = torch.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=references, max_size=references),
                                            min_size=batch, max_size=batch)))  # fmt: skip
    _check(query, keys, values, radius, valid, bias if with_bias else None)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("tiles", [1, 5])
def test_strips_join_without_a_seam(monkeypatch, tiles, with_bias):
    query, keys, values, bias = _inputs(6, 2, 2, 5, 3, 15, 10)
    arguments = {"radius": 2, "valid": torch.tensor([[True, False], [True, True]]), "bias": bias if with_bias else None}
    whole = window_attention(query, keys, values, **arguments)
    monkeypatch.setattr(tile_layouts, "_STRIP_NUMBERS", 1)
    monkeypatch.setattr(tile_layouts, "_FEWEST_TILES", tiles)
    for expected, found in zip(whole, window_attention(query, keys, values, **arguments)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("height", "width"), [(15, 10), (8, 12), (3, 21)])
@pytest.mark.parametrize("radius", [1, 4])
def test_it_is_the_same_without_gradients(monkeypatch, height, width, radius):
    query, keys, values, bias = _inputs(6, 2, 3, 5, 3, height, width)
    arguments = {"radius": radius, "valid": torch.tensor([[True, False, True], [True] * 3]), "bias": bias}
    monkeypatch.setattr(tile_layouts, "_STRIP_NUMBERS", 1)
    monkeypatch.setattr(tile_layouts, "_FEWEST_TILES", 2)
    whole = window_attention(query, keys, values, **arguments)
    with torch.inference_mode():
        written = window_attention(query, keys, values, **arguments)
    for expected, found in zip(whole, written):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("through_the_operator", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_further_terms_equal_their_definition(monkeypatch, through_the_operator, scale):
    """Nearness as the term it is said to be, and sources as maps that were moved before: by both implementations."""
    radius, near = 2, torch.tensor(0.7, dtype=torch.float64)
    query, keys, values, bias = _inputs(9, 2, 3, 5, 3, 9, 6)
    valid = torch.tensor([[True, False, True], [True, True, True]])
    sources = torch.randint(0, 9 * 6, (2, 3, 9, 6), generator=torch.Generator().manual_seed(0))
    if through_the_operator:
        monkeypatch.setattr(fused_op, "takes", lambda *_: True)
    found = window_attention(
        query, keys, values, radius=radius, valid=valid, bias=bias, scale=scale, nearness=near, source=sources
    )
    rows = sources.flatten(2)[:, :, None]
    keys, values = (part.flatten(3).gather(3, rows.expand(-1, -1, part.shape[2], -1)).view_as(part)
                    for part in (keys, values))  # fmt: skip
    assert found.offset is not None
    expected = torch.zeros(2, 3, 9, 6, dtype=torch.float64)
    for b, y, x in itertools.product(range(2), range(9), range(6)):
        logits, seen = [], []
        for k, dy, dx in itertools.product(range(3), range(-radius, radius + 1), range(-radius, radius + 1)):
            if valid[b, k] and 0 <= y + dy < 9 and 0 <= x + dx < 6:
                product = query[b, :, y, x] @ keys[b, k, :, y + dy, x + dx] * (5**-0.5 if scale is None else scale)
                nearness = math.cos(math.pi * dy / (radius + 1)) + math.cos(math.pi * dx / (radius + 1))
                logits.append(product + bias[b, k, y, x] + near * nearness)
                seen.append(values[b, k, :, y + dy, x + dx])
        expected[b, :, y, x] = torch.stack(logits).softmax(0) @ torch.stack(seen)
    torch.testing.assert_close(found.output, expected)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_what_is_wanted_is_what_it_would_be_and_the_rest_is_finite(batch, share):
    query, keys, values, bias = _inputs(10, batch, 2, 5, 3, 15, 10)
    generator = torch.Generator().manual_seed(0)
    wanted = torch.rand(batch, 15, 10, generator=generator) < share
    arguments = {"radius": 2, "valid": torch.ones(batch, 2, dtype=torch.bool), "bias": bias, "with_offset": False}
    arguments["source"] = torch.randint(0, 150, (batch, 2, 15, 10), generator=generator)
    whole = window_attention(query, keys, values, **arguments).output
    found = window_attention(query, keys, values, wanted=wanted, with_mass=False, **arguments)
    assert found.output.isfinite().all() and found.mass is found.offset is None
    at = wanted[:, None].expand_as(whole)
    torch.testing.assert_close(found.output[at], whole[at])
    if share < 1:  # whole tiles were left out
        assert (found.output == 0).all(1).any()


def test_mass_and_offset_are_not_found_in_parts():
    query, keys, values, _ = _inputs(10, 1, 2, 5, 3, 6, 6)
    valid, wanted = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 6, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="everywhere or not at all"):
        window_attention(query, keys, values, radius=1, valid=valid, wanted=wanted)


def test_the_weight_of_nearness_learns():
    query, keys, values, _ = _inputs(5, 1, 2, 3, 2, 5, 4)
    near = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert torch.autograd.gradcheck(
        lambda weight: window_attention(query, keys, values, radius=1, valid=valid, nearness=weight).output, (near,)
    )


def test_what_is_made_while_a_cuda_graph_is_captured_is_not_kept(monkeypatch):
    """It would lie in the graph's own memory; and what was kept before might not outlive the graph that reads it."""
    query, keys, values, bias = _inputs(7, 1, 2, 4, 2, 9, 9)
    arguments = {"radius": 2, "valid": torch.ones(1, 2, dtype=torch.bool), "bias": bias}
    tile_geometry._made_once.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    captured = window_attention(query, keys, values, **arguments)
    assert tile_geometry._made_once.cache_info().currsize == 0
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    expected = window_attention(query, keys, values, **arguments)
    before = tile_geometry._made_once.cache_info()
    assert before.currsize > 0
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    again = window_attention(query, keys, values, **arguments)
    assert tile_geometry._made_once.cache_info() == before  # neither kept nor taken
    for wanted, found, other in zip(expected, captured, again):
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(other, wanted)


@pytest.mark.parametrize("radius", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("length", [1, 4, 7, 12, 13, 30])
def test_tiles_of_a_kind_have_one_window(radius, length):
    like, size = torch.zeros(()), (length, 9)
    kinds = tile_geometry.tile_kinds(radius, 2, *size, like.device)
    windows = tile_geometry.windows_of_kinds(like, radius, *size, None)
    each = tile_geometry.window_of_tiles(radius, *size, like.dtype, like.device)
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

    query, keys, values, bias = _inputs(8, 1, 2, 16, 16, 40, 40)
    with torch.inference_mode(), LargestMade() as largest:
        window_attention(query, keys, values, radius=2, valid=torch.ones(1, 2, dtype=torch.bool), bias=bias)
    positions, window = 40 * 40, 5 * 5
    assert largest.numbers < positions * positions
    assert largest.numbers < positions * window * 16


def test_what_is_remembered_fits_the_next_call():
    """Windows and positions are kept from call to call: other sizes, types, and those of other modes in between."""
    for height, width, dtype in ((9, 9, torch.float64), (9, 10, torch.float64), (9, 9, torch.float32)):
        query, keys, values, _ = (part.to(dtype) for part in _inputs(7, 1, 2, 4, 2, height, width))
        valid = torch.ones(1, 2, dtype=torch.bool)
        with torch.inference_mode():
            first = window_attention(query, keys, values, radius=2, valid=valid).output.clone()
        output = window_attention(query.requires_grad_(), keys, values, radius=2, valid=valid).output
        output.sum().backward()
        torch.testing.assert_close(output, first)


def test_contents_of_missing_references_do_not_matter():
    query, keys, values, bias = _inputs(1, 1, 3, 4, 4, 10, 9)
    valid = torch.tensor([[True, False, True]])
    before = window_attention(query, keys, values, radius=2, valid=valid, bias=bias)
    keys[:, 1], values[:, 1] = 1e6, -1e6
    after = window_attention(query, keys, values, radius=2, valid=valid, bias=bias)
    torch.testing.assert_close(before.output, after.output)
    torch.testing.assert_close(before.mass, after.mass)


def test_order_of_references_does_not_matter():
    query, keys, values, bias = _inputs(2, 1, 3, 4, 4, 10, 9)
    valid = torch.ones(1, 3, dtype=torch.bool)
    order = [2, 0, 1]
    ordered = window_attention(query, keys, values, radius=3, valid=valid, bias=bias).output
    shuffled = window_attention(query, keys[:, order], values[:, order], radius=3, valid=valid, bias=bias[:, order])
    torch.testing.assert_close(ordered, shuffled.output)


def test_without_references_the_output_is_zero():
    query, keys, values, bias = _inputs(3, 2, 2, 4, 4, 9, 9)
    result = window_attention(query, keys, values, radius=2, valid=torch.zeros(2, 2, dtype=torch.bool), bias=bias)
    assert not result.output.any()
    assert not result.mass.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_stays_finite_and_near(dtype):
    query, keys, values, bias = _inputs(4, 1, 2, 8, 8, 12, 12)
    valid = torch.tensor([[True, False]])
    exact = window_attention(query, keys, values, radius=2, valid=valid, bias=bias)
    low = window_attention(
        query.to(dtype), keys.to(dtype), values.to(dtype), radius=2, valid=valid, bias=bias.to(dtype)
    )
    torch.testing.assert_close(low.output.double(), exact.output, atol=0.05 if dtype != torch.float32 else 1e-5, rtol=0)


def test_gradients_are_those_of_finite_differences():
    query, keys, values, bias = (x.requires_grad_() for x in _inputs(5, 1, 2, 3, 2, 5, 4))
    valid = torch.ones(1, 2, dtype=torch.bool)

    def differentiable(*inputs):
        result = window_attention(*inputs[:3], radius=1, valid=valid, bias=inputs[3])
        return result.output, result.mass

    assert torch.autograd.gradcheck(differentiable, (query, keys, values, bias))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -1}, "radius is -1"),
        ({"valid": torch.ones(1, 3, dtype=torch.bool)}, r"valid is \(1, 3\)"),
        ({"keys": torch.zeros(1, 2, 4, 5, 6)}, r"keys is \(1, 2, 4, 5, 6\)"),
        ({"values": torch.zeros(1, 3, 4, 6, 6)}, r"values is \(1, 3, 4, 6, 6\)"),
        ({"bias": torch.zeros(1, 2, 6, 1)}, r"bias is \(1, 2, 6, 1\)"),
        ({"source": torch.zeros(1, 6, 6, dtype=torch.int32)}, r"source is \(1, 6, 6\)"),
        ({"wanted": torch.zeros(1, 6, 1, dtype=torch.bool)}, r"wanted is \(1, 6, 1\)"),
        ({"nearness": torch.zeros(1)}, r"nearness is \(1,\)"),
        ({"query": torch.zeros(4, 6, 6)}, "query"),
    ],
)
def test_bad_shapes_are_named(change, message):
    arguments = {
        "query": torch.zeros(1, 4, 6, 6),
        "keys": torch.zeros(1, 2, 4, 6, 6),
        "values": torch.zeros(1, 2, 4, 6, 6),
        "radius": 1,
        "valid": torch.ones(1, 2, dtype=torch.bool),
    }
    with pytest.raises(ValueError, match=message):
        window_attention(**{**arguments, **change})
