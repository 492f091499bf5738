"""The operator `sdcpc_ros::window_attention`, as PyTorch's compilers and autograd see it; here with its CPU kernel."""

from __future__ import annotations

import pytest
import torch
from torch import library

from sdcpc_ros.network.window_attention import WindowAttention, fused_op, window_attention

pytestmark = pytest.mark.slow


def _inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 9, 7), (3, 4, 9, 7), (3, 5, 9, 7))
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)


VALID = torch.tensor([True, False, True])


@pytest.fixture
def through_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: `window_attention` calls the operator."""
    monkeypatch.setattr(fused_op, "takes", lambda *_: True)


def _attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> WindowAttention:
    return window_attention(query, keys, values, radius=2, valid=VALID)


class _Module(torch.nn.Module):
    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(_attend(*inputs))


@pytest.mark.parametrize("with_terms", [True, False])
@pytest.mark.parametrize("with_offset", [True, False])
def test_the_operator_is_what_it_says_it_is(with_offset: bool, with_terms: bool) -> None:
    index = torch.arange(62, -1, -1, dtype=torch.int32).view(1, 9, 7).repeat(3, 1, 1)
    terms = (torch.tensor(0.7, requires_grad=True), index) if with_terms else (None, None)
    arguments = (*(part.requires_grad_() for part in _inputs()), VALID, 1, with_offset, 0.5, *terms)
    library.opcheck(torch.ops.sdcpc_ros.window_attention.default, arguments)


def test_the_operator_gives_what_the_function_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = _attend(*_inputs())
    monkeypatch.setattr(fused_op, "takes", lambda *_: True)
    for expected, found in zip(direct, _attend(*_inputs())):
        torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("through_the_operator")
def test_its_gradients_are_those_of_finite_differences() -> None:
    inputs = [part[..., :2, :3].contiguous().requires_grad_() for part in _inputs(torch.float64)]
    assert torch.autograd.gradcheck(lambda *it: _attend(*it).output, inputs)


@pytest.mark.usefixtures("through_the_operator")
def test_a_compiler_takes_it_as_one_node_and_trains_through_it() -> None:
    eager = [part.requires_grad_() for part in _inputs()]
    compiled = [part.requires_grad_() for part in _inputs()]
    function = torch.compile(lambda *inputs: _attend(*inputs)[0], fullgraph=True, backend="aot_eager")
    expected, found = _attend(*eager).output, function(*compiled)
    torch.testing.assert_close(found, expected)
    for result in (expected, found):
        result.square().sum().backward()
    for a, b in zip(eager, compiled):
        torch.testing.assert_close(b.grad, a.grad)


@pytest.mark.usefixtures("through_the_operator")
def test_an_exported_program_holds_it_as_one_node() -> None:
    exported = torch.export.export(_Module(), _inputs())
    names = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert names.count("sdcpc_ros.window_attention.default") == 1
    for expected, found in zip(_attend(*_inputs()), exported.module()(*_inputs())):
        torch.testing.assert_close(found, expected)


def test_the_portable_form_compiles_whole_and_exports() -> None:
    function = torch.compile(lambda *inputs: tuple(_attend(*inputs)), fullgraph=True, backend="aot_eager")
    exported = torch.export.export(_Module(), _inputs()).module()
    for expected, compiled, loaded in zip(_attend(*_inputs()), function(*_inputs()), exported(*_inputs())):
        torch.testing.assert_close(compiled, expected)
        torch.testing.assert_close(loaded, expected)


def test_where_the_kernel_runs_is_decided_by_explicit_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_op, "HAS_TRITON", True)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    capability = [(9, 0)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability[0])

    class OnGpu:
        device = torch.device("cuda", 0)

        def __init__(self, dtype: torch.dtype, *shape: int) -> None:
            self.dtype, self.shape = dtype, shape

        def numel(self) -> int:
            return torch.Size(self.shape).numel()

    def takes(
        dtype: torch.dtype,
        channels: int = 64,
        keys: torch.dtype | None = None,
        values: torch.dtype | None = None,
        height: int = 8,
    ) -> bool:
        query = OnGpu(dtype, 1, channels, height, 8)
        return fused_op.takes(query, *(OnGpu(other or dtype, 1, channels, height, 8) for other in (keys, values)))

    assert takes(torch.float16)
    assert takes(torch.bfloat16)
    assert takes(torch.float32, channels=256)
    assert not takes(torch.float64)
    assert not takes(torch.float16, channels=257)
    assert takes(torch.float16, values=torch.float32)
    assert not takes(torch.float16, keys=torch.float32)
    assert not takes(torch.float16, values=torch.float64)
    assert not takes(torch.float16, height=0)
    capability[0] = (7, 5)
    assert takes(torch.float16)
    assert not takes(torch.bfloat16)
    assert not takes(torch.float16, values=torch.bfloat16)
    monkeypatch.setattr(torch.version, "cuda", None)  # a ROCm build
    assert not takes(torch.float16)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(fused_op, "HAS_TRITON", False)
    assert not takes(torch.float16)
    assert not fused_op.takes(*_inputs()[:3])


def test_where_triton_cannot_start_kernels_the_portable_form_runs(monkeypatch, caplog) -> None:
    """As on a robot with a GPU and without a C compiler, which Triton needs to start its kernels."""

    class Drivers:
        @property
        def active(self) -> object:
            raise RuntimeError("Failed to find C compiler")

    triton_kernel = pytest.importorskip("sdcpc_ros.network.window_attention.triton_kernel")
    monkeypatch.setattr(triton_kernel, "driver", Drivers())
    fused_op.can_launch.cache_clear()
    try:
        arguments = (*_inputs(torch.float16), VALID, 2, True, 0.5, None, None)
        for found, expected in zip(fused_op.on_gpu(*arguments), torch.ops.sdcpc_ros.window_attention(*arguments)):
            torch.testing.assert_close(found, expected)
        assert "Failed to find C compiler; it needs a C compiler" in caplog.text
    finally:
        fused_op.can_launch.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize(
    ("channels", "height", "width", "radius", "with_index"),
    [(64, 45, 60, 2, True), (128, 64, 128, 4, False), (256, 12, 15, 4, True)],
)
def test_on_a_gpu_the_kernel_equals_the_portable_form(
    dtype: torch.dtype, tolerance: float, channels: int, height: int, width: int, radius: int, with_index: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, channels, height, width, generator=generator).to(dtype) for _ in range(3)]
    valid, weight = torch.tensor([True, False, True]), torch.tensor(0.7)
    index = torch.randint(0, height * width, (3, height, width), generator=generator, dtype=torch.int32)
    index = index if with_index else None
    on_gpu = [part.cuda() for part in parts]
    assert fused_op.takes(*on_gpu)
    found = window_attention(
        *on_gpu,
        **{"radius": radius, "valid": valid.cuda(), "position_weight": weight.cuda()},
        gather_index=None if index is None else index.cuda(),
    )
    expected = window_attention(
        *(part.double() for part in parts), radius=radius, valid=valid, position_weight=weight, gather_index=index
    )
    torch.testing.assert_close(found.output.cpu().double(), expected.output, atol=tolerance, rtol=0)
    assert found.argmax_offset is not None and expected.argmax_offset is not None
    # Rounded logits may tie or swap; where they do not, it is the same key.
    same = (found.argmax_offset.cpu() == expected.argmax_offset).float().mean()
    assert same > (0.999 if dtype == torch.float32 else 0.9)
