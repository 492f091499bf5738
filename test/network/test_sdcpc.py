"""The whole network: clip form against streaming form, shapes, training, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from sdcpc_ros.network import SDCPC, FrameMemory, SDCPCConfig

ENCODERS = [("mit_b0", {}), ("resnet18", {"base_width": 16}), ("resnet50", {"base_width": 8, "output_stride": 8})]


def _network(encoder="resnet18", **changes):
    torch.manual_seed(0)
    changes = {"base_width": 16, "embed_dim": 32, "key_dim": 16, **changes}
    network = SDCPC(SDCPCConfig(7, encoder=encoder, **changes)).eval()
    with torch.no_grad():  # as if trained: a temporal path that changes nothing would prove nothing
        network.dynamic_aggregation.gate[2].weight.normal_()
    return network


def _clip(batch=1, frames=4, size=(72, 104)):
    return torch.randn(batch, frames, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("encoder", "changes"), ENCODERS)
@torch.inference_mode()
def test_streaming_gives_the_logits_of_the_clip(encoder, changes):
    network, clip = _network(encoder, **changes), _clip()
    frames = [network.encode(clip[:, i]) for i in range(4)]
    references = FrameMemory(*(torch.stack(parts, 1) for parts in zip(*(frame.memory for frame in frames[:3]))))
    streamed = network.aggregate(frames[3], references, torch.ones(1, 3, dtype=torch.bool))
    clipped = network(clip).logits
    torch.testing.assert_close(streamed, clipped, atol=1e-5, rtol=0)
    assert not torch.allclose(clipped, network(clip[:, 3:]).logits, atol=1e-3)  # the references did count


@torch.inference_mode()
def test_a_recurrent_stream_remembers_what_frames_were_labelled():
    """Frame by frame, each with all earlier ones as references, it gives the logits of the clip."""
    network, clip = _network(recurrent=True), _clip()
    alone = _network()(clip).logits
    memories: list[FrameMemory] = []
    for i in range(4):
        frame = network.encode(clip[:, i])
        logits = frame.logits
        if memories:
            references = FrameMemory(*(torch.stack(parts, 1) for parts in zip(*memories)))
            logits = network.aggregate(frame, references, torch.ones(1, i, dtype=torch.bool))
        memories.append(network.remember(frame, logits))
    torch.testing.assert_close(logits, network(clip).logits, atol=1e-5, rtol=0)
    assert not torch.allclose(logits, alone, atol=1e-3)


@torch.inference_mode()
def test_a_floor_under_the_vote_draws_a_frame_to_what_was_seen_before_unless_that_is_another_class():
    """With gates that are shut, as in an untrained network, the floor alone opens them."""
    torch.manual_seed(0)
    config = SDCPCConfig(
        4, encoder="resnet18", base_width=16, embed_dim=32, key_dim=16, vote_floor=1.0, selection=False
    )
    aggregate = SDCPC(config).eval().dynamic_aggregation
    context = torch.randn(1, aggregate.query.in_channels, 8, 12)

    def share_of_the_vote(own: list[float], before: list[float]) -> float:
        """How far the odds of the first two classes move from the frame's own to the references'."""
        logits = [torch.tensor(values).log()[None, :, None, None].expand(1, 4, 8, 12) for values in (own, before)]
        now, past = (aggregate.contribute(context, each) for each in logits)
        references = FrameMemory(*(part[:, None].repeat(1, 3, 1, 1, 1) for part in past))
        change = aggregate(context, now.probability_root, references, torch.ones(1, 3, dtype=torch.bool)).change
        moved = (change[0, 0] - change[0, 1]).mean()
        wanted = (logits[1] - logits[0])[0, :2, 0, 0]
        return (moved / (wanted[0] - wanted[1])).item()

    unsure = share_of_the_vote([0.45, 0.5, 0.03, 0.02], [0.9, 0.05, 0.03, 0.02])
    something_else = share_of_the_vote([0.02, 0.95, 0.02, 0.01], [0.95, 0.02, 0.02, 0.01])
    mixed = share_of_the_vote([0.3, 0.35, 0.2, 0.15], [0.35, 0.3, 0.2, 0.15])
    assert unsure > 0.6 > mixed > something_else > 0


@torch.inference_mode()
def test_a_clip_of_one_is_a_stream_without_references():
    network, clip = _network(), _clip(batch=2)
    frame = network.encode(clip[:, -1])
    empty = FrameMemory(*(torch.randn(2, 3, *part.shape[1:]) for part in frame.memory))
    streamed = network.aggregate(frame, empty, torch.zeros(2, 3, dtype=torch.bool))
    torch.testing.assert_close(network(clip[:, -1:]).logits, streamed, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_invalid_references_of_a_clip_are_ignored():
    network, clip = _network(), _clip()
    valid = torch.tensor([[False, True, True]])
    before = network(clip, valid).logits
    clip[:, 0] = 50
    torch.testing.assert_close(network(clip, valid).logits, before)


@pytest.mark.parametrize("size", [(32, 32), (33, 65), (90, 47)])
@torch.inference_mode()
def test_any_size_from_32_px_works(size):
    output = _network()(_clip(batch=2, size=size))
    assert output.logits.shape == (2, 7, -(-size[0] // 4), -(-size[1] // 4))
    assert output.static_logits.shape == (2, 7, -(-size[0] // 8), -(-size[1] // 8))


@torch.inference_mode()
def test_an_untrained_temporal_path_changes_nothing():
    torch.manual_seed(0)
    network = SDCPC(SDCPCConfig(7, encoder="resnet18", base_width=16, embed_dim=32)).eval()
    clip = _clip()
    torch.testing.assert_close(network(clip).logits, network(clip[:, -1:]).logits, atol=1e-6, rtol=0)


def test_every_parameter_learns():
    network = _network(selection_difference=0.0).train()
    output = network(_clip(batch=2))
    loss = output.logits.square().mean() + output.static_logits.square().mean()
    (loss + sum(vote.square().mean() for vote in output.votes)).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not still
    assert network.dynamic_aggregation.coarse_key_value.weight.grad.abs().sum() > 0
    assert network.dynamic_aggregation.difference_weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 31, 64)])
def test_encode_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        _network().encode(torch.zeros(shape))


def test_clip_form_refuses_images():
    with pytest.raises(ValueError, match=r"K \+ 1"):
        _network()(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("changes", [{"static_aggregation": False}, {"dynamic_stages": 0}, {"dynamic_stages": 1}])
@torch.inference_mode()
def test_parts_can_be_left_out(changes):
    """For ablation: the network runs without a part, in both forms alike."""
    network, clip = _network(**changes), _clip()
    output = network(clip)
    assert len(output.votes) == network.config.dynamic_stages
    frames = [network.encode(clip[:, i]) for i in range(4)]
    references = FrameMemory(*(torch.stack(parts, 1) for parts in zip(*(frame.memory for frame in frames[:3]))))
    streamed = network.aggregate(frames[3], references, torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(streamed, output.logits, atol=1e-5, rtol=0)
    counted = not torch.allclose(streamed, frames[3].logits, atol=1e-3)
    assert counted == (network.config.dynamic_stages > 0)


@torch.inference_mode()
def test_exports_whole():
    """torch.export takes both halves: no Python in the way of compilers."""
    network = _network()
    image = _clip()[:, 0]

    class Encode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return tuple(self.network.encode(x)[:3])

    exported = torch.export.export(Encode(), (image,))
    torch.testing.assert_close(exported.module()(image)[1], network.encode(image).static, atol=1e-5, rtol=0)


def test_views_of_the_newest_frame_share_its_references():
    """Each of V views gets what a clip of its own would get."""
    torch.manual_seed(0)
    model = SDCPC(SDCPCConfig(5, encoder="resnet18", base_width=8, embed_dim=16, key_dim=8)).eval()
    torch.nn.init.normal_(model.dynamic_aggregation.gate[2].weight, std=0.5)
    clip, valid = torch.randn(2, 5, 3, 64, 96), torch.tensor([[True, True, True], [False, True, True]])
    with torch.inference_mode():
        together = model(clip, valid, views=2)
        apart = [model(clip[:, [0, 1, 2, view]], valid) for view in (3, 4)]
    for index in (0, 1):
        torch.testing.assert_close(together.logits[index::2], apart[index].logits)
        torch.testing.assert_close(together.static_logits[index::2], apart[index].static_logits)


def test_earlier_frames_leave_no_trace_in_the_statistics_of_norms():
    """They are perceived as a stream perceives them; what is learnt from a clip is learnt from its newest frame."""
    model = SDCPC(SDCPCConfig(5, encoder="resnet18", base_width=8, embed_dim=16, key_dim=8)).train()
    names = [n for n, _ in model.named_buffers() if "running" in n and not n.startswith("dynamic")]
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
