"""Question c: SD-CPC streaming against SegFormer of the same encoder, as a user of `transformers` would run it."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.measure import Effort, gflop, interleaved, megabytes
from benchmarks.networks import make_config, make_inputs, make_step, normalised
from benchmarks.rows import Row
from sdcpc_ros.inference import BackendError, create_backend

TITLE = "c. Whole SD-CPC, streaming, against whole SegFormer of the same encoder (transformers)"
_TARGETS = {"eager": 0.5, "compiled": 0.55}
_DEPTHS = {"b0": [2, 2, 2, 2], "b2": [3, 4, 6, 3]}
_HIDDEN_SIZES = {"b0": [32, 64, 160, 256], "b2": [64, 128, 320, 512]}
_DECODER_HIDDEN_SIZE = {"b0": 256, "b2": 768}
_CLASSES = 19


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    if importlib.util.find_spec("transformers") is None:
        yield Row("SD-CPC / SegFormer", note='transformers is not installed: pip install -e ".[benchmarks]"')
        return
    sizes = [(64, 96)] if effort.quick else [(360, 480), (512, 1024)]
    for variant in ("b0",) if effort.quick else ("b0", "b2"):
        for size in sizes:
            yield from _one_size(variant, size, effort)


def _one_size(variant: str, size: tuple[int, int], effort: Effort) -> Iterator[Row]:
    # Never the tiny network here: it would be no SegFormer of the same encoder.
    step = make_step(make_config(f"mit_{variant}", num_classes=_CLASSES), effort.device)
    image, references, age_s = make_inputs(step, size)
    segformer, attention = _segformer(variant, effort.device)
    pixels = normalised(step, image).contiguous()  # it gets its pixels ready made
    label = f"MiT-{variant.upper()} {size[1]}x{size[0]}"
    with torch.inference_mode():
        calls: dict[str, Callable[[], object]] = {
            "ours eager": lambda: step(image, *references, age_s),
            "peer eager": lambda: segformer(pixels),
        }
        missing = ""
        if not effort.quick:
            try:
                backend = create_backend("inductor", step, size)
                calls["ours compiled"] = lambda: backend.step(image, references, age_s)
                # The options that ours is compiled with.
                options = {} if effort.on_gpu else {"freezing": True}
                compiled = torch.compile(segformer, dynamic=False, options=options)
                calls["peer compiled"] = lambda: compiled(pixels)
            except BackendError as error:
                missing = str(error)
        timings = interleaved(calls, effort)
        logits = segformer(pixels).logits
        ours_gflop = _on_meta(step, (image, *references, age_s))
        peer_gflop = _on_meta(segformer, (pixels,))
    for how, target in _TARGETS.items():
        name = f"{label}: SD-CPC streaming / SegFormer ({attention}), {how}"
        if f"ours {how}" not in timings:
            yield Row(name, note=missing or "not with --quick")
            continue
        yield Row(
            name,
            **timings[f"ours {how}"].compared_to(timings[f"peer {how}"]),
            target=target,
            ours_gflop=ours_gflop,
            peer_gflop=peer_gflop,
            ours_mb=megabytes(step.model, image, references, logits),
            peer_mb=megabytes(segformer, pixels, logits),
        )


def _segformer(variant: str, device: torch.device) -> tuple[nn.Module, str]:
    """SegFormer with random weights, and the attention it uses: PyTorch's fused one where this transformers has it."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        depths=_DEPTHS[variant],
        hidden_sizes=_HIDDEN_SIZES[variant],
        decoder_hidden_size=_DECODER_HIDDEN_SIZE[variant],
        num_labels=_CLASSES,
    )
    for attention in ("sdpa", "eager"):
        try:
            config._attn_implementation = attention
            model = SegformerForSemanticSegmentation(config)
        except (ValueError, ImportError):  # transformers before 5 knows no other than its own
            continue
        return model.eval().to(device), attention
    raise RuntimeError("transformers takes neither of its own attention implementations for SegFormer")


def _on_meta(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """10^9 operations."""
    meta = copy.deepcopy(module).to("meta")
    meta_inputs = tuple(part.to("meta") for part in inputs)
    return gflop(lambda: meta(*meta_inputs))
