"""Public weights in our encoders: key by key for every size, and in what they compute.

The public side is written here from the published definitions, apart from our encoders and the tables under test.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.encoders import MixTransformer, ResNet, build_encoder
from sdcpc_ros.network.public_keys import encoder_state

MIT = {  # channels, depths: the table of the SegFormer paper
    "mit_b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "mit_b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "mit_b3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "mit_b4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "mit_b5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}
MIT_HEADS, MIT_REDUCTIONS, EPS = (1, 2, 5, 8), (8, 4, 2, 1), 1e-5
RESNET = {"resnet18": (1, (2, 2, 2, 2)), "resnet50": (4, (3, 4, 6, 3)), "resnet101": (4, (3, 4, 23, 3))}
HUB_TO_V5 = (  # in the order in which they are replaced
    ("attention.self.query", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.self.sr", "attention.sequence_reduction.sequence_reduction"),
    ("attention.self.layer_norm", "attention.sequence_reduction.layer_norm"),
    ("attention.output.dense", "attention.o_proj"),
    ("mlp.dense1", "mlp.fc1"),
    ("mlp.dense2", "mlp.fc2"),
    ("layer_norm_1", "layernorm_before"),
    ("layer_norm_2", "layernorm_after"),
)


def hub_shapes(encoder: str, prefix: str = "segformer.") -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a SegFormer classifier as its file at the hub has them."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, *shape: int) -> None:
        shapes[f"{prefix}encoder.{name}.weight"] = shape
        shapes[f"{prefix}encoder.{name}.bias"] = shape[:1]

    inputs = 3
    for stage, (width, depth) in enumerate(zip(*MIT[encoder])):
        side, reduction = (7 if stage == 0 else 3), MIT_REDUCTIONS[stage]
        add(f"patch_embeddings.{stage}.proj", width, inputs, side, side)
        add(f"patch_embeddings.{stage}.layer_norm", width)
        for index in range(depth):
            block = f"block.{stage}.{index}"
            add(f"{block}.layer_norm_1", width)
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                add(f"{block}.attention.{part}", width, width)
            if reduction > 1:
                add(f"{block}.attention.self.sr", width, width, reduction, reduction)
                add(f"{block}.attention.self.layer_norm", width)
            add(f"{block}.layer_norm_2", width)
            add(f"{block}.mlp.dense1", 4 * width, width)
            add(f"{block}.mlp.dwconv.dwconv", 4 * width, 1, 3, 3)
            add(f"{block}.mlp.dense2", width, 4 * width)
        add(f"layer_norm.{stage}", width)
        inputs = width
    return {**shapes, "classifier.weight": (1000, inputs), "classifier.bias": (1000,)}


def as_transformers_5(key: str) -> str:
    for old, new in HUB_TO_V5:
        key = key.replace(old, new)
    parts = key.split(".")
    if "encoder" in parts:  # encoder.block.S.B... -> stages.S.blocks.B..., encoder.layer_norm.S -> stages.S.layer_norm
        at = parts.index("encoder")
        module, stage = parts[at + 1], parts[at + 2]
        parts[at : at + 3] = ["stages", stage, "blocks" if module == "block" else module]
    return ".".join(parts)


def torchvision_shapes(encoder: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a torchvision ResNet."""
    (expansion, depths), width = RESNET[encoder], 64
    shapes: dict[str, tuple[int, ...]] = {}

    def add(conv: str, norm: str, outputs: int, inputs: int, side: int) -> None:
        shapes[f"{conv}.weight"] = (outputs, inputs, side, side)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{leaf}"] = (outputs,)
        shapes[f"{norm}.num_batches_tracked"] = ()

    add("conv1", "bn1", width, 3, 7)
    inputs = width
    for level, depth in enumerate(depths):
        inner = width * 2**level
        for index in range(depth):
            block = f"layer{level + 1}.{index}"
            sides = (3, 3) if expansion == 1 else (1, 3, 1)
            outputs = [inner] * (len(sides) - 1) + [inner * expansion]
            if inputs != outputs[-1]:
                add(f"{block}.downsample.0", f"{block}.downsample.1", outputs[-1], inputs, 1)
            for number, (side, output) in enumerate(zip(sides, outputs), 1):
                add(f"{block}.conv{number}", f"{block}.bn{number}", output, inputs, side)
                inputs = output
    return {**shapes, "fc.weight": (1000, inputs), "fc.bias": (1000,)}


def public_shapes(encoder: str) -> dict[str, tuple[int, ...]]:
    return hub_shapes(encoder) if encoder in MIT else torchvision_shapes(encoder)


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Of a size that keeps the signal alive through the network."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            tensors[key] = torch.tensor(7)
        elif key.endswith("running_var"):
            tensors[key] = 0.5 + torch.rand(shape, generator=generator)
        else:
            fan_in = max(1, torch.Size(shape[1:]).numel())
            tensors[key] = torch.randn(shape, generator=generator) * (1.5 / fan_in) ** 0.5
    return tensors


def built(encoder: str, device: str = "cpu", **fields: object) -> MixTransformer | ResNet:
    with torch.device(device):
        return build_encoder(
            SDCPCConfig.from_dict({"num_classes": 11, "encoder": encoder, "layer_norm_eps": EPS, **fields})
        ).eval()


def hugging_face_features(tensors: dict[str, Tensor], encoder: str, image: Tensor) -> list[Tensor]:
    """SegFormer's encoder written out with explicit attention, from tensors with the hub's keys."""

    def norm(x: Tensor, name: str) -> Tensor:
        scale, shift = tensors[f"segformer.encoder.{name}.weight"], tensors[f"segformer.encoder.{name}.bias"]
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(variance + EPS) * scale + shift

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"segformer.encoder.{name}.weight"].T + tensors[f"segformer.encoder.{name}.bias"]

    def conv(x: Tensor, name: str, **kwargs: int) -> Tensor:
        return F.conv2d(
            x, tensors[f"segformer.encoder.{name}.weight"], tensors[f"segformer.encoder.{name}.bias"], **kwargs
        )

    features, x = [], image
    for stage, (width, depth) in enumerate(zip(*MIT[encoder])):
        x = conv(x, f"patch_embeddings.{stage}.proj", stride=4 if stage == 0 else 2, padding=3 if stage == 0 else 1)
        size = x.shape[2:]
        tokens = norm(x.flatten(2).mT, f"patch_embeddings.{stage}.layer_norm")
        for index in range(depth):
            block = f"block.{stage}.{index}"
            query_source = source = norm(tokens, f"{block}.layer_norm_1")
            if MIT_REDUCTIONS[stage] > 1:
                source = conv(source.mT.unflatten(2, size), f"{block}.attention.self.sr", stride=MIT_REDUCTIONS[stage])
                source = norm(source.flatten(2).mT, f"{block}.attention.self.layer_norm")
            query = linear(query_source, f"{block}.attention.self.query")
            key = linear(source, f"{block}.attention.self.key")
            value = linear(source, f"{block}.attention.self.value")
            heads = []
            for part in range(MIT_HEADS[stage]):
                of = slice(part * width // MIT_HEADS[stage], (part + 1) * width // MIT_HEADS[stage])
                scores = query[..., of] @ key[..., of].mT / (width // MIT_HEADS[stage]) ** 0.5
                heads.append(scores.softmax(-1) @ value[..., of])
            tokens = tokens + linear(torch.cat(heads, -1), f"{block}.attention.output.dense")
            hidden = linear(norm(tokens, f"{block}.layer_norm_2"), f"{block}.mlp.dense1").mT.unflatten(2, size)
            hidden = conv(hidden, f"{block}.mlp.dwconv.dwconv", padding=1, groups=4 * width)
            tokens = tokens + linear(F.gelu(hidden).flatten(2).mT, f"{block}.mlp.dense2")
        x = norm(tokens, f"layer_norm.{stage}").mT.unflatten(2, size)
        features.append(x)
    return features


def torchvision_features(tensors: dict[str, Tensor], encoder: str, image: Tensor) -> list[Tensor]:
    """ResNet v1.5 (stride on the 3x3) written out, from tensors with torchvision's keys."""

    def conv_norm(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = tensors[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance, scale, shift = (
            tensors[f"{norm}.{leaf}"][:, None, None] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift

    expansion, depths = RESNET[encoder]
    x = F.max_pool2d(conv_norm(image, "conv1", "bn1", 2).relu(), 3, 2, 1)
    features = []
    for level, depth in enumerate(depths):
        for index in range(depth):
            block, stride = f"layer{level + 1}.{index}", 2 if level > 0 and index == 0 else 1
            strides = (stride, 1) if expansion == 1 else (1, stride, 1)
            out = x
            for number, step in enumerate(strides, 1):
                out = conv_norm(out, f"{block}.conv{number}", f"{block}.bn{number}", step)
                out = out.relu() if number < len(strides) else out
            if f"{block}.downsample.0.weight" in tensors:
                x = conv_norm(x, f"{block}.downsample.0", f"{block}.downsample.1", stride)
            x = (x + out).relu()
        features.append(x)
    return features


@pytest.mark.parametrize("encoder", [*MIT, *RESNET])
def test_every_size_takes_its_public_weights(encoder: str) -> None:
    public = {key: torch.empty(shape, device="meta") for key, shape in public_shapes(encoder).items()}
    ours = built(encoder, "meta")
    ours.load_state_dict(encoder_state(public, ours), assign=True)
    count = sum(tensor.numel() for key, tensor in public.items() if not key.startswith(("classifier", "fc")))
    assert sum(tensor.numel() for tensor in ours.state_dict().values()) == count


@pytest.mark.parametrize("encoder", MIT)
def test_every_size_takes_transformers_5_names(encoder: str) -> None:
    public = {as_transformers_5(key): torch.empty(shape, device="meta") for key, shape in hub_shapes(encoder).items()}
    assert "segformer.stages.0.blocks.0.attention.sequence_reduction.layer_norm.weight" in public
    ours = built(encoder, "meta")
    assert encoder_state(public, ours).keys() == ours.state_dict().keys()


def test_hub_weights_compute_what_segformer_computes() -> None:
    public = random_tensors(hub_shapes("mit_b0"))
    ours = built("mit_b0")
    ours.load_state_dict(encoder_state(public, ours))
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for found, expected in zip(ours(image), hugging_face_features(public, "mit_b0", image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
def test_torchvision_weights_compute_what_resnet_computes(encoder: str) -> None:
    public = random_tensors(torchvision_shapes(encoder))
    ours = built(encoder)
    ours.load_state_dict(encoder_state(public, ours))
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for found, expected in zip(ours(image), torchvision_features(public, encoder, image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_agrees_with_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (benchmarks extra)")
    torch.manual_seed(0)
    theirs = transformers.SegformerModel(transformers.SegformerConfig()).eval()
    ours = built("mit_b0")
    ours.load_state_dict(encoder_state(theirs.state_dict(), ours))
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        expected = theirs(image, output_hidden_states=True).hidden_states
        for found, wanted in zip(ours(image), expected[-4:], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_both_spellings_and_any_prefix_give_the_same_state() -> None:
    shapes = hub_shapes("mit_b0")
    public = random_tensors(shapes)
    ours = built("mit_b0", "meta")
    expected = encoder_state(public, ours)
    bare = {key.removeprefix("segformer."): tensor for key, tensor in public.items() if key.startswith("segformer.")}
    renamed = {as_transformers_5(key): tensor for key, tensor in public.items()}
    for other in (bare, renamed):
        found = encoder_state(other, ours)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_resnet_inside_a_segmentation_model_and_without_counters() -> None:
    public = random_tensors(torchvision_shapes("resnet18"))
    ours = built("resnet18", "meta")
    inside = {f"backbone.{key}": tensor for key, tensor in public.items() if not key.endswith("num_batches_tracked")}
    inside["classifier.4.weight"] = torch.zeros(21, 256, 1, 1)
    state = encoder_state(inside, ours)
    assert state.keys() == ours.state_dict().keys()
    assert torch.equal(state["layer4.1.bn2.running_var"], public["layer4.1.bn2.running_var"])
    assert state["bn1.num_batches_tracked"] == 0


def test_half_precision_becomes_float32() -> None:
    public = {key: tensor.half() for key, tensor in random_tensors(hub_shapes("mit_b0")).items()}
    state = encoder_state(public, built("mit_b0", "meta"))
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


ATTENTION = "segformer.encoder.block.0.0.attention.self"


@pytest.mark.parametrize(
    ("encoder", "changes", "message"),
    [
        ("mit_b0", {f"{ATTENTION}.value.bias": None}, r"missing segformer\.encoder\.block\.0\.0.*self\.value\.bias$"),
        ("mit_b0", {"segformer.encoder.pos_embed": (1,)}, r"unexpected segformer\.encoder\.pos_embed$"),
        ("mit_b1", {}, r"misshaped: segformer.*proj\.weight is \(32, 3, 7, 7\), \(64, 3, 7, 7\) is needed.* more$"),
        (
            *("mit_b0", {f"{ATTENTION}.key.weight": (64, 32), f"{ATTENTION}.value.weight": (0, 32)}),
            r"misshaped: .*key\.weight is \(64, 32\).*value\.weight is \(0, 32\)",
        ),
        ("resnet18", {}, r"neither 'layer1\.0\.conv1\.weight' \(torchvision\) is among"),
    ],
)
def test_what_does_not_fit_is_named(encoder: str, changes: dict[str, tuple[int, ...] | None], message: str) -> None:
    """Changes of the weights of mit_b0: other shapes, or None for a tensor that is not there."""
    shapes = {**hub_shapes("mit_b0"), **changes}
    public = {key: torch.empty(shape, device="meta") for key, shape in shapes.items() if shape is not None}
    with pytest.raises(ValueError, match=message):
        encoder_state(public, built(encoder, "meta"))


def test_a_resnet_of_another_depth_or_kind_is_named() -> None:
    public = {key: torch.empty(shape, device="meta") for key, shape in torchvision_shapes("resnet101").items()}
    with pytest.raises(ValueError, match=r"unexpected layer3\.6\.conv1\.weight, .* more$"):
        encoder_state(public, built("resnet50", "meta"))
    with pytest.raises(ValueError, match=r"neither 'encoder\.patch_embeddings\.0\.proj\.weight' .* nor 'stages"):
        encoder_state(public, built("mit_b0", "meta"))
