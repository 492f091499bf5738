"""DSSA: finite gradients, narrow types, batches, and the same function with its norms folded away."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.network import FrameMemory, SDCPCConfig
from sdcpc_ros.network.dssa import DSSA, DSSAOutput

#: H, W: at stride 4. LEVEL, DETAIL: channels of the encoder's levels at strides 8 and 4.
H, W, K, CLASSES, D, LEVEL, DETAIL = 10, 13, 2, 5, 16, 6, 7
AGE_S = torch.tensor([[1 / 15, 0.5]] * 2)


def make_dssa(seed: int = 0) -> DSSA:
    """In evaluation mode, with a gate and norms as if trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = DSSA(SDCPCConfig(CLASSES, embed_dim=D, key_dim=16), LEVEL, DETAIL).eval()
        torch.nn.init.normal_(module.gate[2].weight)
        for norm in (module.norm, module.detail_norm):
            for parameter in (norm.weight, norm.bias, norm.running_mean):
                torch.nn.init.normal_(parameter)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return module


def frames(scale: float, dtype: torch.dtype = torch.float32):
    """Contexts, details, logits and luminance of a frame and its K references, (K + 1) of (B, ...) each."""
    generator = torch.Generator().manual_seed(7)
    contexts = torch.randn(K + 1, 2, D + LEVEL, -(-H // 2), -(-W // 2), generator=generator)
    details = torch.randn(K + 1, 2, DETAIL, H, W, generator=generator)
    logits = scale * torch.randn(K + 1, 2, CLASSES, H, W, generator=generator)
    luminance = torch.rand(K + 1, 2, 1, H, W, generator=generator)
    return contexts.to(dtype), details.to(dtype), logits.to(dtype), luminance.to(dtype)


def memories_of(module: DSSA, *inputs) -> tuple[FrameMemory, FrameMemory]:
    """Of the frame, and of its references."""
    own, *others = [module.make_memory(*parts) for parts in zip(*inputs)]
    return own, FrameMemory(*(torch.stack(parts, 1) for parts in zip(*others)))


def run(module: DSSA, *inputs, age_s=AGE_S) -> DSSAOutput:
    return module(*memories_of(module, *inputs), age_s)


@settings(max_examples=15)
@given(
    scale=st.sampled_from([0.0, 1e-4, 1.0, 30.0, 1e4]),
    ages=st.lists(st.sampled_from([-1.0, 0.0, 1 / 15, 100.0]), min_size=K, max_size=K),
    training=st.booleans(),
)
def test_gradients_are_finite_whatever_the_logits(scale, ages, training):
    """Where a class is impossible, where all are alike, and where the references are missing."""
    module = make_dssa().train(training)
    inputs = [part.requires_grad_() for part in frames(scale)]
    output = run(module, *inputs, age_s=torch.tensor([ages] * 2))
    assert all(part.isfinite().all() for part in output)
    sum(part.square().sum() for part in output).backward()
    gradients = [*(part.grad for part in inputs), *(parameter.grad for parameter in module.parameters())]
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_the_whole_module_learns():
    module = make_dssa().train()
    output = run(module, *frames(2.0))
    (output.change.square().mean() + output.coarse_votes.square().mean()).backward()
    silent = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_gradients_are_those_of_differences():
    """Against finite differences, in float64, in the directions of the logits of the frame and of its references."""
    module = make_dssa().double()
    contexts, details, logits, luminance = frames(1.0, torch.float64)
    direction = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def total(step: torch.Tensor) -> torch.Tensor:
        inputs = contexts, details, logits + step * direction, luminance
        return run(module, *inputs, age_s=AGE_S.double()).change.square().sum()

    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert total(zero).dtype == torch.float64
    torch.autograd.gradcheck(total, (zero,), eps=1e-6, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.15)])
def test_narrow_types_give_nearly_the_same(dtype, tolerance):
    """float16 has nothing between 0 and 6e-8: small probabilities must be worked with in float32."""
    inputs = frames(6.0)
    narrow = make_dssa().to(dtype)
    with torch.inference_mode():
        expected = run(make_dssa(), *inputs)
        found = run(narrow, *(part.to(dtype) for part in inputs))
    assert all(part.dtype == torch.float32 and part.isfinite().all() for part in found)
    error = (found.change - expected.change).abs().mean() / expected.change.abs().mean()
    assert error < tolerance


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_of_narrow_types_are_finite(dtype, scale):
    module = make_dssa().to(dtype)
    inputs = [part.to(dtype).requires_grad_() for part in frames(scale)]
    run(module, *inputs).change.mean().backward()
    assert all(part.grad is None or part.grad.isfinite().all() for part in inputs)
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_under_autocast_it_gives_nearly_the_same():
    module, inputs = make_dssa(), frames(6.0)
    with torch.inference_mode():
        expected = run(module, *inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found = run(module, *inputs)
    assert all(part.isfinite().all() for part in found)
    error = (found.change - expected.change).abs().mean() / expected.change.abs().mean()
    assert error < 0.15


@pytest.mark.parametrize(("dtype", "share"), [(torch.float16, 0.02), (torch.bfloat16, 0.05)])
def test_narrow_memories_of_a_float32_frame_will_do(dtype, share):
    """As a ring of half the memory would hand them out."""
    module = make_dssa()
    *inputs, luminance = frames(2.0)
    # Numbers that every type holds: between two positions the last bit decides which one is nearest.
    own, references = memories_of(module, *inputs, (128 * luminance).round() / 128)
    narrow = FrameMemory(*(part.to(dtype) for part in references))
    with torch.inference_mode():
        expected = module(own, references, AGE_S).change
        found = module(own, narrow, AGE_S).change
    assert found.dtype == torch.float32
    # The frame's queries are rounded as the references are, so that one kernel takes both. A rounded key may change the
    # best offset of a cell, and with it the flow and the trust around.
    assert ((found - expected).abs() > 0.1).float().mean() < share < (expected.abs() > 0.1).float().mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
@torch.no_grad()
def test_a_folded_norm_gives_the_same(seed):
    module, inputs = make_dssa(seed), frames(2.0)
    expected = run(module, *inputs)
    module.fold_norm()
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    for part, wanted in zip(run(module, *inputs), expected):
        torch.testing.assert_close(part, wanted, atol=1e-4, rtol=1e-4)
    module.fold_norm()  # a second time there is nothing to fold
    assert torch.equal(run(module, *inputs).change, run(module, *inputs).change)
    torch.testing.assert_close(run(module, *inputs).change, expected.change, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("missing", [(0.5, -1.0), (-1.0, -1.0)])
@torch.inference_mode()
def test_a_batch_is_as_its_frames_one_by_one(missing):
    """The batch has a frame with all references and a frame without some or all."""
    module, inputs, age_s = make_dssa(), frames(2.0), torch.tensor([(0.1, 0.0), missing])
    together = run(module, *inputs, age_s=age_s)
    for index in range(2):
        one = slice(index, index + 1)
        alone = run(module, *(part[:, one] for part in inputs), age_s=age_s[one])
        for part, wanted in zip(together, alone):
            torch.testing.assert_close(part[one], wanted, atol=1e-5, rtol=1e-4)


def test_coarse_votes_are_for_training_only():
    module = make_dssa()
    memory, references = memories_of(module, *frames(2.0))
    whole, without = (module(memory, references, AGE_S, asked) for asked in (True, False))
    assert whole.coarse_votes.shape[2] == CLASSES and without.coarse_votes.shape[2] == 0
    assert torch.equal(whole.change, without.change) and torch.equal(whole.trust, without.trust)
