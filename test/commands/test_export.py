"""`sdcpc export` from the command line: what it writes, what it says of it, and bad requests in one sentence."""

from __future__ import annotations

import json

import pytest
import torch

from sdcpc_ros.cli import main
from sdcpc_ros.commands import export
from sdcpc_ros.inference import exporting
from sdcpc_ros.labels.label_set import CAMVID_11, LabelSet
from sdcpc_ros.model_files.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


def test_a_program_is_written_with_all_that_it_takes_to_use_it(tiny_checkpoint, tmp_path, capsys):
    output = tmp_path / "robot" / "tiny.pt2"
    size = ["--input-size", "64", "96"]
    assert main(["export", str(tiny_checkpoint), "--format", "torch", "-o", str(output), *size]) == 0
    assert f"wrote {output} (" in capsys.readouterr().out
    metadata = dict.fromkeys(("model", "label_set", "input_size", "reference_offsets", "normalization"), "")
    program = torch.export.load(output, extra_files=metadata)
    image, fine, coarse, age_s = list(program.graph.find_nodes(op="placeholder"))[-4:]
    assert image.meta["val"].shape == (1, 64, 96, 3) and age_s.meta["val"].shape == (1, 2)
    assert fine.meta["val"].shape[:4] == (1, 2, 16, 24) and coarse.meta["val"].shape[:4] == (1, 2, 4, 6)
    assert metadata["model"] == "tiny" and json.loads(metadata["input_size"]) == [64, 96]
    assert LabelSet.from_dict(json.loads(metadata["label_set"])) == CAMVID_11
    assert json.loads(metadata["reference_offsets"]) == [1, 2]
    assert json.loads(metadata["normalization"])["mean"] == [123.7, 116.3, 103.5]


def test_the_size_is_the_models_if_none_is_given(tiny_checkpoint):
    checkpoint = load_checkpoint(tiny_checkpoint)
    assert json.loads(export.metadata("tiny", checkpoint, checkpoint.input_size)["input_size"]) == [96, 128]


def test_what_the_node_needs_is_said(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    def write(step, size, form, output, metadata):
        output.mkdir()
        (output / "network.pt2").write_bytes(b"x")
        return output / "network.pt2"

    monkeypatch.setattr(exporting, "export_step", write)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ["export", str(tiny_checkpoint), "--format", "aot", "-o", str(tmp_path / "cache"), "--device", "auto"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"SDCPC_CACHE={tmp_path / 'cache'}" in said
    assert "backend: aot, precision: float32, input_height: 96, input_width: 128" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.safetensors", "--format", "torch", "-o", "x.pt2"], "no such model file"),
        (["MODEL", "--format", "torch", "-o", "OUT/x.onnx"], "one that ends in .pt2"),
        (["MODEL", "--format", "torch", "-o", "OUT/x.pt2", "--input-size", "16", "96"], "32 to 8192"),
        (["MODEL", "--format", "torch", "-o", "OUT/x.pt2", "--device", "tpu"], "not a device"),
        (["MODEL", "--format", "tensorrt", "-o", "OUT", "--device", "cpu"], "needs an NVIDIA GPU"),
    ],
)
def test_a_bad_request_is_one_sentence(tiny_checkpoint, tmp_path, capsys, arguments, message):
    names = {"MODEL": str(tiny_checkpoint)}
    arguments = [names.get(argument, argument.replace("OUT", str(tmp_path))) for argument in arguments]
    assert main(["export", *arguments]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said and said.startswith("sdcpc export: ") and len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_formats_are_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["export", "model", "--format", "coreml", "-o", "x"])
    said = capsys.readouterr().err
    assert all(form in said.partition("choose from")[2] for form in exporting.FORMATS)
