"""The whole network: clip form against streaming form, shapes, training, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdcpc_ros.network import DEFAULT_RATE_HZ, SDCPC, FrameMemory, SDCPCConfig

ENCODERS = [("mit_b0", {}), ("resnet_tiny", {}), ("resnet50", {"output_stride": 8})]


def _network(encoder="resnet_tiny", *, trained=True, **changes):
    changes = {"embed_dim": 32, "key_dim": 16, "reference_offsets": (1, 2, 3), **changes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SDCPC(SDCPCConfig(7, encoder=encoder, **changes)).eval()
        if trained:  # a temporal path that changes nothing would prove nothing, nor would votes that are all alike
            with torch.no_grad():
                network.head.classify.weight *= 5
                network.head.classify.bias[0] += 3  # a class that is wide: a thin one is spared by votes
            torch.nn.init.normal_(network.dssa.gate[2].weight)
            torch.nn.init.ones_(network.dssa.gate[2].bias)
    return network


def _clip(batch=1, frames=4, size=(72, 104)):
    return torch.randn(batch, frames, 3, *size, generator=torch.Generator().manual_seed(1))


def _stacked(memories):
    return FrameMemory(*(torch.stack(parts, 1) for parts in zip(*memories)))


def _streamed(network, clip, stamps_s):
    """Logits of each frame of a stream, of which each has all earlier ones as references."""
    memories: list[FrameMemory] = []
    outputs = []
    for i, stamp_s in enumerate(stamps_s):
        frame = network.encode(clip[:, i])
        logits, memory = frame.logits, frame.memory
        if memories:
            ages = torch.tensor([[stamp_s - earlier for earlier in stamps_s[:i]]]).expand(len(clip), -1)
            logits, memory = network.aggregate(frame, _stacked(memories), ages)
        memories.append(memory)
        outputs.append(logits)
    return outputs


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize(("encoder", "changes"), ENCODERS)
@torch.inference_mode()
def test_streaming_gives_the_logits_of_the_clip(encoder, changes, recurrent):
    """Without ages, the clip's frames are as far apart as the offsets say at the default rate."""
    network, clip = _network(encoder, recurrent=recurrent, **changes), _clip()
    streamed = _streamed(network, clip, [i / DEFAULT_RATE_HZ for i in range(4)])[3]
    clipped = network(clip).logits
    torch.testing.assert_close(streamed, clipped, atol=1e-5, rtol=0)
    assert not torch.allclose(clipped, network(clip[:, 3:]).logits, atol=1e-3)  # the references did count


@settings(max_examples=6)
@given(steps_s=st.lists(st.floats(0.02, 2.0), min_size=3, max_size=3), recurrent=st.booleans())
@torch.inference_mode()
def test_streaming_gives_the_logits_of_the_clip_at_any_times(steps_s, recurrent):
    network, clip = _network(recurrent=recurrent), _clip(batch=2, size=(40, 56))
    stamps_s = [sum(steps_s[:i]) for i in range(4)]
    age_s = torch.tensor([[stamps_s[3] - stamp_s for stamp_s in stamps_s[:3]]] * 2)
    streamed = _streamed(network, clip, stamps_s)[3]
    torch.testing.assert_close(network(clip, age_s).logits, streamed, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_a_recurrent_stream_remembers_what_frames_were_labelled():
    clip = _clip()
    memories = {}
    for recurrent in (True, False):
        network = _network(recurrent=recurrent)
        first, second = (network.encode(clip[:, i]) for i in range(2))
        _, memory = network.aggregate(second, _stacked([first.memory]), torch.tensor([[0.1]]))
        memories[recurrent] = memory, second.memory
    assert all(torch.equal(part, own) for part, own in zip(*memories[False]))
    relabelled, own = memories[True]
    assert not torch.allclose(relabelled.fine, own.fine, atol=1e-3)
    assert not torch.allclose(_network()(clip).logits, _network(recurrent=False)(clip).logits, atol=1e-4)


@torch.inference_mode()
def test_logits_depend_on_the_age_of_the_references():
    network, clip = _network(), _clip()
    logits = [network(clip, factor * torch.tensor([[0.3, 0.2, 0.1]])).logits for factor in (1, 1, 10)]
    assert torch.equal(logits[0], logits[1]) and not torch.allclose(logits[0], logits[2], atol=1e-4)


@torch.inference_mode()
def test_a_clip_of_one_is_a_stream_without_references():
    network, clip = _network(), _clip(batch=2)
    frame = network.encode(clip[:, -1])
    empty = FrameMemory(*(torch.randn(2, 3, *part.shape[1:]) for part in frame.memory))
    streamed, _ = network.aggregate(frame, empty, torch.full((2, 3), -1.0))
    alone = network(clip[:, -1:])
    torch.testing.assert_close(alone.logits, streamed, atol=1e-5, rtol=0)
    assert alone.aggregation is None and alone.single is alone.logits


@pytest.mark.parametrize("contents", [50.0, -1e4])
@pytest.mark.parametrize("recurrent", [True, False])
@torch.inference_mode()
def test_missing_references_of_a_clip_are_ignored(contents, recurrent):
    """Also by the references that come after them."""
    network, clip = _network(recurrent=recurrent), _clip()
    age_s = torch.tensor([[-1.0, 2 / 15, 1 / 15]])
    before = network(clip, age_s).logits
    clip[:, 0] = contents
    torch.testing.assert_close(network(clip, age_s).logits, before)


@pytest.mark.parametrize("size", [(32, 32), (33, 65), (90, 47)])
@torch.inference_mode()
def test_any_size_from_32_px_works(size):
    output = _network()(_clip(batch=2, size=size))
    assert output.logits.shape == output.single.shape == (2, 7, -(-size[0] // 4), -(-size[1] // 4))
    assert output.static_logits.shape == (2, 7, -(-size[0] // 8), -(-size[1] // 8))


@torch.inference_mode()
def test_an_untrained_temporal_path_changes_nothing():
    network, clip = _network(trained=False), _clip()
    output = network(clip)
    assert torch.equal(output.logits, output.single)
    torch.testing.assert_close(output.logits, network(clip[:, -1:]).logits, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_the_logits_of_the_frame_by_itself_come_along():
    network, clip = _network(), _clip()
    output = network(clip)
    torch.testing.assert_close(output.single, network(clip[:, -1:]).logits, atol=1e-5, rtol=0)
    assert not torch.allclose(output.logits, output.single, atol=1e-3)


@torch.inference_mode()
def test_clips_of_a_batch_do_not_mix():
    network, clip = _network(), _clip(batch=3, size=(40, 56))
    age_s = torch.tensor([[0.3, 0.2, 0.1], [-1.0, 0.2, 0.1], [-1.0, -1.0, -1.0]])
    together = network(clip, age_s).logits
    for index in range(3):
        one = slice(index, index + 1)
        torch.testing.assert_close(together[one], network(clip[one], age_s[one]).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("recurrent", [True, False])
def test_every_parameter_learns(recurrent):
    network = _network(recurrent=recurrent).train()
    output = network(_clip(batch=2))
    loss = output.logits.square().mean() + output.static_logits.square().mean()
    (loss + output.aggregation.coarse_votes.square().mean()).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not still
    silent = [name for name, p in network.dssa.named_parameters() if not p.grad.any()]
    assert not silent


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 31, 64)])
def test_encode_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        _network().encode(torch.zeros(shape))


def test_clip_form_refuses_images():
    with pytest.raises(ValueError, match=r"K \+ 1"):
        _network()(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(("frames", "age_s"), [(4, torch.ones(1, 2)), (4, torch.ones(3)), (6, None)])
def test_clip_form_refuses_ages_that_are_not_those_of_its_references(frames, age_s):
    """Nor does it guess the ages of more references than the configuration has."""
    with pytest.raises(ValueError, match=r"age_s.*\(1, [35]\)"):
        _network()(_clip(frames=frames, size=(32, 32)), age_s)


@pytest.mark.parametrize("changes", [{"static_aggregation": False}, {"temporal": False}])
@torch.inference_mode()
def test_parts_can_be_left_out(changes):
    """For ablation: the network runs without a part, in both forms alike."""
    network, clip = _network(**changes), _clip()
    output = network(clip)
    assert (output.aggregation is not None) == network.config.temporal
    streamed = _streamed(network, clip, [i / DEFAULT_RATE_HZ for i in range(4)])[3]
    torch.testing.assert_close(streamed, output.logits, atol=1e-5, rtol=0)
    counted = (streamed - network.encode(clip[:, 3]).logits).abs().max() > 1e-4
    assert counted == network.config.temporal


@pytest.mark.parametrize("recurrent", [True, False])
def test_views_of_the_newest_frame_share_its_references(recurrent):
    """Each of V views gets what a clip of its own would get."""
    model = _network(recurrent=recurrent)
    clip = torch.randn(2, 5, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    age_s = torch.tensor([[0.3, 0.2, 0.1], [-1.0, 0.7, 0.4]])
    with torch.inference_mode():
        together = model(clip, age_s, views=2)
        apart = [model(clip[:, [0, 1, 2, view]], age_s) for view in (3, 4)]
    for index in (0, 1):
        torch.testing.assert_close(together.logits[index::2], apart[index].logits, atol=1e-4, rtol=0)
        torch.testing.assert_close(together.static_logits[index::2], apart[index].static_logits, atol=1e-4, rtol=0)


def test_earlier_frames_leave_no_trace_in_the_statistics_of_norms():
    """They are perceived as a stream perceives them; what is learnt of a scene is learnt from the newest frame."""
    changes = {"embed_dim": 16, "key_dim": 16, "reference_offsets": (1, 2, 3)}
    model = SDCPC(SDCPCConfig(5, encoder="resnet_tiny", **changes)).train()
    names = [n for n, _ in model.named_buffers() if "running" in n and not n.startswith("dssa")]
    clip = torch.randn(2, 4, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    seen = []
    for past in (clip[:, :3], 9 * clip[:, :3]):
        torch.manual_seed(0)  # of what is dropped
        twin = SDCPC(model.config).train()
        twin.load_state_dict(model.state_dict())
        twin(torch.cat((past, clip[:, 3:]), 1))
        assert all(part.training for part in twin.modules())
        seen.append({name: buffer for name, buffer in twin.named_buffers() if name in names})
    assert names and all(torch.equal(seen[0][name], seen[1][name]) for name in names)
