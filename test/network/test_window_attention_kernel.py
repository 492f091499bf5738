"""The Triton kernel against the definition, run by Triton's interpreter: no GPU is needed, the `triton` package is."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

_SPEC = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("window_attention_oracle.py"))
_ORACLE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_ORACLE)

if importlib.util.find_spec("triton") is None:
    pytest.skip(
        "no triton here: PyTorch's CUDA builds bring it; with a CPU build of 2.13, pip install --no-deps triton==3.7.1",
        allow_module_level=True,
    )

# Name: B, d, Dv, h, w, radius; type, or those of queries and keys, and of values; maps that are not valid;
# multiprocessors, of which many make for small tiles. Names in TERMS have further terms.
CASES = {
    "borders and ragged tiles": ((3, 16, 16, 9, 11, 2), torch.float32, (), 1),
    "small tiles": ((3, 20, 12, 6, 9, 4), torch.float32, (), 1000),
    "a window of one": ((2, 5, 3, 3, 11, 0), torch.float32, (), 1),
    "a frame of one": ((2, 8, 8, 1, 1, 3), torch.float32, (), 1),
    "missing references": ((4, 8, 8, 5, 6, 1), torch.float32, (1, 3), 1),
    "more values than keys": ((2, 8, 24, 6, 5, 1), torch.float32, (0,), 1),
    "half precision": ((2, 16, 16, 9, 7, 2), torch.float16, (), 1),
    "bfloat16": ((2, 16, 16, 9, 7, 2), torch.bfloat16, (), 1),
    "autocast": ((2, 16, 21, 9, 7, 2), (torch.float16, torch.float32), (1,), 1),
    "autocast to bfloat16": ((2, 16, 21, 9, 7, 2), (torch.bfloat16, torch.float32), (), 1000),
    "half values": ((2, 16, 16, 9, 7, 2), (torch.float32, torch.float16), (), 1),
    "both halves": ((2, 16, 16, 9, 7, 2), (torch.float16, torch.bfloat16), (), 1),
    "position": ((2, 12, 5, 9, 11, 2), torch.float32, (1,), 1),
    "gathered": ((2, 12, 5, 9, 11, 2), torch.float32, (), 1000),
    "stage 1": ((2, 28, 1, 13, 10, 4), torch.float16, (), 1000),
    "stage 2": ((2, 28, 31, 13, 10, 2), torch.float16, (), 1),
}
#: Scale, position weight, and whether keys and values are gathered.
TERMS = {
    "position": (0.3, 0.7, False),
    "gathered": (0.3, None, True),
    "stage 1": (1.0, 0.9, False),
    "stage 2": (1.0, 0.4, True),
}
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}

# Reads the tensors of all cases, runs the kernel on each and writes its results: in a process of its own, as the
# interpreter has to be chosen before Triton is imported, and would stay.
_CHILD = """
import sys
from safetensors.torch import load_file, save_file
from sdcpc_ros.network.window_attention.portable import Inputs
from sdcpc_ros.network.window_attention.triton_kernel import launch

tensors, results = load_file(sys.argv[1]), {}
for case in sorted({name.split("/")[0] for name in tensors}):
    query, keys, values, valid, options = (
        tensors[f"{case}/{part}"] for part in ("query", "keys", "values", "valid", "options")
    )
    radius, processors = options.tolist()
    scale, weight, index = (tensors.get(f"{case}/{part}") for part in ("scale", "position_weight", "gather_index"))
    scale = query.shape[1] ** -0.5 if scale is None else float(scale)
    # As they lie in the frame buffer, channels last; values stay as they are, so that both layouts are read.
    query, keys = (part.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for part in (query, keys))
    inputs = Inputs(query, keys, values, valid, radius, True, scale, weight, index)
    output, offset = launch(inputs, processors)
    results |= {f"{case}/output": output, f"{case}/offset": offset}
    same, none = launch(inputs._replace(with_offset=False), processors)
    assert none.numel() == 0 and (same == output).all()
save_file(results, sys.argv[2])
"""


def _inputs(case: str) -> dict[str, torch.Tensor]:
    (batch, channels, value_channels, height, width, radius), types, missing, processors = CASES[case]
    dtype, value_dtype = (types, types) if isinstance(types, torch.dtype) else types
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(batch, count, height, width, generator=generator).to(of)
        for name, count, of in (
            *(("query", channels, dtype), ("keys", channels, dtype)),
            ("values", value_channels, value_dtype),
        )
    }
    if case in TERMS:
        scale, weight, gathered = TERMS[case]
        tensors["scale"] = torch.tensor(scale)
        if weight is not None:
            tensors["position_weight"] = torch.tensor(weight)
        if gathered:
            tensors["gather_index"] = torch.randint(0, height * width, (batch, height, width), generator=generator)
    valid = torch.tensor([index not in missing for index in range(batch)])
    return tensors | {"valid": valid, "options": torch.tensor([radius, processors])}


@pytest.fixture(scope="module")
def kernel_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("kernel")
    save_file(
        {f"{case}/{name}": x for case in CASES for name, x in _inputs(case).items()}, folder / "inputs.safetensors"
    )
    subprocess.run(
        [sys.executable, "-c", _CHILD, folder / "inputs.safetensors", folder / "results.safetensors"],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
    )
    return load_file(folder / "results.safetensors")


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_equals_the_definition(kernel_results: dict[str, torch.Tensor], case: str) -> None:
    inputs = _inputs(case)
    query, keys, values = (inputs[name].double().numpy() for name in ("query", "keys", "values"))
    radius, valid = int(inputs["options"][0]), inputs["valid"].numpy()
    # Logits are in float32 always, weights and the output of the values' type.
    dtype = inputs["values"].dtype
    tolerance = TOLERANCE[torch.promote_types(inputs["query"].dtype, dtype)]
    terms = {
        name: inputs[name].double().numpy() if inputs[name].is_floating_point() else inputs[name].numpy()
        for name in ("scale", "position_weight", "gather_index")
        if name in inputs
    }
    output, logits = _ORACLE.window_attention_oracle(query, keys, values, radius, valid, **terms)

    found, offsets = kernel_results[f"{case}/output"], kernel_results[f"{case}/offset"]
    assert found.dtype == dtype and offsets.dtype == torch.int64
    np.testing.assert_allclose(found.permute(0, 3, 1, 2).double().numpy(), output, atol=TOLERANCE[dtype])
    offsets = offsets.numpy()
    assert not offsets[~valid].any()
    for (b, y, x), candidates in logits.items():
        if valid[b]:  # a KeyError would be an offset out of the window or frame
            assert candidates[tuple(offsets[b, :, y, x])] == pytest.approx(max(candidates.values()), abs=tolerance)


# Type of queries and keys, type of values, channels, tile, compute capability.
COMPILED = [
    (torch.bfloat16, torch.bfloat16, 64, 8, 90),
    (torch.float16, torch.float16, 128, 8, 80),
    (torch.float32, torch.float32, 256, 8, 87),
    (torch.float16, torch.float32, 128, 8, 80),
    (torch.bfloat16, torch.float32, 256, 8, 90),
    (torch.float32, torch.bfloat16, 64, 8, 90),
]


@pytest.fixture
def compile_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Compiles the kernel for channels-last maps, down to machine code, by the assembler that comes with Triton."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiler = pytest.importorskip("triton.compiler")
    from triton.backends.compiler import GPUTarget

    from sdcpc_ros.network.window_attention import triton_kernel

    elements = {torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32"}

    def compile_for(
        capability: int,
        dtype: torch.dtype,
        value_dtype: torch.dtype,
        *,
        channels: tuple[int, int],
        tile: int,
        radius: int,
        with_offset: bool,
        with_position: bool = True,
        with_index: bool = True,
    ) -> Any:
        wider = torch.promote_types(dtype, value_dtype)
        constants, options = triton_kernel.choices(wider, *channels, tile)
        constants |= {"RADIUS": radius, "WITH_OFFSET": with_offset, "INTERPRETED": False}
        constants |= {"WITH_POSITION": with_position, "WITH_INDEX": with_index}
        constants |= {} if with_index else {"gather_index": None}
        constants |= dict.fromkeys(("query_sc", "key_sc", "value_sc"), 1)
        types = dict.fromkeys(("query", "keys"), elements[dtype])
        types |= dict.fromkeys(("values", "output"), elements[value_dtype])
        types |= {"valid": "*i1", "argmax_offset": "*i64", "scale": "fp32"}
        types |= {"position_weight": "*fp32", "gather_index": "*i32"}
        kernel = triton_kernel._window_attention
        signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
        source = compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
        return compiler.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

    return compile_for


@pytest.mark.parametrize(("dtype", "value_dtype", "channels", "tile", "capability"), COMPILED)
def test_the_kernel_compiles_for_a_gpu_and_fits_it(
    dtype: torch.dtype,
    value_dtype: torch.dtype,
    channels: int,
    tile: int,
    capability: int,
    compile_kernel: Callable[..., Any],
) -> None:
    """Of every mixture of types, with all that it can do."""
    compiled = compile_kernel(
        *(capability, dtype, value_dtype),
        **{"channels": (channels, channels), "tile": tile, "radius": 4},
        with_offset=True,
    )
    assert compiled.metadata.shared <= 99 * 1024
    assert len(compiled.asm["cubin"]) > 0


# What DSSA asks for, of each reference by itself: channels of keys and values, tile, radius.
STAGES = {
    "stage 1": {"channels": (60, 19), "tile": 4, "radius": 4, "with_offset": True, "with_index": False},
    "stage 2": {"channels": (28, 47), "tile": 8, "radius": 2, "with_offset": False},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "capability"),
    [*((torch.float16, capability) for capability in (80, 87, 89, 90)), (torch.float32, 80), (torch.float32, 90)],
)
@pytest.mark.parametrize("stage", STAGES)
def test_the_networks_kernels_spill_hardly_a_register(
    stage: str,
    dtype: torch.dtype,
    capability: int,
    compile_kernel: Callable[..., Any],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """For A100, Orin, RTX 40 and H100: figures of the assembler, which `pytest -rP` shows."""
    compiled = compile_kernel(capability, dtype, dtype, **STAGES[stage])
    usage = _resource_usage(compiled.asm["cubin"], tmp_path)
    usage["SHARED"] = compiled.metadata.shared  # given at launch, so not in the file
    print(f"sm_{capability}, {stage}, {dtype}: {usage}")
    for name, value in usage.items():
        record_property(name, value)
    assert 0 < usage["REG"] <= 255
    # In stage 2 in float32 a few are spilt on sm_80: 40 bytes a thread.
    assert usage["LOCAL"] == 0 and usage["STACK"] <= (0 if dtype == torch.float16 else 64)
    assert usage["SHARED"] <= 99 * 1024


def _resource_usage(machine_code: bytes, folder: Path) -> dict[str, int]:
    """Registers a thread, bytes of stack and of local memory, as Triton's own `cuobjdump` reads them."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.is_file():
        pytest.skip(f"this build of Triton {triton.__version__} comes without cuobjdump")
    file = folder / "kernel.cubin"
    file.write_bytes(machine_code)
    said = subprocess.run([tool, "-res-usage", file], check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in said.splitlines() if "REG:" in line]
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", line)}
