"""ONNX segmenters of every supported form, run and streamed; and one sentence for each file that does not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import foreign_models as foreign
import numpy as np
import pytest
import torch

from sdcpc_ros.cli import main
from sdcpc_ros.inference import BackendError, Step, check_backend
from sdcpc_ros.inference.exporting import export_step
from sdcpc_ros.labels.label_set import CAMVID_11, LabelSet, label_set_of_names
from sdcpc_ros.model_files.checkpoint import CheckpointError, load_checkpoint
from sdcpc_ros.model_files.import_onnx import OnnxOptions, _output_fields, import_onnx
from sdcpc_ros.model_files.onnx_session import OnnxError
from sdcpc_ros.network.given_logits import GivenLogitsConfig
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'sdcpc_ros[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'sdcpc_ros[onnx]'")

_model, SIZE = foreign.write_onnx, foreign.ONNX_SIZE

LABELS = label_set_of_names("colours", ["red", "green", "blue"])
RAW = OnnxOptions(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))


def _picture() -> tuple[np.ndarray, np.ndarray]:
    """An image at twice the model's size, and its labels."""
    labels = np.zeros((128, 192), np.uint8)
    labels[:, 64:128], labels[64:, 128:] = 1, 2
    return (40 + 160 * np.eye(3)[labels]).astype(np.uint8), labels


def _imported(tmp_path: Path, model: Path, options: OnnxOptions = RAW) -> Path:
    import_onnx(model, tmp_path / "model.safetensors", LABELS, options)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("output", ["logits", "probabilities", "ids"])
@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("size", [SIZE, ("height", "width")])
def test_every_form_gives_the_labels_of_the_model(
    tmp_path: Path, output: str, nhwc: bool, size: tuple[int | str, int | str]
) -> None:
    options = OnnxOptions(RAW.mean, RAW.std, size=SIZE)
    path = _imported(tmp_path, _model(tmp_path / "m.onnx", output, size=size, nhwc=nhwc), options)
    config = load_checkpoint(path).config
    assert isinstance(config, GivenLogitsConfig)
    assert (config.output, config.input_layout) == (output, "nhwc" if nhwc else "nchw")
    assert config.fixed_size == (SIZE if size == SIZE else None)
    segmenter = StreamingSegmenter(path, device="cpu")
    image, labels = _picture()
    found = [segmenter.segment(image, index / 15, confidence=True) for index in range(3)]
    assert [result.references for result in found] == [0, 1, 1]
    for result in found:
        assert (result.labels == labels).mean() > 0.95
    assert (segmenter.segment_single(image).labels == labels).mean() > 0.95


@pytest.mark.parametrize("output_type", ["UINT8", "UINT16", "UINT32", "INT32"])
def test_ids_of_any_integer_type(tmp_path: Path, output_type: str) -> None:
    path = _imported(tmp_path, _model(tmp_path / "m.onnx", "ids", output_type=output_type))
    image, labels = _picture()
    assert (StreamingSegmenter(path, device="cpu").segment(image).labels == labels).mean() > 0.95


def test_outputs_that_are_neither_numbers_nor_ids_are_refused(tmp_path: Path) -> None:
    _refused(tmp_path, _model(tmp_path / "m.onnx", "ids", output_type="STRING"), "can't convert np.ndarray of type")
    for found in (torch.zeros(1, 3, 0, 8), torch.zeros(0, 8), -torch.ones(1, 4, 8)):
        with pytest.raises(OnnxError, match=r"its output is .* are needed"):
            _output_fields(found, LABELS)


def test_pixels_as_they_are_and_bgr(tmp_path: Path) -> None:
    model = _model(tmp_path / "m.onnx", "ids", input_type="UINT8", nhwc=True)
    path = _imported(tmp_path, model, OnnxOptions(channel_order="bgr"))
    image, labels = _picture()
    found = StreamingSegmenter(path, device="cpu").segment(image).labels
    assert (found == 2 - labels).mean() > 0.95  # red is the last channel
    with pytest.raises(CheckpointError, match="--mean and --std do not go with it"):
        _imported(tmp_path, model, RAW)


def test_a_doubtful_frame_takes_classes_of_earlier_ones(tmp_path: Path) -> None:
    segmenter = StreamingSegmenter(_imported(tmp_path, _model(tmp_path / "m.onnx", "ids")), device="cpu")
    generator = np.random.default_rng(0)
    texture = generator.integers(0, 60, (16, 24, 1)).repeat(8, 0).repeat(8, 1)
    image = np.concatenate([texture + 101, texture + 100, texture], 2).astype(np.uint8)
    for index in range(3):
        assert (segmenter.segment(image, index / 15).labels == 0).mean() > 0.95
    flicker = image.copy()
    flicker[40:80, 40:80, 1] += 3  # a patch that looks the same, and has another id
    alone = (segmenter.segment_single(flicker).labels == 1).mean()
    assert alone > 0.05
    assert (segmenter.segment(flicker, 3 / 15).labels == 1).mean() < 0.7 * alone


def test_the_command_says_what_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.yaml").write_text("names: {0: red, 1: green, 2: blue}\n")
    model, output = _model(tmp_path / "m.onnx", "probabilities"), tmp_path / "o.safetensors"
    arguments = ["import-onnx", str(model), "--labels", str(tmp_path / "labels.yaml"), "-o", str(output)]
    assert main([*arguments, "--licence", "MIT"]) == 0
    said = capsys.readouterr().out
    assert "output 'classes': probabilities, (1, 3, 32, 48)" in said
    assert "size: 96 x 64 (width x height), no other" in said
    assert "assumed: ImageNet's" in said
    assert main(["info", str(output)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"an ONNX model that gives probabilities, [\d.]+ MB\n", shown)  # its parameters are not known
    assert "licence: MIT" in shown
    assert "| 1 | green |" in shown


def test_compilers_and_exports_refuse_it(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(_imported(tmp_path, _model(tmp_path / "m.onnx")))
    step = Step(checkpoint.build_model(), checkpoint.mean, checkpoint.std)
    with pytest.raises(BackendError, match="backend 'inductor' cannot compile an ONNX model; backend eager"):
        check_backend("inductor", step)
    with pytest.raises(BackendError, match="cannot be exported"):
        export_step(step, SIZE, "onnx", tmp_path / "again.onnx", {})


def test_another_size_than_the_models_is_refused(tmp_path: Path) -> None:
    path = _imported(tmp_path, _model(tmp_path / "m.onnx"))
    with pytest.raises(ValueError, match=r"the model takes \(64, 96\) \(height, width\) only"):
        StreamingSegmenter(path, device="cpu", input_size=(128, 192))
    with pytest.raises(CheckpointError, match="takes images of 96x64 px only, not 192x128"):
        _imported(tmp_path, _model(tmp_path / "m.onnx"), OnnxOptions(size=(128, 192)))


def _refused(tmp_path: Path, model: Path, message: str, labels: LabelSet = LABELS, **options: Any) -> None:
    with pytest.raises(CheckpointError, match=message):
        import_onnx(model, tmp_path / "o.safetensors", labels, OnnxOptions(**options))
    assert not (tmp_path / "o.safetensors").exists()


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    _refused(tmp_path, tmp_path / "text.onnx", r"text\.onnx: not an ONNX file")
    _refused(tmp_path, tmp_path / "nothing.onnx", "no such file")
    model = tmp_path / "m.onnx"
    _refused(tmp_path, _model(model), r"its output is \(1, 3, 32, 48\); with 11 classes", labels=CAMVID_11)
    two = label_set_of_names("two", ["a", "b"])
    _refused(tmp_path, _model(model, "ids"), "class ids up to 2, but the labels have 2 classes, 0 to 1", labels=two)
    _refused(tmp_path, _model(model, also=True), "has 2 outputs .*; name one with --output")
    _refused(tmp_path, _model(model, also=True), "has no output 'mask'; its outputs are 'classes'", output="mask")
    _refused(tmp_path, _model(model, opset=99), "opset")
    _refused(tmp_path, _model(model), "which as nhwc has 96 channels, not 3", layout="nhwc")
    _refused(tmp_path, _model(model, input_type="INT32"), r"input 'image' is tensor\(int32\)")


def test_options_that_no_model_can_have_are_refused(tmp_path: Path) -> None:
    model = _model(tmp_path / "m.onnx", size=("h", "w"))
    for size in ((-5, 64), (0, 64), (10**6, 10**6)):
        _refused(tmp_path, model, r"the input size is \(.*\); \(height, width\), each in 32..16384", size=size)
    for value in (float("nan"), float("inf"), 1e-320):
        _refused(tmp_path, model, "three stds above 0, all finite, not ", std=(value, 1.0, 1.0))
    for field in ("input_name", "output_name"):
        _refused(tmp_path, model, r"m\.onnx: the ONNX model failed", config_fields={field: "nobody"})
    with pytest.raises(ValueError, match=r"3 classes were expected"):
        import_onnx(model, tmp_path / "o.safetensors", LABELS, OnnxOptions(config_fields={"output_layout": "nhwc"}))
    assert not (tmp_path / "o.safetensors").exists()


def test_an_output_that_no_command_could_read_is_refused(tmp_path: Path) -> None:
    model, labels = _model(tmp_path / "m.onnx"), label_set_of_names("three", ["a", "b", "c"])
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("o", "m.onnx", "folder.safetensors"):
        with pytest.raises(CheckpointError, match=f"{name}: a model file needs a name that ends in .safet"):
            import_onnx(model, tmp_path / name, labels, OnnxOptions())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.safetensors", "m.onnx"]


def test_weights_in_other_files_are_refused_with_a_way_out(tmp_path: Path) -> None:
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "weight")
    node = helper.make_node("Conv", ["image", "weight"], ["classes"])
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, *SIZE]) for name in ("image", "classes")
    ]
    graph = helper.make_graph([node], "segmenter", ports[:1], ports[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, size_threshold=0)
    _refused(tmp_path, tmp_path / "m.onnx", r"keeps its weights in other files.*onnx\.save")
