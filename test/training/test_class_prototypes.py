"""MCP-CL: what its prototypes learn from, what leaves them alone, and that ranks share them."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.training.class_prototypes import ClassPrototypes, sinkhorn
from sdcpc_ros.training.recipe import PrototypeSettings

pytestmark = pytest.mark.slow

CLASSES, FEATURES, VOID = 4, 6, 255


def _module(**changes) -> ClassPrototypes:
    seed = changes.pop("seed", 0)
    values = {"per_class": 3, "dimension": 8, "momentum": 0.9, "pixels_per_class": 20, **changes}
    return ClassPrototypes(FEATURES, CLASSES, PrototypeSettings(**values), seed)


def _batch(seed: int = 0, images: int = 4, side: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, logits right for about two thirds of the pixels, and labels, a tenth of them void."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, FEATURES, side, side, generator=generator)
    labels = torch.randint(0, CLASSES, (images, side, side), generator=generator)
    guess = torch.where(torch.rand(labels.shape, generator=generator) < 0.6, labels, labels.roll(1))
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = VOID
    return features, F.one_hot(guess, CLASSES).permute(0, 3, 1, 2).float(), labels


def _norms(module: ClassPrototypes) -> torch.Tensor:
    return module.prototypes.norm(dim=-1)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    per_class=st.integers(1, 12),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4]),
    present=st.sets(st.integers(0, CLASSES - 1)),
)
def test_prototypes_stay_of_length_one_and_absent_classes_stay(seed, per_class, scale, present) -> None:
    module = _module(per_class=per_class, seed=seed)
    features, logits, labels = _batch(seed)
    labels[~torch.isin(labels, torch.tensor(sorted(present), dtype=torch.long))] = VOID
    features = (features * scale).requires_grad_()
    before = module.prototypes.clone()
    loss = module(features, logits, labels, step=seed)
    loss.backward()
    torch.testing.assert_close(_norms(module), torch.ones(CLASSES, per_class))
    assert loss.isfinite() and loss >= 0 and features.grad is not None and features.grad.isfinite().all()
    for class_id in range(CLASSES):
        seen = ((labels == class_id) & (logits.argmax(1) == class_id)).any()
        assert torch.equal(module.prototypes[class_id], before[class_id]) == (not seen)


@pytest.mark.parametrize("case", ["all void", "all wrong"])
def test_a_batch_without_correct_pixels_costs_nothing_and_changes_nothing(case) -> None:
    module = _module()
    features, logits, labels = _batch()
    labels = torch.full_like(labels, VOID) if case == "all void" else (logits.argmax(1) + 1) % CLASSES
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loss = module(features.requires_grad_(), logits, labels, step=0)
    loss.backward()
    assert loss.item() == 0 and features.grad is not None and (features.grad == 0).all()
    assert all(p.grad is not None and (p.grad == 0).all() for p in module.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_void_and_mispredicted_pixels_take_no_part() -> None:
    features, logits, labels = _batch()
    unused = (labels == VOID) | (logits.argmax(1) != labels)
    spoilt = torch.where(unused[:, None], torch.full_like(features, 1e6), features)
    one, two = _module(), _module()
    assert torch.equal(one(features, logits, labels, 0), two(spoilt, logits, labels, 0))
    assert torch.equal(one.prototypes, two.prototypes)


@settings(max_examples=25)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    per_class=st.integers(1, 10),
    spread=st.floats(0, 20),
    seed=st.integers(0, 1000),
)
def test_sinkhorn_shares_pixels_fully_and_prototypes_equally(counts, per_class, spread, seed) -> None:
    classes = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    scores = torch.randn(len(classes), per_class, generator=torch.Generator().manual_seed(seed)) * spread
    scores = scores.clamp(-20, 20).double()  # what cosines over the default sharpness can be
    shares = sinkhorn(scores, classes, len(counts), iterations=3)
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(len(classes), dtype=torch.double))
    if spread <= 3:  # sharper ones take longer to settle than a test should
        shares = sinkhorn(scores, classes, len(counts), iterations=500)
        columns = torch.zeros(len(counts), per_class, dtype=torch.double).index_add_(0, classes, shares)
        wanted = torch.tensor(counts).double()[:, None].expand(-1, per_class) / per_class
        torch.testing.assert_close(columns, wanted, rtol=1e-2, atol=1e-6)


def test_sinkhorn_spreads_a_class_over_its_prototypes() -> None:
    """All pixels prefer the first of two prototypes; half of them, those that prefer it least, get the other."""
    preference = torch.arange(1, 9, dtype=torch.float32)
    scores = torch.stack((preference, torch.zeros(8)), 1)
    shares = sinkhorn(scores, torch.zeros(8, dtype=torch.long), 1, iterations=50)
    assert shares.argmax(1).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_the_draw_is_bounded_for_each_class_and_image_and_follows_the_step() -> None:
    module = _module(pixels_per_class=3)
    features, logits, labels = _batch(side=16)
    drawn = [module.draw_pixels(features, logits, labels, step) for step in (0, 0, 1)]
    assert drawn[0][1].bincount(minlength=CLASSES).tolist() == [3 * len(features)] * CLASSES
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])
    embeddings, classes = module.draw_pixels(features[2:3], logits[2:3], labels[2:3], 0)
    assert torch.equal(classes, drawn[0][1][6 * CLASSES : 9 * CLASSES])
    torch.testing.assert_close(embeddings, drawn[0][0][6 * CLASSES : 9 * CLASSES])


def test_the_moving_average_on_a_case_with_a_known_answer() -> None:
    """One class, one prototype, one pixel: it turns towards the pixel by a tenth, and the loss is compactness alone."""
    settings = PrototypeSettings(per_class=1, dimension=2, momentum=0.9, compactness_weight=1.0)
    module = ClassPrototypes(2, 1, settings)
    module.project = torch.nn.Sequential(torch.nn.Identity())
    module.prototypes.copy_(torch.tensor([[[1.0, 0.0]]]))
    features = torch.tensor([0.0, 5.0]).view(1, 2, 1, 1)
    loss = module(features, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long), step=0)
    assert loss.item() == pytest.approx(1.0)
    wanted = F.normalize(torch.tensor([0.9, 0.1]), dim=0)
    torch.testing.assert_close(module.prototypes[0, 0], wanted)


def test_in_evaluation_prototypes_stay() -> None:
    module = _module().eval()
    before = module.prototypes.clone()
    assert module(*_batch(), step=0) > 0
    assert torch.equal(module.prototypes, before)


def test_training_brings_pixels_to_their_class() -> None:
    """Features with a direction for each class, deep in noise: the share nearest to their own class's prototypes."""
    torch.manual_seed(0)
    directions = torch.randn(CLASSES, FEATURES)
    module = _module(pixels_per_class=64)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    _, _, labels = _batch()
    right = F.one_hot(labels.clamp(max=CLASSES - 1), CLASSES).permute(0, 3, 1, 2).float()

    def accuracy() -> float:
        embeddings, classes = module.draw_pixels(features, right, labels, 0)
        nearest = (embeddings @ module.prototypes.flatten(0, 1).T).argmax(1) // 3
        return (nearest == classes).float().mean().item()

    features = directions[labels.clamp(max=CLASSES - 1)].permute(0, 3, 1, 2) + 0.8 * torch.randn(4, FEATURES, 8, 8)
    before = accuracy()
    for step in range(60):
        optimizer.zero_grad()
        module(features, right, labels, step).backward()
        optimizer.step()
    assert before < 0.5 and accuracy() > 0.8
    used = module.prototypes.flatten(0, 1) @ module.prototypes.flatten(0, 1).T
    assert used.fill_diagonal_(0).max() < 0.999  # the prototypes of a class have not fallen into one


def test_autocast_changes_nothing_but_the_rounding_of_its_inputs() -> None:
    features, logits, labels = _batch()
    plain, mixed = _module(), _module()
    expected = plain(features.bfloat16().float(), logits, labels, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mixed(features.bfloat16(), logits.bfloat16(), labels, 0)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)
    assert mixed.prototypes.dtype == torch.float32 and torch.equal(plain.prototypes, mixed.prototypes)


def test_one_seed_one_module_and_the_generator_of_others_is_left_alone() -> None:
    torch.manual_seed(5)
    one = _module(seed=3)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    two, other = _module(seed=3), _module(seed=4)
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert not torch.equal(one.prototypes, other.prototypes)


def test_the_network_holds_nothing_of_it() -> None:
    model = SDCPC(SDCPCConfig(num_classes=4, encoder="resnet_tiny", embed_dim=16, key_dim=16))
    assert not any(isinstance(module, ClassPrototypes) for module in model.modules())
    assert not any("prototype" in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_class": 0}, "per_class is 0"),
        ({"dimension": 0}, "dimension is 0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"pixels_per_class": 0}, "pixels_per_class is 0"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        _module(**changes)


# Rank 0 gets one image, rank 1 three, and one class is seen by rank 1 alone.
_SHARES = (slice(0, 1), slice(1, 4))


def _uneven_batch(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features, logits, labels = _batch(seed=step)
    labels[0][labels[0] == 2] = VOID
    if step == 2:
        labels[0] = VOID  # a rank that has nothing to say must still take part
    return features, logits, labels


def _train(module: ClassPrototypes, share: slice, ranks: int) -> dict[str, torch.Tensor]:
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    losses, gradients = [], []
    for step in range(4):
        features, logits, labels = (part[share] for part in _uneven_batch(step))
        features.requires_grad_()
        optimizer.zero_grad()
        loss = module(features, logits, labels, step)
        loss.backward()
        for parameter in module.parameters():  # what DistributedDataParallel does
            assert parameter.grad is not None
            if ranks > 1:
                dist.all_reduce(parameter.grad)
                parameter.grad /= ranks
        optimizer.step()
        assert features.grad is not None
        losses.append(loss.detach())
        gradients.append(features.grad / ranks)
    return {**module.state_dict(), "losses": torch.stack(losses), "gradients": torch.stack(gradients)}


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    save_file(_train(_module(), _SHARES[rank], 2), folder / f"{rank}.safetensors")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # not by the destructors of PyTorch, in which a rank has once aborted


def test_two_ranks_equal_one_process_on_the_joined_batch(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    ranks = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    whole = _train(_module(), slice(None), 1)
    torch.testing.assert_close((ranks[0].pop("losses") + ranks[1].pop("losses")) / 2, whole.pop("losses"))
    joined = torch.cat([part.pop("gradients") for part in ranks], 1)
    torch.testing.assert_close(joined, whole.pop("gradients"))
    for name, tensor in whole.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(ranks[0][name], tensor)
    assert not torch.equal(whole["prototypes"], _module().prototypes)


if __name__ == "__main__":  # one of the processes of the test above
    _rank(int(sys.argv[1]), Path(sys.argv[2]))
