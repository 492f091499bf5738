"""DSSA's persistence: what its references show in place stays, unless it moved or is thin."""

from __future__ import annotations

import math

import pytest
import torch

from sdcpc_ros.network import FrameMemory, SDCPCConfig
from sdcpc_ros.network.cross_frame import COARSE
from sdcpc_ros.network.dssa import DSSA

CLASSES, SIZE, PERSISTENCE = 4, (48, 48), 2.0
#: Places far from the border of the frame, of a map at stride 4.
INNER = (slice(None), slice(None), slice(20, 28), slice(20, 28))


def make_dssa(persistence: float = PERSISTENCE) -> DSSA:
    """Its gate is shut, so that persistence is all that changes logits, and it trusts every reference."""
    config = SDCPCConfig(CLASSES, embed_dim=16, key_dim=24, coarse_radius=3, persistence=persistence)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = DSSA(config, 6, 7).eval()
    with torch.no_grad():
        for parameter in module.trust.parameters():
            parameter.zero_()
        module.trust[2].bias.fill_(20.0)
        module.log_scale.fill_(math.log(100.0))
        module.position_weight.fill_(-20.0)  # matched by appearance alone
    return module


def frame(module: DSSA, logits: torch.Tensor) -> FrameMemory:
    """A frame whose every place looks different."""
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(1, 22, SIZE[0] // 2, SIZE[1] // 2, generator=generator)
    detail, luminance = torch.randn(1, 7, *SIZE, generator=generator), torch.rand(1, 1, *SIZE, generator=generator)
    return module.make_memory(context, detail, logits, luminance)


def everywhere(chosen: int) -> torch.Tensor:
    logits = torch.zeros(1, CLASSES, *SIZE)
    logits[:, chosen] = 12.0
    return logits


def moved(memory: FrameMemory, cells: int) -> FrameMemory:
    """As one reference, (B, 1, ...): the frame, which has moved sideways since by coarse cells."""
    return FrameMemory(memory.fine.roll(COARSE * cells, 3)[:, None], memory.coarse.roll(cells, 3)[:, None])


@pytest.mark.parametrize(("cells", "gain"), [(0, PERSISTENCE), (1, PERSISTENCE), (-1, PERSISTENCE), (2, 0.0)])
@torch.inference_mode()
def test_a_class_gains_what_the_configuration_says_where_the_scene_hardly_moves(cells, gain):
    module = make_dssa()
    before = moved(frame(module, everywhere(3)), cells)
    change = module(frame(module, everywhere(1)), before, torch.tensor([[0.1]])).change[INNER]
    expected = torch.zeros(1, CLASSES, 1, 1)
    expected[:, 3] = gain
    torch.testing.assert_close(change, expected.expand_as(change), atol=0.02, rtol=0)


@torch.inference_mode()
def test_without_persistence_or_without_references_nothing_is_added():
    for module, age_s in ((make_dssa(0.0), 0.1), (make_dssa(), -1.0)):
        before = moved(frame(module, everywhere(3)), 0)
        assert not module(frame(module, everywhere(1)), before, torch.tensor([[age_s]])).change.any()


@pytest.mark.parametrize(("distance", "stays"), [(0, True), (4, True), (8, False)])
@torch.inference_mode()
def test_what_is_thin_is_not_voted_away_if_references_have_it_nearby(distance, stays):
    """A pole, one position wide, keeps its logits, and its surroundings gain. What no reference has nearby is noise."""
    module = make_dssa()
    pole, before = everywhere(1), everywhere(3)
    pole[..., 24], before[..., 24 + distance] = everywhere(2)[..., 24], everywhere(2)[..., 24]
    change = module(frame(module, pole), moved(frame(module, before), 0), torch.tensor([[0.1]])).change
    assert (change[..., 20:28, 24].abs().amax() < 1e-3) == stays
    assert (change[:, 3, 20:28, 20:23] > 1.9).all()


@torch.inference_mode()
def test_a_label_that_wavers_stays_and_one_that_is_sure_changes():
    """A stream whose logits favour one class by a little and then another, and at last another by far."""
    module = make_dssa()
    slightly, surely = torch.zeros(1, CLASSES, *SIZE), torch.zeros(1, CLASSES, *SIZE)
    slightly[:, 2], surely[:, 2] = 1.0, 6.0
    before = moved(frame(module, everywhere(1)), 0)
    for logits, label in ((slightly, 1), (surely, 2)):
        change = module(frame(module, logits), before, torch.tensor([[0.1]])).change
        assert ((logits + change)[INNER].argmax(1) == label).all()
