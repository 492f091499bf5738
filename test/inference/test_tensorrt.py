"""The TensorRT backend up to the engine, which takes a GPU: the exported graph, the key, what is said without one."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sdcpc_ros.inference import BackendError, Step, check_backend, create_backend, tensorrt
from sdcpc_ros.inference.cache import file_name

pytestmark = pytest.mark.slow

SIZE = (64, 96)
#: What Torch-TensorRT 2.5 and later convert, or decompose into what they do, of the exported step's operators.
CONVERTED = {
    *("_adaptive_avg_pool2d", "_log_softmax", "_native_batch_norm_legit_no_training", "_softmax", "_to_copy", "abs"),
    *("add", "addmm", "alias", "amax", "amin", "any", "arange", "argmax", "avg_pool2d", "bitwise_and", "bitwise_not"),
    *("bitwise_or", "bmm", "cat", "clamp", "clone", "constant_pad_nd", "convolution", "div", "eq", "exp", "expand"),
    *("full", "full_like", "ge", "gt", "index_select", "le", "log", "log1p", "logical_not", "lt", "mean", "mul"),
    *("max_pool2d_with_indices", "native_layer_norm", "permute", "pow", "relu", "remainder", "scalar_tensor", "select"),
    *("sigmoid", "slice", "split_with_sizes", "squeeze", "sub", "sum", "unsqueeze", "upsample_bilinear2d", "view"),
    *("as_strided", "cos", "flip", "grid_sampler_2d", "linalg_vector_norm", "neg", "reciprocal", "round", "sin"),
    *("maximum", "sqrt", "tanh", "topk", "upsample_nearest2d", "where"),
}
#: What it leaves to PyTorch: each cuts the engine in two, so there had better be few of them.
LEFT_TO_PYTORCH = {"unfold"}
#: Statements about the graph, which it drops.
DROPPED = {"_assert_tensor_metadata"}


@pytest.fixture(scope="module")
def operators(program_file: Path) -> set[str]:
    exported = torch.export.load(program_file).run_decompositions()
    calls = (node.target for node in exported.graph.nodes if node.op == "call_function")
    return {str(target) for target in calls if isinstance(target, torch._ops.OpOverload)}


def test_every_operator_is_one_that_is_known(operators):
    names = {operator.split(".")[1] for operator in operators}
    assert names - CONVERTED - LEFT_TO_PYTORCH - DROPPED == set()


def test_no_operator_is_of_our_own_making(operators):
    """On a CPU none is registered; a GPU's kernels come as segments between engines."""
    assert {operator.split(".")[0] for operator in operators} == {"aten"}


class Gpu:
    """A step on a GPU that is not there, as far as names and checks ask."""

    def __init__(self, step: Step) -> None:
        self.mean = SimpleNamespace(device=torch.device("cuda"))
        self.dtype, self.config, self.state_dict = step.dtype, step.config, step.state_dict
        self.model = step.model


@pytest.fixture
def gpu(step: Step, monkeypatch):
    properties = SimpleNamespace(name="NVIDIA Orin", major=8, minor=7)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return Gpu(step)


def _with_versions(monkeypatch, **versions: str) -> None:
    def version(package: str) -> str:
        if package not in versions:
            raise importlib.metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_the_key_covers_gpu_and_versions(gpu, monkeypatch):
    _with_versions(monkeypatch, torch_tensorrt="2.8.0", tensorrt="10.3")
    name = file_name(tensorrt.ENGINE, gpu, SIZE)
    assert name.startswith(f"tensorrt-96x64-float32-NVIDIA_Orin-sm87-torch{torch.__version__}-")
    assert name == file_name(tensorrt.ENGINE, gpu, SIZE) != file_name(tensorrt.ENGINE, gpu, (96, 64))
    _with_versions(monkeypatch, torch_tensorrt="2.8.0", tensorrt="10.4")
    newer = file_name(tensorrt.ENGINE, gpu, SIZE)
    _with_versions(monkeypatch, torch_tensorrt="2.8.0")
    assert len({name, newer, file_name(tensorrt.ENGINE, gpu, SIZE)}) == 3


def test_a_cpu_is_refused(step: Step):
    with pytest.raises(BackendError, match="needs an NVIDIA GPU; the device asked for is cpu"):
        check_backend("tensorrt", step)


@pytest.mark.parametrize(
    "cause", ["No module named 'torch_tensorrt'", "libnvinfer.so.10: cannot open shared object file"]
)
def test_what_is_missing_is_named_with_a_way_out(gpu, monkeypatch, cause):
    def fail(name: str):
        raise ImportError(cause)

    monkeypatch.setattr(tensorrt.importlib, "import_module", fail)
    with pytest.raises(BackendError) as caught:
        check_backend("tensorrt", gpu)
    message = str(caught.value)
    assert cause in message and "pip install torch-tensorrt" in message and "--format onnx" in message
    assert "\n" not in message


class TorchTensorRT:
    """A stand-in: its engine is the exported program itself, its file holds the engine's number."""

    def __init__(self) -> None:
        self.dynamo = self
        self.calls: list[str] = []
        self.typed: list[bool] = []
        self.engines: list[torch.export.ExportedProgram] = []
        self.error: Exception | None = None

    def compile(self, exported, *, arg_inputs, min_block_size, use_explicit_typing):
        self.typed.append(use_explicit_typing)
        assert isinstance(exported, torch.export.ExportedProgram) and len(arg_inputs) == 4
        self.calls.append("compile")
        return exported

    def save(self, engine, path, *, output_format, arg_inputs):
        assert output_format == "exported_program"
        Path(path).write_text(str(len(self.engines)))
        self.engines.append(engine)
        if self.error is not None:
            raise self.error

    def load(self, path):
        self.calls.append("load")
        return self.engines[int(Path(path).read_text())]


@pytest.fixture
def fake(step: Step, monkeypatch, tmp_path):
    """The stand-in for Torch-TensorRT that the backend meets, on the CPU."""
    module = TorchTensorRT()
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt, "require_torch_tensorrt", lambda device: module)
    return module


def test_an_engine_is_built_once_and_kept(step: Step, fake, video, stream, tmp_path):
    first = create_backend("tensorrt", step, SIZE)
    second = create_backend("tensorrt", step, SIZE)
    assert fake.calls == ["compile", "load", "load"] and fake.typed == [False]
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [file_name(tensorrt.ENGINE, step, SIZE)]
    expected, _ = stream(create_backend("eager", step, SIZE), step, video[:2])
    for backend in (first, second):
        torch.testing.assert_close(stream(backend, step, video[:2])[0], expected, atol=1e-4, rtol=0)


def test_a_step_in_half_precision_keeps_its_types(make_network, fake, tmp_path):
    half = Step(make_network(), (110.0, 115.0, 120.0), (60.0, 61.0, 62.0), dtype=torch.float16)
    create_backend("tensorrt", half, SIZE)
    assert fake.typed == [True]
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [file_name(tensorrt.ENGINE, half, SIZE)]


def test_a_cache_that_cannot_be_written_is_named_before_minutes_are_spent(step: Step, fake, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BackendError, match=r"cannot be kept in .*another folder in SDCPC_CACHE"):
        create_backend("tensorrt", step, SIZE)
    assert fake.calls == []


def test_a_build_that_fails_leaves_nothing(step: Step, fake, tmp_path):
    fake.error = RuntimeError("out of memory")
    with pytest.raises(BackendError, match="could not be built for 96x64: out of memory"):
        create_backend("tensorrt", step, SIZE)
    assert list((tmp_path / "cache").iterdir()) == []
