"""DSSA: what it must leave alone, what it must find, and what it must do with missing references."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.network import FrameMemory, SDCPCConfig
from sdcpc_ros.network.cross_frame import COARSE
from sdcpc_ros.network.dssa import AGE_RANGE_S, DSSA

#: H, W: at stride 4. LEVEL, DETAIL: channels of the encoder's levels at strides 8 and 4.
H, W, K, CLASSES, D, LEVEL, DETAIL = 18, 25, 3, 5, 16, 6, 7
KEY_DIM = 16
FEATURES = KEY_DIM // 2 - 4, KEY_DIM - 4  #: of the fine and the coarse part of a memory
AGE_S = torch.tensor([[1 / 15, 2 / 15, 3 / 15]] * 2)
#: Places among the inputs of the trust head, as the docstring of its constant lists them.
COSINE, AGE = 0, 5


def make_dssa(*, trained: bool = True, **changes) -> DSSA:
    """In evaluation mode; trained: every part counts, so that a test can see it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = DSSA(SDCPCConfig(CLASSES, embed_dim=D, key_dim=KEY_DIM, **changes), LEVEL, DETAIL).eval()
        if trained:
            torch.nn.init.normal_(module.gate[2].weight)
    return module


def open_gate(module: DSSA) -> None:
    """The vote counts in full wherever the references are trusted."""
    with torch.no_grad():
        module.gate[2].weight.zero_()
        module.gate[2].bias.fill_(9.0)


def trust_by(module: DSSA, place: int, slope: float) -> None:
    """Trust is sigmoid(slope * input), of one input of the trust head."""
    first, last = module.trust[0], module.trust[2]
    with torch.no_grad():
        for parameter in (*first.parameters(), *last.parameters()):
            parameter.zero_()
        first.weight[0, place], first.weight[1, place] = 1.0, -1.0  # the input's positive and negative part
        last.weight[0, 0], last.weight[0, 1] = slope, -slope


def scene(seed: int = 0, batch: int = 2, size: tuple[int, int] = (H, W)):
    """The context (B, D + C2, h/2, w/2), detail (B, C1, h, w), logits (B, C, h, w) and luminance of a frame."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(batch, D + LEVEL, *(-(-side // 2) for side in size), generator=generator)
    detail = torch.randn(batch, DETAIL, *size, generator=generator)
    logits = 2 * torch.randn(batch, CLASSES, *size, generator=generator)
    return context, detail, logits, torch.rand(batch, 1, *size, generator=generator)


def memory_of(module: DSSA, seed: int, **shape) -> FrameMemory:
    return module.make_memory(*scene(seed, **shape))


def stacked(memories) -> FrameMemory:
    return FrameMemory(*(torch.stack(parts, 1) for parts in zip(*memories)))


def references_of(module: DSSA, count: int = K, **shape) -> FrameMemory:
    return stacked([memory_of(module, seed, **shape) for seed in range(1, count + 1)])


def run(module: DSSA, age_s: torch.Tensor, references: FrameMemory | None = None, seed: int = 0, **shape):
    references = references or references_of(module, age_s.shape[1], **shape)
    return module(memory_of(module, seed, **shape), references, age_s)


def classes_everywhere(chosen: int, sure: float, batch: int = 1) -> torch.Tensor:
    """Logits of one class."""
    logits = torch.zeros(batch, CLASSES, H, W)
    logits[:, chosen] = sure
    return logits


def by_hand(channel: int, probabilities: torch.Tensor, batch: int = 1) -> FrameMemory:
    """A memory whose key is the same unit vector everywhere, with the same class probabilities (C,) everywhere."""
    parts = []
    for features, height, width in zip(FEATURES, (H, -(-H // COARSE)), (W, -(-W // COARSE))):
        part = torch.zeros(batch, features + CLASSES, height, width)
        part[:, channel] = 1.0
        part[:, features:] = probabilities[:, None, None]
        parts.append(part)
    return FrameMemory(torch.cat((parts[0], torch.zeros(batch, 1, H, W)), 1), parts[1])  # flat: nothing moves


def test_it_changes_logits_once_it_is_trained():
    assert not run(make_dssa(trained=False), AGE_S).change.any()
    change = run(make_dssa(), AGE_S).change
    assert change.shape == (2, CLASSES, H, W) and change.abs().max() > 0.1


@pytest.mark.parametrize("age_s", [-1.0, -1e-9, float("nan"), -float("inf")])
def test_without_references_it_changes_nothing_even_when_trained(age_s):
    output = run(make_dssa(), torch.full((2, K), age_s))
    assert not any(part.any() for part in output[:4])  # the frame's fit means nothing then


@settings(max_examples=25)
@given(
    present=st.lists(st.booleans(), min_size=2 * K, max_size=2 * K),
    contents=st.one_of(st.sampled_from([0.0, 1e4, -1e30, 1e30]), st.floats(-1e30, 1e30)),
    missing=st.sampled_from([-1.0, -1e-6, float("nan")]),
)
@torch.inference_mode()
def test_a_missing_reference_has_no_influence_whatever_it_holds(present, contents, missing):
    """Any finite number, as what is not there is not cleared: that would copy all memories for every frame."""
    module = make_dssa()
    valid = torch.tensor(present).view(2, K)
    age_s = AGE_S.where(valid, missing)
    references = references_of(module)
    poisoned = FrameMemory(*(part.masked_fill(~valid[:, :, None, None, None], contents) for part in references))
    expected, found = run(module, age_s, references), run(module, age_s, poisoned)
    for part, wanted in zip(found, expected):
        assert part.isfinite().all() and torch.equal(part, wanted)
    assert not found.trust[~valid].any() and (found.trust[valid].flatten(1).amax(1) > 0).all()


@pytest.mark.parametrize("contents", [0.0, 1e4, -1e30])
def test_a_missing_reference_has_no_influence_on_gradients(contents):
    module = make_dssa()
    age_s = AGE_S.clone()
    age_s[:, 1] = -1
    references = FrameMemory(*(part.detach().clone() for part in references_of(module)))

    def gradients() -> dict[str, torch.Tensor]:
        module.zero_grad()
        sum(part.square().sum() for part in run(module, age_s, references)).backward()
        return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}

    expected = gradients()
    for part in references:
        part[:, 1] = contents
    for name, gradient in gradients().items():
        assert gradient.isfinite().all() and torch.equal(gradient, expected[name]), name


@torch.inference_mode()
def test_a_missing_reference_is_as_one_left_out():
    module, references = make_dssa(), references_of(make_dssa())
    age_s = AGE_S.clone()
    age_s[:, 1] = -1
    kept = [0, 2]
    left_out = run(module, AGE_S[:, kept], FrameMemory(*(part[:, kept] for part in references)))
    torch.testing.assert_close(run(module, age_s, references).change, left_out.change, atol=1e-5, rtol=1e-4)


@settings(max_examples=15)
@given(order=st.permutations(range(K)), missing=st.sets(st.integers(0, K - 1)))
@torch.inference_mode()
def test_references_come_in_any_order(order, missing):
    module, references, age_s = make_dssa(), references_of(make_dssa()), AGE_S.clone()
    age_s[:, sorted(missing)] = -1
    ordered = run(module, age_s, references)
    shuffled = run(module, age_s[:, order], FrameMemory(*(part[:, order] for part in references)))
    torch.testing.assert_close(shuffled.change, ordered.change, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shuffled.trust, ordered.trust[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shuffled.votes, ordered.votes[:, order], atol=1e-5, rtol=1e-4)


@settings(max_examples=15)
@given(
    size=st.tuples(st.integers(8, 21), st.integers(8, 21)),  # from the smallest image on
    batch=st.integers(1, 3),
    count=st.integers(1, 4),
    radii=st.tuples(st.integers(0, 4), st.integers(0, 2)),
)
@torch.inference_mode()
def test_any_size_and_number_of_references(size, batch, count, radii):
    """Sizes that are no multiple of a coarse cell too; votes are distributions over the classes, trust is in 0..1."""
    module = make_dssa(coarse_radius=radii[0], fine_radius=radii[1])
    output = run(module, torch.rand(batch, count), batch=batch, size=size)
    coarse = (-(-size[0] // COARSE), -(-size[1] // COARSE))
    assert output.change.shape == (batch, CLASSES, *size) and output.change.isfinite().all()
    assert output.trust.shape == (batch, count, *size)
    assert ((output.trust >= 0) & (output.trust <= 1)).all()
    for votes, extent in ((output.votes, size), (output.coarse_votes, coarse)):
        assert votes.shape == (batch, count, CLASSES, *extent) and (votes >= 0).all()
        torch.testing.assert_close(votes.sum(2), torch.ones(batch, count, *extent), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_the_vote_moves_the_frame_towards_its_references():
    """References that all say class 3, a frame that is in doubt: with the gate open, 3 is what it becomes."""
    module = make_dssa()
    open_gate(module)
    context, detail, _, luminance = scene()
    doubt, sure = classes_everywhere(3, 0.0, batch=2), classes_everywhere(3, 9.0, batch=2)
    references = stacked([module.make_memory(context, detail, sure, luminance)] * K)
    change = module(module.make_memory(context, detail, doubt, luminance), references, AGE_S).change
    assert (change.argmax(1) == 3).all() and (change[:, 3] - change[:, 2] > 1).all()


@torch.inference_mode()
def test_references_that_agree_with_the_frame_leave_it_alone():
    module = make_dssa()
    open_gate(module)
    own = by_hand(0, torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1]))
    change = module(own, stacked([own] * K), AGE_S[:1]).change
    torch.testing.assert_close(change, torch.zeros_like(change), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_a_reference_that_looks_different_is_not_trusted():
    """With a head that trusts appearance alone: one whose keys are orthogonal to the frame's has no say."""
    module = make_dssa()
    open_gate(module)
    trust_by(module, COSINE, slope=10.0)
    before, other = torch.tensor([0.96, 0.01, 0.01, 0.01, 0.01]), torch.tensor([0.01, 0.96, 0.01, 0.01, 0.01])
    own = by_hand(0, torch.full((CLASSES,), 1 / CLASSES))
    same, orthogonal = by_hand(0, before), by_hand(1, other)
    found = module(own, stacked([same, orthogonal]), torch.tensor([[0.1, 0.1]]))
    assert (found.trust[:, 0] > 0.999).all() and (found.trust[:, 1] < 0.001).all()
    alone = module(own, stacked([same]), torch.tensor([[0.1]]))
    torch.testing.assert_close(found.change, alone.change, atol=1e-3, rtol=1e-3)
    assert (found.change.argmax(1) == 0).all()
    cut = module(own, stacked([orthogonal] * 2), torch.tensor([[0.1, 0.1]]))
    assert cut.change.abs().max() < 1e-3  # after a cut the frame keeps its own classes


@settings(max_examples=15)
@given(younger=st.floats(*AGE_RANGE_S), factor=st.floats(1.1, 20.0))
@torch.inference_mode()
def test_trust_depends_on_the_age_in_seconds(younger, factor):
    module = make_dssa()
    trust_by(module, AGE, slope=-1.0)
    memory = memory_of(module, 1)  # of a frame that looks like it: nothing moves
    older = min(younger * factor, AGE_RANGE_S[1])
    trust = run(module, torch.tensor([[younger, older]] * 2), stacked([memory, memory]), seed=1).trust
    for k, age_s in enumerate((younger, older)):
        expected = 1 / (1 + math.exp(0.5 * math.log(age_s) + 1))
        torch.testing.assert_close(trust[:, k], torch.full_like(trust[:, k], expected), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_ages_beyond_the_range_are_not_told_apart():
    module = make_dssa()
    trust_by(module, AGE, slope=-1.0)
    memory = stacked([memory_of(module, 1)] * 2)
    for near, far in ((0.0, AGE_RANGE_S[0]), (AGE_RANGE_S[1], math.inf)):
        trust = run(module, torch.tensor([[near, far]] * 2), memory).trust
        assert torch.equal(trust[:, 0], trust[:, 1]) and (trust > 0.1).any()


@pytest.mark.parametrize("moved", [(0, 0), (1, -2), (-2, 1)])
@torch.inference_mode()
def test_a_reference_is_matched_where_it_moved_to(moved):
    """A reference that is the frame moved by whole coarse cells votes, at each place, for what was there."""
    module = make_dssa(coarse_radius=3)
    with torch.no_grad():
        module.log_scale.fill_(math.log(100.0))
        module.position_weight.fill_(-20.0)  # appearance alone
    own = memory_of(module, 0, batch=1, size=(48, 48))
    dy, dx = moved
    gone = FrameMemory(
        own.fine.roll((COARSE * dy, COARSE * dx), (2, 3))[:, None], own.coarse.roll((dy, dx), (2, 3))[:, None]
    )
    votes = module(own, gone, torch.tensor([[0.1]])).votes[:, 0]
    inner = (slice(None), slice(None), slice(20, 28), slice(20, 28))  # far from the border
    right = votes[inner].argmax(1) == own.fine[:, FEATURES[0] : -1][inner].argmax(1)
    assert right.float().mean() > 0.95


@torch.inference_mode()
def test_trust_and_gate_see_how_well_references_fit_and_no_features_of_the_scene():
    """Features turned alike in frame and references are another scene, which fits as well."""
    module, own, references = make_dssa(), memory_of(make_dssa(), 0), references_of(make_dssa())
    generator = torch.Generator().manual_seed(5)
    turns = [torch.linalg.qr(torch.randn(features, features, generator=generator))[0] for features in FEATURES]

    def turned(memory: FrameMemory) -> FrameMemory:
        parts = []
        for part, turn in zip(memory, turns):
            features = len(turn)
            keys = torch.einsum("ij,...jhw->...ihw", turn, part[..., :features, :, :])
            parts.append(torch.cat((keys, part[..., features:, :, :]), -3))
        return FrameMemory(*parts)

    assert not torch.allclose(turned(own).fine, own.fine, atol=0.1)
    for part, wanted in zip(module(turned(own), turned(references), AGE_S), module(own, references, AGE_S)):
        torch.testing.assert_close(part, wanted, atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_what_is_one_position_wide_is_voted_for_as_wide_as_it_is():
    """As a pole: its vote is at stride 4, and not mixed with what is beside it."""
    module = make_dssa()
    with torch.no_grad():
        module.log_scale.fill_(math.log(100.0))
    own = by_hand(0, torch.full((CLASSES,), 1 / CLASSES))
    before = by_hand(0, torch.tensor([0.96, 0.01, 0.01, 0.01, 0.01]))
    for memory in (own, before):
        memory.fine[:, :2, :, 7] = torch.tensor([0.0, 1.0])[:, None]
    before.fine[:, FEATURES[0] : -1, :, 7] = torch.tensor([0.01, 0.01, 0.01, 0.96, 0.01])[:, None]
    votes = module(own, stacked([before]), torch.tensor([[0.1]])).votes[:, 0]
    assert (votes[:, 3, :, 7] > 0.95).all() and (votes[:, 0, :, :7] > 0.95).all() and (votes[:, 0, :, 8:] > 0.95).all()
