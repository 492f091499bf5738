"""Window attention where types differ, as under autocast: every combination against the same numbers in float64.

That float64 gives what the definition says is in `test_window_attention.py`.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import library

from sdcpc_ros.network.window_attention import fused_op, window_attention

pytestmark = pytest.mark.slow

TYPES = (torch.float32, torch.float16, torch.bfloat16)
RADIUS, VALID = 2, torch.tensor([True, False, True])
NAMES = ("query", "keys", "values")


@pytest.fixture(params=["gathered", "unfolded", "operator"])
def layout(request, monkeypatch):
    """Each layout of the portable form, and the operator, whose CPU kernel and gradient are the portable form too."""
    if request.param == "unfolded":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    if request.param == "operator":
        monkeypatch.setattr(fused_op, "takes", lambda *_: True)
    return request.param


def _inputs(*dtypes, width=7, spread=1.0):
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 8, 6, width), (3, 8, 6, width), (3, 5, 6, width))
    parts = (spread * torch.randn(shape, generator=generator) for shape in shapes)
    return [part.to(dtype).requires_grad_() for part, dtype in zip(parts, dtypes)]


def _run(query, keys, values, weight=None, autocast=None):
    """What is found, and the gradients of queries, keys and values, and of the position weight where it is given."""
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        found = window_attention(query, keys, values, radius=RADIUS, valid=VALID, position_weight=weight)
    generator = torch.Generator().manual_seed(1)
    # The output's gradient is of the output's type: weights that every type holds are rounded in none.
    weights = torch.randn(found.output.shape, generator=generator).bfloat16().double()
    loss = (found.output.double() * weights).sum()
    return found, torch.autograd.grad(loss, [query, keys, values, *([] if weight is None else [weight])])


def _exact(inputs, weight=None):
    return _run(
        *(part.detach().double().requires_grad_() for part in inputs),
        None if weight is None else weight.detach().double().requires_grad_(),
    )


def _assert_near(found, exact, tolerance, name):
    error = (found.double() - exact).abs().max() / exact.abs().max()
    assert error <= tolerance, f"{name} is off by {error:.2g} of its largest value"


def _working(dtypes):
    wide = dtypes[0]
    for dtype in dtypes[1:]:
        wide = torch.promote_types(wide, dtype)
    return wide


@pytest.mark.parametrize("dtypes", itertools.product(TYPES, repeat=3), ids=lambda t: "-".join(str(x)[6:] for x in t))
def test_every_combination_gives_the_exact_result_but_for_rounding(layout, dtypes):
    inputs = _inputs(*dtypes)
    (found, gradients), (exact, exact_gradients) = _run(*inputs), _exact(inputs)
    working = _working(dtypes)
    assert found.output.dtype == dtypes[2]
    # Of mixed types nothing is rounded but what is returned; of a single one, logits and weights as well.
    eps = torch.finfo(working).eps
    inner = 8 * eps
    _assert_near(found.output, exact.output, inner + torch.finfo(dtypes[2]).eps, "output")
    for name, dtype, gradient, expected in zip(NAMES, dtypes, gradients, exact_gradients):
        assert gradient.dtype == dtype
        _assert_near(gradient, expected, 2 * inner + torch.finfo(dtype).eps, f"the gradient of {name}")
    if working == torch.float32:  # offsets are those of the exact logits: random ones do not tie
        assert torch.equal(found.argmax_offset, exact.argmax_offset)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("types", ["halves", "single values", "halves alone"])
def test_the_position_bias_keeps_its_precision_far_from_the_border(layout, half, types):
    """Positions reach 160 here: a bfloat16 holds no more than whole numbers there, of angles of whole turns."""
    inputs = _inputs(half, half, torch.float32 if types == "single values" else half, width=160)
    weight = torch.tensor(0.7, dtype=half if types == "halves alone" else torch.float32, requires_grad=True)
    (found, gradients), (exact, exact_gradients) = _run(*inputs, weight), _exact(inputs, weight)
    tolerance = 8 * torch.finfo(half).eps
    _assert_near(found.output, exact.output, tolerance, "output")
    assert gradients[3].dtype == weight.dtype
    for name, gradient, expected in zip((*NAMES, "position_weight"), gradients, exact_gradients):
        _assert_near(gradient, expected, 3 * tolerance, f"the gradient of {name}")


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.bfloat16, torch.float32), (torch.float32,) * 3])
@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(layout, dtypes, low):
    inputs = _inputs(*dtypes)
    expected, expected_gradients = _run(*inputs)
    found, gradients = _run(*inputs, autocast=low)
    for one, other in zip((*found, *gradients), (*expected, *expected_gradients)):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_large_halves_beside_float32_values_stay_finite(layout):
    inputs = _inputs(torch.float16, torch.float16, torch.float32, spread=120.0)
    found, gradients = _run(*inputs)
    assert all(part.isfinite().all() for part in (found.output, gradients[2]))
    exact, _ = _exact(inputs)
    _assert_near(found.output, exact.output, 2e-3, "output")


def test_gather_indices_take_mixed_types():
    query, keys, values = (part.detach() for part in _inputs(torch.bfloat16, torch.bfloat16, torch.float32))
    index = torch.randint(0, 42, (3, 6, 7), generator=torch.Generator().manual_seed(2))
    arguments = {"radius": RADIUS, "valid": VALID, "gather_index": index, "with_offset": False}
    found = window_attention(query, keys, values, **arguments).output
    exact = window_attention(query.double(), keys.double(), values.double(), **arguments).output
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=0.02, rtol=0)


MIXED = [
    (torch.bfloat16, torch.bfloat16, torch.float32),
    (torch.float16, torch.float16, torch.float32),
    (torch.float32, torch.float32, torch.float16),
]


@pytest.mark.parametrize("dtypes", MIXED)
def test_the_operator_says_which_types_it_gives(dtypes):
    inputs = _inputs(*dtypes)
    arguments = (*inputs, VALID, RADIUS, True, 1.0, None, None)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    library.opcheck(torch.ops.sdcpc_ros.window_attention.default, arguments, test_utils=tests)


@pytest.mark.parametrize("through_the_operator", [False, True])
@pytest.mark.parametrize("dtypes", MIXED)
def test_mixed_types_compile_whole(monkeypatch, dtypes, through_the_operator):
    if through_the_operator:
        monkeypatch.setattr(fused_op, "takes", lambda *_: True)
    inputs = _inputs(*dtypes)

    def attend(query, keys, values):
        return tuple(window_attention(query, keys, values, radius=RADIUS, valid=VALID))

    torch._dynamo.reset()  # it compiles one function for few types only
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = compiled(*inputs)
        for one, other in zip(found, attend(*inputs)):
            torch.testing.assert_close(one, other, atol=1e-2 if one.dtype == torch.float16 else 1e-5, rtol=0)
