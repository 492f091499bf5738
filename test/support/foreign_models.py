"""Small models of others, written as their tools write them: a SegFormer folder of the hub, and ONNX files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sdcpc_ros.labels.label_set import CITYSCAPES_19
from sdcpc_ros.network.encoders import MIX_TRANSFORMERS, MixTransformer
from sdcpc_ros.network.public_keys import MIX_TRANSFORMER_SPELLINGS

#: (height, width) of the ONNX models' input, unless said otherwise.
ONNX_SIZE = (64, 96)
SEGFORMER_CLASSES, _WIDTH = 19, 32
SEGFORMER_CONFIG = {
    "model_type": "segformer",
    "hidden_sizes": [32, 64, 160, 256],
    "depths": [2, 2, 2, 2],
    "decoder_hidden_size": _WIDTH,
    "num_attention_heads": [1, 2, 5, 8],
    "id2label": {str(index): name for index, name in enumerate(CITYSCAPES_19.class_names)},
}
_PREPROCESSOR = {
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "size": {"height": 64, "width": 96},
}


def segformer_encoder() -> MixTransformer:
    torch.manual_seed(0)
    channels, depths = MIX_TRANSFORMERS["mit_b0"]
    return MixTransformer(channels, depths, eps=1e-5, drop_path=0.0).eval()


def segformer_tensors(encoder: MixTransformer) -> dict[str, Tensor]:
    """As Hugging Face spells them, the decode head random."""
    spelling = MIX_TRANSFORMER_SPELLINGS["Hugging Face hub"]
    tensors: dict[str, Tensor] = {}
    for key, tensor in encoder.state_dict().items():
        names = spelling(key)
        for name, part in zip(names, tensor.chunk(len(names))):
            tensors[f"segformer.{name}"] = part.clone()
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int, scale: float = 0.1) -> Tensor:
        return scale * torch.randn(shape, generator=generator)

    for level, channels in enumerate(encoder.channels):
        tensors[f"decode_head.linear_c.{level}.proj.weight"] = random(_WIDTH, channels)
        tensors[f"decode_head.linear_c.{level}.proj.bias"] = random(_WIDTH)
    tensors["decode_head.linear_fuse.weight"] = random(_WIDTH, 4 * _WIDTH, 1, 1)
    tensors["decode_head.batch_norm.weight"] = 1 + random(_WIDTH)
    tensors["decode_head.batch_norm.bias"] = random(_WIDTH)
    tensors["decode_head.batch_norm.running_mean"] = random(_WIDTH)
    tensors["decode_head.batch_norm.running_var"] = 0.5 + random(_WIDTH).abs()
    tensors["decode_head.batch_norm.num_batches_tracked"] = torch.tensor(3)
    tensors["decode_head.classifier.weight"] = random(SEGFORMER_CLASSES, _WIDTH, 1, 1, scale=1.0)
    tensors["decode_head.classifier.bias"] = random(SEGFORMER_CLASSES)
    return tensors


def write_segformer(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR))
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors")
    return folder


def write_onnx(
    path: Path,
    output: str = "logits",
    *,
    size: tuple[int | str, int | str] = ONNX_SIZE,
    nhwc: bool = False,
    input_type: str = "FLOAT",
    output_type: str | None = None,
    opset: int = 17,
    also: bool = False,
) -> Path:
    """A segmenter whose classes are the image's channels: the brightest wins, at half the size of the image."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto
    source = "image"
    nodes = []

    def then(operator: str, **attributes: Any) -> None:
        nonlocal source
        name = f"{operator}_{len(nodes)}"
        nodes.append(helper.make_node(operator, [source], [name], **attributes))
        source = name

    if input_type != "FLOAT":
        then("Cast", to=kind.FLOAT)
    if nhwc:
        then("Transpose", perm=[0, 3, 1, 2])
    then("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    half = [side // 2 if isinstance(side, int) else None for side in size]
    shape: list[Any] = [1, 3, *half]
    element = kind.FLOAT
    if output == "probabilities":
        then("Softmax", axis=1)
    elif output == "ids":
        then("ArgMax", axis=1, keepdims=0)
        shape, element = [1, *half], kind.INT64
    if nhwc and output != "ids":
        then("Transpose", perm=[0, 2, 3, 1])
        shape = [1, *half, 3]
    if output_type is not None:
        element = getattr(kind, output_type)
        then("Cast", to=element)
    nodes.append(helper.make_node("Identity", [source], ["classes"]))
    outputs = [helper.make_tensor_value_info("classes", element, shape)]
    if also:
        nodes.append(helper.make_node("Identity", ["image"], ["again"]))
        outputs.append(helper.make_tensor_value_info("again", getattr(kind, input_type), None))
    image = [1, *size, 3] if nhwc else [1, 3, *size]
    inputs = [helper.make_tensor_value_info("image", getattr(kind, input_type), image)]
    graph = helper.make_graph(nodes, "segmenter", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, str(path))
    return path
