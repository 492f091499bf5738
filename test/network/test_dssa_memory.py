"""What a frame leaves for later ones: unit-norm keys and class probabilities at two strides."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.network import SDCPCConfig
from sdcpc_ros.network.cross_frame import COARSE
from sdcpc_ros.network.dssa import DSSA, memory_shapes

CLASSES, D, LEVEL, DETAIL = 5, 16, 6, 7
KEY_DIM = 16
#: Of the fine and the coarse part of a memory.
FEATURES = KEY_DIM // 2 - 4, KEY_DIM - 4


@pytest.fixture(scope="module")
def module() -> DSSA:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DSSA(SDCPCConfig(CLASSES, embed_dim=D, key_dim=KEY_DIM), LEVEL, DETAIL).eval()


def scene(size: tuple[int, int]):
    """The context (2, D + C2, h/2, w/2), detail (2, C1, h, w), logits (2, C, h, w) and luminance of a frame."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(2, D + LEVEL, *(-(-side // 2) for side in size), generator=generator)
    detail = torch.randn(2, DETAIL, *size, generator=generator)
    logits = 2 * torch.randn(2, CLASSES, *size, generator=generator)
    return context, detail, logits, torch.rand(2, 1, *size, generator=generator)


@settings(max_examples=15)
@given(size=st.tuples(st.integers(1, 30), st.integers(1, 30)), scale=st.sampled_from([0.0, 1.0, 1e4]))
@torch.inference_mode()
def test_a_memory_holds_unit_keys_and_class_probabilities(module, size, scale):
    context, detail, logits, luminance = scene(size)
    memory = module.make_memory(context, detail, scale * logits, luminance)
    shapes = memory_shapes(module.config, (4 * size[0], 4 * size[1]))
    assert shapes == tuple(tuple(part.shape[1:]) for part in memory)
    for part, features in zip(memory, FEATURES):
        ones = torch.ones(2, *part.shape[2:])
        torch.testing.assert_close(part[:, :features].norm(dim=1), ones, atol=1e-5, rtol=0)
        probabilities = part[:, features : features + CLASSES]
        torch.testing.assert_close(probabilities.sum(1), ones, atol=1e-5, rtol=0)
        assert (probabilities >= 0).all()
    probabilities = memory.fine[:, FEATURES[0] : -1]
    assert torch.equal(memory.fine[:, -1:], luminance)
    torch.testing.assert_close(probabilities, (scale * logits).softmax(1))
    height, width = min(COARSE, size[0]), min(COARSE, size[1])  # of the first coarse cell, cut by the border or not
    first = probabilities[:, :, :height, :width].mean((2, 3))
    torch.testing.assert_close(memory.coarse[:, FEATURES[1] :, 0, 0], first)


@torch.inference_mode()
def test_other_classes_leave_the_keys_of_a_memory(module):
    context, detail, logits, luminance = scene((18, 25))
    relabelled = module.with_classes(module.make_memory(context, detail, logits, luminance), logits.roll(1, 1))
    for part, wanted in zip(relabelled, module.make_memory(context, detail, logits.roll(1, 1), luminance)):
        assert torch.equal(part, wanted)


@torch.inference_mode()
def test_keys_at_stride_4_tell_details_apart_and_see_the_surroundings(module):
    """Of detail and context, where those at stride 16 are of the context alone."""
    context, detail, logits, luminance = scene((18, 25))
    own = module.make_memory(context, detail, logits, luminance)
    seen = {}
    for name, parts in (("detail", (context, detail.flip(3))), ("context", (context.flip(3), detail))):
        other = module.make_memory(*parts, logits, luminance)
        seen[name] = tuple(not torch.allclose(part, wanted, atol=0.1) for part, wanted in zip(other, own))
    assert seen == {"detail": (True, False), "context": (True, True)}
