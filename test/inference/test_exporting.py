"""Exported files against the network they came from: ONNX under onnxruntime, and PyTorch's own program."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sdcpc_ros.inference import BackendError, Step
from sdcpc_ros.inference.eager import EagerBackend
from sdcpc_ros.inference.exporting import export_step
from sdcpc_ros.inference.onnxruntime import ONNX_OPSET
from sdcpc_ros.inference.step import INPUT_NAMES, OUTPUT_NAMES
from sdcpc_ros.network import FrameMemory

pytestmark = pytest.mark.slow

SIZE = (64, 96)
METADATA = {"model": "tiny", "reference_offsets": "[1, 2]", "input_size": "[64, 96]"}  # as of the fixtures
DOCUMENT = Path(__file__).parents[2] / "docs" / "backends.md"


class OnnxBackend:
    """A file under onnxruntime, as a robot without PyTorch would run it."""

    def __init__(self, path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def step(self, image, references, age_s):
        inputs = {name: part.numpy() for name, part in zip(INPUT_NAMES, (image, *references, age_s))}
        logits, *memory = map(torch.from_numpy, self.session.run(list(OUTPUT_NAMES), inputs))
        return logits, FrameMemory(*memory)


def test_onnx_gives_the_networks_labels_over_a_stream(onnx_file, step: Step, video, stream):
    logits, memories = stream(OnnxBackend(onnx_file), step, video)
    expected, expected_memories = stream(EagerBackend(step), step, video)
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
    assert (logits.argmax(1) == expected.argmax(1)).float().mean() >= 0.999
    for part, wanted in zip(memories[-1], expected_memories[-1]):
        torch.testing.assert_close(part, wanted, atol=1e-3, rtol=0)


def test_the_documented_loop_is_all_it_takes(onnx_file, step: Step, video, stream, tmp_path, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "loop.py").write_text(lines)
    shutil.copy(onnx_file, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    loop = runpy.run_path("loop.py")
    labels = np.stack([loop["segment"](image.numpy()) for image in video])
    logits, _ = stream(EagerBackend(step), step, video)
    expected = torch.nn.functional.interpolate(logits, SIZE, mode="bilinear").argmax(1).numpy()
    assert (labels == expected).mean() >= 0.999
    loop["memories"].clear()
    alone = loop["segment"](video[-1].numpy())
    assert (alone != labels[-1]).mean() > 0.01  # what is remembered counts
    assert (alone == labels[-1]).mean() > 0.5


def test_an_onnx_file_says_what_it_is(onnx_file, step: Step):
    import onnx

    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    assert {(opset.domain, opset.version) for opset in model.opset_import} == {("", ONNX_OPSET)}  # standard operators
    assert METADATA.items() <= {entry.key: entry.value for entry in model.metadata_props}.items()
    assert tuple(value.name for value in model.graph.input) == INPUT_NAMES
    assert tuple(value.name for value in model.graph.output) == OUTPUT_NAMES
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["image"] == [1, *SIZE, 3] and shapes["logits"] == [1, 5, 16, 24]
    for name, part in zip(FrameMemory._fields, step.blank(SIZE)):
        assert shapes[f"memory_{name}"] == list(part.shape)
        assert shapes[f"reference_{name}"] == [1, 2, *part.shape[1:]]


def test_pixels_are_cast_before_all_else(onnx_file):
    """TensorRT takes uint8 as an input that goes to a Cast, and nowhere else."""
    import onnx

    graph = onnx.load(onnx_file).graph
    assert [node.op_type for node in graph.node if "image" in node.input] == ["Cast"]


def test_no_paths_of_this_machine_are_in_a_file(onnx_file):
    assert b"site-packages" not in onnx_file.read_bytes() and __file__.encode() not in onnx_file.read_bytes()
    assert list(onnx_file.parent.iterdir()) == [onnx_file]  # weights inside


def test_a_program_runs_without_our_code(program_file, step: Step, video, stream):
    kept = dict.fromkeys(METADATA, "")
    program = torch.export.load(program_file, extra_files=kept)
    assert kept == METADATA

    class Program:
        module = program.module()

        def step(self, image, references, age_s):
            logits, *memory = self.module(image, *references, age_s)
            return logits, FrameMemory(*memory)

    logits, _ = stream(Program(), step, video[:4])
    expected, _ = stream(EagerBackend(step), step, video[:4])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [
        ("onnx", "model.pt2", "one that ends in .onnx"),
        ("onnx", ".", "one that ends in .onnx"),
        ("torch", "model", "one that ends in .pt2"),
        ("aot", "model.pt2", "is not the name of a folder"),
        ("aot", "taken", "is not the name of a folder"),
        ("torch", "taken/model.pt2", "cannot be kept in"),
    ],
)
def test_a_bad_name_is_refused_at_once(step: Step, tmp_path, form, output, message):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BackendError, match=message) as caught:
        export_step(step, SIZE, form, tmp_path / output, {})
    assert "\n" not in str(caught.value) and "SDCPC_CACHE" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_a_missing_package_is_named_with_what_installs_it(step: Step, tmp_path, monkeypatch):
    def without_onnx(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr("importlib.import_module", without_onnx)
    with pytest.raises(BackendError, match=r"Python package 'onnx'.*pip install .*(onnx|sdcpc_ros\[export\])"):
        export_step(step, SIZE, "onnx", tmp_path / "model.onnx", {})


def test_an_export_that_fails_leaves_the_old_file(step: Step, tmp_path, monkeypatch):
    path = tmp_path / "model.pt2"
    path.write_text("the old one")

    def fail(program, file, extra_files):
        file.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.export, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        export_step(step, SIZE, "torch", path, {})
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]


def test_aot_is_refused_without_a_compiler(step: Step, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match="no 'no-such-compiler' here"):
        export_step(step, SIZE, "aot", tmp_path / "cache", {})


def test_frames_of_any_kind_agree(onnx_file, step: Step):
    """Black, white and noise, with no reference, one and all, of several ages."""
    backend, eager = OnnxBackend(onnx_file), EagerBackend(step)
    generator = np.random.default_rng(0)
    for pixels in (np.zeros((1, *SIZE, 3)), np.full((1, *SIZE, 3), 255), generator.integers(0, 256, (1, *SIZE, 3))):
        image = torch.from_numpy(pixels.astype(np.uint8))
        references = FrameMemory(*(torch.randn(1, 2, *part.shape[1:]).abs() for part in step.blank(SIZE)))
        for age_s in ([[-1.0, -1.0]], [[0.1, -1.0]], [[0.1, 0.2]], [[0.0, 30.0]]):
            logits, _ = backend.step(image, references, torch.tensor(age_s))
            expected, _ = eager.step(image, references, torch.tensor(age_s))
            torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
