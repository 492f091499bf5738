"""DSSA: what it must leave alone, what it must find, and what it must do with missing references."""

from __future__ import annotations

import pytest
import torch
from sdcpc_ros.network.dynamic_alignment import (
    COARSE,
    DynamicAggregation,
    _difference,
    _from_coarse,
    _sources,
    _to_coarse,
    memory_shapes,
)

from sdcpc_ros.network import FrameMemory, SDCPCConfig, dynamic_alignment
from sdcpc_ros.network.window_attention.gathering import moved

H, W, K, CLASSES, D, LEVEL = 18, 25, 3, 5, 16, 6


def _module(**changes):
    torch.manual_seed(0)
    config = SDCPCConfig(CLASSES, embed_dim=D, key_dim=8, **changes)
    return DynamicAggregation(config, LEVEL).eval()


def _trained(module):
    """As if trained: every part counts, so that a test can see it."""
    with torch.no_grad():
        module.gate[2].weight.normal_(generator=torch.Generator().manual_seed(1))
    return module


def _scene(seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, D + LEVEL, H, W, generator=generator),
        torch.randn(batch, CLASSES, H, W, generator=generator),
    )


def _references(module, seeds=(1, 2, 3)):
    memories = [module.contribute(*_scene(seed)) for seed in seeds]
    return FrameMemory(*(torch.stack(parts, 1) for parts in zip(*memories)))


def _run(module, valid, seed=0, references=None):
    context, logits = _scene(seed)
    own = module.contribute(context, logits)
    return module(context, own.probability_root, references or _references(module), valid).change


def test_untrained_it_changes_nothing():
    assert not _run(_module(), torch.ones(2, K, dtype=torch.bool)).any()


def test_without_references_it_changes_nothing_even_when_trained():
    assert not _run(_trained(_module()), torch.zeros(2, K, dtype=torch.bool)).any()


@pytest.mark.parametrize(
    "changes",
    [{"difference_role": role} for role in ("distrust", "seek", "none")]
    + [{"dynamic_stages": 1}, {"class_vote": False}],
)
def test_trained_it_changes_something(changes):
    change = _run(_trained(_module(**changes)), torch.ones(2, K, dtype=torch.bool))
    assert change.shape == (2, CLASSES, H, W) and change.abs().max() > 0.1


def test_missing_references_are_masked_not_merely_small():
    module = _trained(_module())
    references = _references(module)
    valid = torch.tensor([[True, False, True]] * 2)
    before = _run(module, valid, references=references)
    poisoned = FrameMemory(*(part.clone() for part in references))
    for part in poisoned:
        part[:, 1] = 1e4
    after = _run(module, valid, references=poisoned)
    torch.testing.assert_close(before, after)


def test_references_come_in_any_order():
    module = _trained(_module())
    valid = torch.tensor([[True, True, False]] * 2)
    references = _references(module)
    ordered = _run(module, valid, references=references)
    order = [2, 0, 1]
    shuffled = _run(module, valid[:, order], references=FrameMemory(*(part[:, order] for part in references)))
    torch.testing.assert_close(ordered, shuffled, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stages", [1, 2])
def test_votes_are_distributions_over_the_classes(stages):
    module = _trained(_module(dynamic_stages=stages))
    context, logits = _scene()
    own = module.contribute(context, logits)
    output = module(context, own.probability_root, _references(module), torch.ones(2, K, dtype=torch.bool))
    assert [tuple(vote.shape[2:]) for vote in output.votes] == [(5, 7), (18, 25)][:stages]
    for vote in output.votes:
        torch.testing.assert_close(vote.sum(1), torch.ones_like(vote[:, 0]), atol=1e-4, rtol=0)
        assert (vote >= 0).all()


def test_the_vote_moves_the_frame_towards_its_references():
    """References that all say class 3, a frame that is in doubt: with the gate open, 3 is what it becomes."""
    module = _module(selection=False, difference_role="none")
    with torch.no_grad():
        module.gate[2].bias[0] = 5.0  # the vote counts in full
    context, _ = _scene()
    doubt = torch.zeros(2, CLASSES, H, W)
    sure = torch.zeros(2, CLASSES, H, W)
    sure[:, 3] = 9.0
    own = module.contribute(context, doubt)
    references = FrameMemory(*(torch.stack([part] * K, 1) for part in module.contribute(context, sure)))
    change = module(context, own.probability_root, references, torch.ones(2, K, dtype=torch.bool)).change
    assert (change.argmax(1) == 3).all() and (change[:, 3] > 1).all()


def test_difference_is_a_bhattacharyya_distance():
    same = torch.tensor([0.2, 0.8]).sqrt().view(1, 2, 1, 1)
    disjoint = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 2, 1, 1)
    assert _difference(same, same[:, None]).item() == pytest.approx(0, abs=1e-6)
    assert _difference(disjoint[0], disjoint[1:].transpose(0, 1)).item() == pytest.approx(1)
    half = torch.tensor([0.5, 0.5]).sqrt().view(1, 2, 1, 1)
    certain = torch.tensor([1.0, 0.0]).view(1, 1, 2, 1, 1)
    assert _difference(half, certain).item() == pytest.approx(1 - 0.5**0.5)


def test_distrust_lowers_and_seek_raises_the_share_of_a_reference_that_differs():
    """Two references with the same features; one agrees in class everywhere, the other nowhere."""
    shares = {}
    for role in ("distrust", "seek", "none"):
        module = _module(difference_role=role)
        context, logits = _scene()
        sure = 20 * torch.nn.functional.one_hot(logits.argmax(1), CLASSES).movedim(-1, 1).float()
        agrees, differs = module.contribute(context, sure), module.contribute(context, sure.roll(1, 1))
        references = FrameMemory(*(torch.stack(parts, 1) for parts in zip(agrees, differs)))
        masses = []
        original = dynamic_alignment.window_attention

        def spy(*args, original=original, masses=masses, **kwargs):
            masses.append(original(*args, **kwargs))
            return masses[-1]

        dynamic_alignment.window_attention = spy
        try:
            module(context, agrees.probability_root, references, torch.ones(2, 2, dtype=torch.bool))
        finally:
            dynamic_alignment.window_attention = original
        shares[role] = masses[0].mass[:, 1].mean().item()
    assert shares["distrust"] < shares["none"] - 0.05
    assert shares["none"] == pytest.approx(0.5, abs=1e-4)
    assert shares["seek"] > shares["none"] + 0.05


def test_sources_move_a_reference_over_the_frame():
    """A reference that is the frame moved by whole coarse cells comes to lie exactly over it."""
    memory = _module().contribute(*_scene(batch=1))
    dy, dx = 1, -2
    gone = FrameMemory(*(part.roll((dy * COARSE, dx * COARSE), (2, 3))[:, None] for part in memory))
    offset = torch.tensor([dy, dx]).view(1, 1, 2, 1, 1).expand(1, 1, 2, *memory.coarse_key.shape[2:])
    sources = _sources(offset, (H, W))
    assert sources.min() >= 0 and sources.max() < H * W
    inner = (slice(None), slice(None), slice(0, H - COARSE), slice(2 * COARSE, W))
    for name in ("key", "value", "probability_root"):
        torch.testing.assert_close(moved(getattr(gone, name), sources)[:, 0][inner], getattr(memory, name)[inner])


def test_a_memory_holds_the_classes_beside_the_features():
    memory = _module().contribute(*_scene(batch=1))
    probabilities = _scene(batch=1)[1].softmax(1)
    torch.testing.assert_close(memory.value[:, -CLASSES:], probabilities)
    torch.testing.assert_close(memory.coarse_value[:, -CLASSES:], _to_coarse(probabilities))
    torch.testing.assert_close(memory.probability_root.square(), probabilities)
    shapes = memory_shapes(SDCPCConfig(CLASSES, embed_dim=D, key_dim=8), (8 * H, 8 * W))
    assert shapes == tuple(tuple(part.shape[1:]) for part in memory)


def test_selection_leaves_agreement_alone():
    """Where the frame is sure and all references agree with it, its classes stay as they are."""
    module = _trained(_module())
    context, logits = _scene()
    constant = torch.zeros_like(logits)
    constant[:, 2] = 1  # one class everywhere, so that alignment cannot bring disagreement in
    sure = 30.0 * constant
    sure[:, :, :6, :6] = 0  # but for a corner, where it is unsure
    own = module.contribute(context, sure)
    memory = module.contribute(context, 30.0 * constant)
    references = FrameMemory(*(torch.stack([part] * K, 1) for part in memory))
    valid = torch.ones(2, K, dtype=torch.bool)
    changed = module(context, own.probability_root, references, valid).change.any(1)
    assert changed[:, :6, :6].all()
    assert not changed[:, 6:, 6:].any()
    everywhere = _trained(_module(selection=False))
    assert everywhere(context, own.probability_root, references, valid).change.any(1).all()


@pytest.mark.parametrize("batch", [1, 2])
def test_attending_only_where_it_matters_changes_nothing(monkeypatch, batch):
    """Without gradients, tiles in which selection leaves no change are left out of the fine attention."""
    module = _trained(_module())
    context, logits = _scene(batch=batch)
    sure = torch.zeros_like(logits)
    sure[:, 2] = 30.0
    sure[:, :, 3:9, 4:11] = 0  # a patch where it is unsure
    own = module.contribute(context, sure)
    memory = module.contribute(context, 30.0 * (sure > 1))
    references = FrameMemory(*(torch.stack([part] * K, 1) for part in memory))
    valid = torch.tensor([[True, False, True]] * batch)
    wanted = []
    original = dynamic_alignment.window_attention

    def spy(*args, **kwargs):
        wanted.append(kwargs.get("wanted"))
        return original(*args, **kwargs)

    monkeypatch.setattr(dynamic_alignment, "window_attention", spy)
    everywhere = module(context, own.probability_root, references, valid).change
    with torch.inference_mode():
        found = module(context, own.probability_root, references, valid).change
    assert [part is None for part in wanted] == [True, True, True, False]
    assert 0 < wanted[-1].float().mean() < 0.9
    torch.testing.assert_close(found, everywhere.detach())


@torch.no_grad()
def test_a_folded_norm_gives_the_same():
    module = _trained(_module())
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    module.norm.weight.normal_()
    module.norm.bias.normal_()
    valid = torch.ones(2, K, dtype=torch.bool)
    expected, memory = _run(module, valid), module.contribute(*_scene())
    module.fold_norm()
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    torch.testing.assert_close(_run(module, valid), expected, atol=1e-4, rtol=1e-4)
    for part, wanted in zip(module.contribute(*_scene()), memory):
        torch.testing.assert_close(part, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (5, 7), (45, 60)])
def test_coarse_and_back(size):
    x = torch.arange(size[0] * size[1], dtype=torch.float32).view(1, 1, *size)
    coarse = _to_coarse(x)
    assert coarse.shape[2:] == (-(-size[0] // COARSE), -(-size[1] // COARSE))
    assert coarse[0, 0, 0, 0] == x[0, 0, :COARSE, :COARSE].mean()
    assert coarse[0, 0, -1, -1] == pytest.approx(
        x[0, 0, (size[0] - 1) // COARSE * COARSE :, (size[1] - 1) // COARSE * COARSE :].mean().item()
    )
    assert _from_coarse(coarse, size).shape == x.shape


def test_memory_has_a_finite_gradient_where_a_class_is_impossible():
    module = _module()
    context, logits = _scene()
    logits = (1000 * logits).requires_grad_()
    module.contribute(context, logits).probability_root.sum().backward()
    assert logits.grad.isfinite().all()
