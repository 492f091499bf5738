"""What public encoder weights call the tensors of ours.

SegFormer as at Hugging Face, ResNet as in torchvision and timm, EfficientNet-Lite as in timm and EfficientNet-PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sdcpc_ros.network.efficientnet_lite import EfficientNetLite
from sdcpc_ros.network.encoders import Encoder, MixTransformer

#: A module of a stage of `MixTransformer` -> what the files at the hub call it, which transformers 4 reads as they are,
#: and transformers 5.
_STAGE_NAMES = {
    "patch_embed": ("encoder.patch_embeddings.{stage}.proj", "stages.{stage}.patch_embeddings.proj"),
    "patch_norm": ("encoder.patch_embeddings.{stage}.layer_norm", "stages.{stage}.patch_embeddings.layer_norm"),
    "norm": ("encoder.layer_norm.{stage}", "stages.{stage}.layer_norm"),
}
_BLOCK_PREFIXES = ("encoder.block.{stage}.{block}", "stages.{stage}.blocks.{block}")
#: The same of a module of a block. The rows of `kv` are those of two modules, one below the other.
_BLOCK_NAMES = {
    "norm1": ("layer_norm_1", "layernorm_before"),
    "attention.q": ("attention.self.query", "attention.q_proj"),
    "attention.kv": ("attention.self.key attention.self.value", "attention.k_proj attention.v_proj"),
    "attention.reduce": ("attention.self.sr", "attention.sequence_reduction.sequence_reduction"),
    "attention.reduce_norm": ("attention.self.layer_norm", "attention.sequence_reduction.layer_norm"),
    "attention.proj": ("attention.output.dense", "attention.o_proj"),
    "norm2": ("layer_norm_2", "layernorm_after"),
    "mlp.fc1": ("mlp.dense1", "mlp.fc1"),
    "mlp.dwconv": ("mlp.dwconv.dwconv", "mlp.dwconv.dwconv"),
    "mlp.fc2": ("mlp.dense2", "mlp.fc2"),
}

#: From a key of our encoder to the public keys whose tensors, concatenated along dimension 0, are its tensor.
Spelling = Callable[[str], Sequence[str]]


def _mix_transformer_spelling(column: int) -> Spelling:
    """The spelling in this column of the tables."""

    def public_keys(key: str) -> list[str]:
        match = re.fullmatch(r"stages\.(\d+)\.(?:blocks\.(\d+)\.)?(.+)\.(\w+)", key)
        assert match is not None, key
        stage, block, module, leaf = match.groups()
        if block is None:
            names = [_STAGE_NAMES[module][column]]
        else:
            names = [f"{_BLOCK_PREFIXES[column]}.{name}" for name in _BLOCK_NAMES[module][column].split()]
        return [f"{name.format(stage=stage, block=block)}.{leaf}" for name in names]

    return public_keys


MIX_TRANSFORMER_SPELLINGS: dict[str, Spelling] = {
    "Hugging Face hub": _mix_transformer_spelling(0),
    "transformers 5": _mix_transformer_spelling(1),
}
RESNET_SPELLINGS: dict[str, Spelling] = {"torchvision": lambda key: [key]}

#: A module of `EfficientNetLite` -> its name in timm, whose first stage has no expansion and so counts differently.
_TIMM_LITE_STEM = {"stem": "conv_stem", "stem_norm": "bn1"}
_TIMM_LITE_FIRST = {"depthwise": "conv_dw", "depthwise_norm": "bn1", "project": "conv_pw", "project_norm": "bn2"}
_TIMM_LITE_BLOCK = {
    **{"expand": "conv_pw", "expand_norm": "bn1", "depthwise": "conv_dw", "depthwise_norm": "bn2"},
    **{"project": "conv_pwl", "project_norm": "bn3"},
}
#: The same in EfficientNet-PyTorch and what descends from it, where blocks are numbered through.
_NUMBERED_LITE_STEM = {"stem": "_conv_stem", "stem_norm": "_bn0"}
_NUMBERED_LITE_BLOCK = {
    **{"expand": "_expand_conv", "expand_norm": "_bn0", "depthwise": "_depthwise_conv", "depthwise_norm": "_bn1"},
    **{"project": "_project_conv", "project_norm": "_bn2"},
}


def _efficientnet_lite_spellings(encoder: EfficientNetLite) -> dict[str, Spelling]:
    depths = [len(list(stage.children())) for stage in encoder.stages]

    def timm(key: str) -> list[str]:
        if (place := _place_in_stages(key)) is None:
            return [_renamed(key, _TIMM_LITE_STEM)]
        stage, block, rest = place
        return [f"blocks.{stage}.{block}.{_renamed(rest, _TIMM_LITE_BLOCK if stage else _TIMM_LITE_FIRST)}"]

    def numbered(key: str) -> list[str]:
        if (place := _place_in_stages(key)) is None:
            return [_renamed(key, _NUMBERED_LITE_STEM)]
        stage, block, rest = place
        return [f"_blocks.{sum(depths[:stage]) + block}.{_renamed(rest, _NUMBERED_LITE_BLOCK)}"]

    return {"timm": timm, "EfficientNet-PyTorch": numbered}


def _place_in_stages(key: str) -> tuple[int, int, str] | None:
    match = re.fullmatch(r"stages\.(\d+)\.(\d+)\.(.+)", key)
    return None if match is None else (int(match[1]), int(match[2]), match[3])


def _renamed(key: str, names: Mapping[str, str]) -> str:
    module, leaf = key.split(".")
    return f"{names[module]}.{leaf}"


#: A tensor that every encoder of the kind has, to find out how a file spells it and what it puts in front.
_MIX_TRANSFORMER_ANCHOR = "stages.0.patch_embed.weight"
_RESNET_ANCHOR = "layer1.0.conv1.weight"
_EFFICIENTNET_LITE_ANCHOR = "stages.0.0.depthwise.weight"
#: What only the classifiers of these files use.
_CLASSIFIER = re.compile(r"(fc|_fc|classifier|conv_head|_conv_head)\.(weight|bias)|(_bn1|bn2)\.\w+")
#: A counter that plays no part in evaluation; older files lack it.
_OPTIONAL_LEAF = "num_batches_tracked"


def encoder_state(tensors: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Public weights as the state of `encoder`, float32. The encoder itself, which may be on "meta", is not changed.

    Keys may stand behind one prefix ("segformer.", "backbone."); what lies outside it, heads and classifiers, is left
    out. Raises ValueError naming, in the file's own spelling, what is missing, unexpected or of another shape.
    """
    if isinstance(encoder, MixTransformer):
        spelling, prefix = _find_spelling(tensors, MIX_TRANSFORMER_SPELLINGS, _MIX_TRANSFORMER_ANCHOR)
    elif isinstance(encoder, EfficientNetLite):
        spellings = _efficientnet_lite_spellings(encoder)
        spelling, prefix = _find_spelling(tensors, spellings, _EFFICIENTNET_LITE_ANCHOR)
    else:
        spelling, prefix = _find_spelling(tensors, RESNET_SPELLINGS, _RESNET_ANCHOR)

    state: dict[str, Tensor] = {}
    used = {key for key in tensors if key.startswith(prefix) and _CLASSIFIER.fullmatch(key[len(prefix) :])}
    missing: list[str] = []
    misshaped: list[str] = []
    for key, wanted in encoder.state_dict().items():
        sources = [prefix + name for name in spelling(key)]
        used.update(sources)
        absent = [source for source in sources if source not in tensors]
        if absent and key.endswith(_OPTIONAL_LEAF):
            state[key] = torch.zeros((), dtype=wanted.dtype)
        elif absent:
            missing += absent
        else:
            shape = (wanted.shape[0] // len(sources), *wanted.shape[1:]) if wanted.dim() else ()
            wrong = [source for source in sources if tensors[source].shape != shape]
            misshaped += [f"{source} is {tuple(tensors[source].shape)}, {tuple(shape)} is needed" for source in wrong]
            if not wrong:
                parts = [tensors[source].to(wanted.dtype) for source in sources]
                state[key] = torch.cat(parts) if len(parts) > 1 else parts[0].clone()
    unexpected = [key for key in tensors if key.startswith(prefix) and key not in used]
    if problems := describe_mismatch(missing, unexpected, misshaped):
        raise ValueError(f"the weights do not fit this encoder: {problems}")
    return state


def describe_mismatch(missing: Sequence[str], unexpected: Sequence[str], misshaped: Sequence[str]) -> str:
    """The tensors that do not fit a network, the first few of each kind by name; empty if all fit."""
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshaped:", misshaped))
    return "; ".join(f"{kind} {_shortened(names)}" for kind, names in kinds if names)


def _find_spelling(
    tensors: Mapping[str, Tensor], spellings: Mapping[str, Spelling], anchor: str
) -> tuple[Spelling, str]:
    """The spelling that `tensors` use, and the prefix in front of it."""
    for spelling in spellings.values():
        (public_anchor,) = spelling(anchor)
        for key in tensors:
            if key == public_anchor or key.endswith(f".{public_anchor}"):
                return spelling, key[: -len(public_anchor)]
    anchors = " nor ".join(f"'{spelling(anchor)[0]}' ({name})" for name, spelling in spellings.items())
    raise ValueError(f"no weights of this kind of encoder: neither {anchors} is among the keys {_shortened(tensors)}")


def _shortened(names: Mapping[str, Tensor] | Sequence[str], shown: int = 4) -> str:
    first = list(names)[:shown]
    return ", ".join(first) + (f" and {len(names) - shown} more" if len(names) > shown else "")
