"""Question c: SD-CPC streaming against SegFormer of the same encoder, as a user of `transformers` would run it."""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.measure import Effort, gflop, interleaved, megabytes
from benchmarks.networks import make_config, make_inputs, make_step, normalised
from benchmarks.rows import Row
from sdcpc_ros.inference import BackendError, create_backend, precision_name
from sdcpc_ros.streaming.frame_runner import capture_graph

TITLE = "c. Whole SD-CPC, streaming, against whole SegFormer of the same encoder (transformers)"
_TARGETS, _GPU_TARGETS = {"eager": 0.5, "compiled": 0.55}, {"eager": 0.8, "compiled": 0.5}
_DEPTHS = {"b0": [2, 2, 2, 2], "b2": [3, 4, 6, 3]}
_HIDDEN_SIZES = {"b0": [32, 64, 160, 256], "b2": [64, 128, 320, 512]}
_DECODER_HIDDEN_SIZE = {"b0": 256, "b2": 768}
_CLASSES = 19


def rows(effort: Effort) -> Iterator[Row]:
    """Rows as they are measured."""
    for variant in ("b0",) if effort.quick else ("b0", "b2"):
        for size in [(64, 96)] if effort.quick else [(360, 480), (512, 1024)]:
            yield from compare(f"mit_{variant}", variant, size, effort)


def compare(
    encoder: str, variant: str, size: tuple[int, int], effort: Effort, dtype: torch.dtype = torch.float32
) -> Iterator[Row]:
    """A streamed frame of SD-CPC with this encoder against SegFormer, eager and compiled; a GPU runs CUDA graphs."""
    label = f"{encoder} {size[1]}x{size[0]} {precision_name(dtype)}: SD-CPC streaming / SegFormer-{variant.upper()}"
    # Never the tiny network here: it would be no SegFormer of the same encoder.
    step = make_step(make_config(encoder, num_classes=_CLASSES), effort.device, dtype)
    image, references, age_s = make_inputs(step, size)
    calls: dict[str, Callable[[], object]] = {"ours eager": lambda: step(image, *references, age_s)}
    missing, figures = "not with --quick", dict[str, float]()
    with torch.inference_mode():
        if importlib.util.find_spec("transformers") is None:
            segformer, missing = None, 'transformers is not installed: pip install -e ".[benchmarks]"'
        else:
            label, segformer = f"{label} (sdpa)", _segformer(variant).to(effort.device, dtype)
            pixels = normalised(step, image).to(dtype).contiguous()  # it gets its pixels ready made
            calls["peer eager"] = lambda: segformer(pixels).logits
            logits = segformer(pixels).logits
            figures = {
                "ours_gflop": _on_meta(step, (image, *references, age_s)),
                "peer_gflop": _on_meta(segformer, (pixels,)),
                "ours_mb": megabytes(step.model, image, references, logits),
                "peer_mb": megabytes(segformer, pixels, logits),
            }
        if not effort.quick:
            try:
                backend = create_backend("inductor" if effort.on_gpu else "aot", step, size)
                calls["ours compiled"] = lambda: backend.step(image, references, age_s)
                if segformer is not None:
                    compiled = _compiled(segformer, pixels, effort)
                    calls["peer compiled"] = lambda: compiled(pixels)
            except BackendError as error:
                missing = str(error)
        timings = interleaved({name: capture_graph(call, effort.device) for name, call in calls.items()}, effort)
    for how, target in (_GPU_TARGETS if effort.on_gpu else _TARGETS).items():
        ours, peer = (timings.get(f"{whose} {how}") for whose in ("ours", "peer"))
        if ours is None or peer is None:
            yield Row(f"{label}, {how}", ours_ms=None if ours is None else ours.median_ms, note=missing)
            continue
        target_if_same = target if encoder == f"mit_{variant}" else None
        yield Row(f"{label}, {how}", **ours.compared_to(peer), **figures, target=target_if_same)


@torch.inference_mode(False)  # whose tensors cannot be exported
def _segformer(variant: str) -> nn.Module:
    """SegFormer with random weights and PyTorch's fused attention."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        depths=_DEPTHS[variant],
        hidden_sizes=_HIDDEN_SIZES[variant],
        decoder_hidden_size=_DECODER_HIDDEN_SIZE[variant],
        num_labels=_CLASSES,
    )
    config._attn_implementation = "sdpa"
    return SegformerForSemanticSegmentation(config).eval()


def _compiled(segformer: nn.Module, pixels: torch.Tensor, effort: Effort) -> Callable[..., object]:
    """As ours is compiled: by torch.compile on a GPU, ahead of time on a CPU."""
    if effort.on_gpu:
        return torch.compile(segformer, dynamic=False)
    with tempfile.NamedTemporaryFile(suffix=".pt2") as file, torch.inference_mode(False), torch.no_grad():
        exported = torch.export.export(segformer, (pixels.clone(),))
        torch._inductor.aoti_compile_and_package(exported, package_path=file.name, inductor_configs={"freezing": True})
        return torch._inductor.aoti_load_package(file.name, run_single_threaded=True)


def _on_meta(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """10^9 operations."""
    meta = copy.deepcopy(module).to("meta")
    return gflop(lambda: meta(*(part.to("meta") for part in inputs)))
