"""Backend onnxruntime: eager's labels by the CPU provider, what is kept on disk, and the other providers."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sdcpc_ros.inference import Backend, BackendError, Step, check_backend, create_backend
from sdcpc_ros.inference.cache import file_name
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.inference.onnxruntime import MODEL
from sdcpc_ros.model_files.onnx_session import OnnxError, OnnxSession, new_session
from sdcpc_ros.network import FrameMemory

pytestmark = pytest.mark.slow

MEAN, STD = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)  # as of the fixture `step`
SIZE = (64, 96)

onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")


@pytest.fixture(scope="module")
def half_step(make_network) -> Step:
    return Step(make_network(), MEAN, STD, dtype=torch.float16)


@pytest.fixture(scope="module")
def models(step: Step, half_step: Step, onnx_file: Path, tmp_path_factory) -> Path:
    """A cache folder with the model in both precisions: one copied there, one that the backend exports itself."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(onnx_file, folder / file_name(MODEL, step, SIZE))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SDCPC_CACHE", str(folder))
        create_backend("onnxruntime", half_step, SIZE)
    return folder


@pytest.fixture
def cache_of_models(models: Path, monkeypatch) -> Path:
    monkeypatch.setenv("SDCPC_CACHE", str(models))
    return models


def _without_exporter(monkeypatch) -> None:
    def refuse(name: str):
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", refuse)


def _backend(step: Step) -> Backend:
    return create_backend("onnxruntime", step, SIZE)


@pytest.mark.slow
@pytest.mark.timeout(900)  # exports, which takes minutes on a busy machine
@pytest.mark.parametrize(("precision", "tolerance", "far"), [("float32", 1e-3, 0.0), ("float16", 3e-2, 0.02)])
def test_it_gives_eagers_labels_over_a_stream(
    precision, tolerance, far, step, half_step, cache_of_models, video, stream
):
    """From the first frame on, which has no reference. In float16 places that fit equally well may change ranks."""
    own = step if precision == "float32" else half_step
    logits, memories = stream(_backend(own), own, video)
    expected, expected_memories = stream(EagerBackend(own), own, video)
    assert logits.dtype == torch.float32
    assert (logits.argmax(1) == expected.argmax(1)).float().mean() >= 0.999 - far / 2
    assert ((logits - expected).abs() > tolerance).float().mean() <= far
    for part, wanted in zip(memories[-1], expected_memories[-1]):
        assert part.dtype == own.dtype and ((part - wanted).abs() > tolerance).float().mean() <= far


def test_what_a_missing_reference_holds_does_not_matter(step, cache_of_models, video):
    backend = _backend(step)
    blank = FrameMemory(*(part[:, None].repeat(1, 2, 1, 1, 1) for part in step.blank(SIZE)))
    _, memory = backend.step(video[:1], blank, torch.full((1, 2), -1.0))
    logits = [
        backend.step(
            video[1:2],
            FrameMemory(*(torch.stack((part, torch.full_like(part, value)), 1) for part in memory)),
            torch.tensor([ages]),
        )[0]
        for value, ages in ((0.0, (0.1, -1.0)), (-1e30, (0.1, -1.0)), (0.0, (-1.0, -1.0)))
    ]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=0)
    assert (logits[0] - logits[2]).abs().max() > 1e-3  # the one that is there counts


def test_memories_outlive_the_next_frame(step, cache_of_models, video):
    """Nothing is written over that was handed out."""
    backend = _backend(step)
    blank = FrameMemory(*(part[:, None].repeat(1, 2, 1, 1, 1) for part in step.blank(SIZE)))
    none = torch.full((1, 2), -1.0)
    logits, memory = backend.step(video[:1], blank, none)
    kept = [part.clone() for part in (logits, *memory)]
    backend.step(video[5:6], blank, none)
    assert all((part == before).all() for part, before in zip((logits, *memory), kept))


def test_a_model_is_found_by_a_robot_that_cannot_export(step, cache_of_models, monkeypatch):
    _without_exporter(monkeypatch)
    check_backend("onnxruntime", step)
    _backend(step)
    with pytest.raises(BackendError, match=r"Python package 'onnx'.*pip install .*(onnx|sdcpc_ros\[export\])"):
        create_backend("onnxruntime", step, (64, 64))


def test_a_robot_without_model_and_exporter_is_told_what_to_do(step, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    _without_exporter(monkeypatch)
    sought, advice = r"no model '.*/onnxruntime-\*-float32-\*\.onnx'", "'onnx'.*sdcpc export --format onnxruntime"
    with pytest.raises(BackendError, match=f"{sought}.*{advice}"):
        check_backend("onnxruntime", step)


def test_a_name_is_the_same_on_every_machine(step, half_step, monkeypatch):
    names = {file_name(MODEL, step, SIZE), file_name(MODEL, half_step, SIZE), file_name(MODEL, step, (64, 64))}
    assert len(names) == 3 and all(name.startswith("onnxruntime-") for name in names)
    monkeypatch.setattr(torch, "__version__", "2.8.0")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert file_name(MODEL, step, SIZE) in names


def test_a_model_that_anyone_could_have_written_is_not_run(step, cache_of_models, tmp_path, monkeypatch):
    model = Path(shutil.copy(cache_of_models / file_name(MODEL, step, SIZE), tmp_path))
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    model.chmod(0o666)
    with pytest.raises(BackendError, match="writable by everyone"):
        _backend(step)


def test_a_damaged_model_is_named(step, tmp_path, monkeypatch):
    monkeypatch.setenv("SDCPC_CACHE", str(tmp_path))
    (tmp_path / file_name(MODEL, step, SIZE)).write_bytes(b"half of it")
    with pytest.raises(BackendError, match=r"^backend 'onnxruntime': not an ONNX file, or a damaged one$"):
        _backend(step)


def test_bfloat16_is_refused(make_network):
    with pytest.raises(BackendError, match="float32 or float16; precision 'bfloat16' is not supported"):
        check_backend("onnxruntime", Step(make_network(), MEAN, STD, dtype=torch.bfloat16))


def test_a_half_precision_model_is_typed_throughout(half_step, cache_of_models):
    """So that a runtime needs no flag: float16 where the work is, no Cast undone by the next, and few at all."""
    model = onnx.shape_inference.infer_shapes(onnx.load(cache_of_models / file_name(MODEL, half_step, SIZE)))
    half, graph = onnx.TensorProto.FLOAT16, model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    work = [node for node in graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    others = [node.name for node in work if {types[name] for name in node.input if name in types} != {half}]
    assert len(work) > 40 and len(others) <= 1  # neighbours' offsets at stride 16 are compared by a float32 convolution
    casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    floats = (half, onnx.TensorProto.FLOAT)
    assert not [name for name, source in casts.items() if source in casts and types.get(casts[source]) in floats]
    assert len(casts) <= len(graph.node) / 10


class _Session:
    """In place of onnxruntime's: remembers how it was made, and has the providers that can be loaded."""

    loadable: tuple[str, ...] = ()

    def __init__(self, model, options, providers) -> None:
        self.providers = providers

    def get_providers(self) -> list[str]:
        return [*self.loadable, "CPUExecutionProvider"]


@pytest.fixture
def gpu_runtime(monkeypatch):
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", _Session)
    monkeypatch.setattr(_Session, "loadable", tuple(providers[:2]))


def test_tensorrt_comes_first_on_a_gpu_where_it_is_asked_for(gpu_runtime):
    session = new_session(b"", torch.device("cuda:1"), tensorrt={"trt_fp16_enable": "True"})
    assert session.providers == [
        ("TensorrtExecutionProvider", {"device_id": "1", "trt_fp16_enable": "True"}),
        ("CUDAExecutionProvider", {"device_id": "1"}),
        ("CPUExecutionProvider", {}),
    ]
    assert new_session(b"", torch.device("cuda")).providers[0][0] == "CUDAExecutionProvider"


def test_an_imported_model_runs_on_the_gpu_of_its_images(gpu_runtime, monkeypatch):
    made = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, providers: made.append(providers) or _Session)
    monkeypatch.setattr(_Session, "get_providers", lambda: ["CUDAExecutionProvider"])
    image = SimpleNamespace(device=torch.device("cuda:1"), shape=(1, 3, 32, 32))
    with pytest.raises(OnnxError, match="the ONNX model failed"):  # there is no GPU here
        OnnxSession(b"").runner("input", "output")(image)
    assert made == [[("CUDAExecutionProvider", {"device_id": "1"}), ("CPUExecutionProvider", {})]]


def test_a_gpu_provider_that_cannot_be_loaded_is_not_replaced_by_the_cpu(gpu_runtime, monkeypatch):
    monkeypatch.setattr(_Session, "loadable", ())
    with pytest.raises(OnnxError, match="has CUDAExecutionProvider but cannot load it"):
        new_session(b"", torch.device("cuda"))


def test_a_runtime_for_the_cpu_only_is_named(step, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    gpu = SimpleNamespace(mean=SimpleNamespace(device=torch.device("cuda")), model=step.model)
    with pytest.raises(BackendError, match=r"^backend 'onnxruntime': onnxruntime .* but not CUDAExecutionProvider"):
        check_backend("onnxruntime", gpu)
