"""Checkpoints: the round trip, and every way a file can be wrong."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sdcpc_ros.labels.label_set import CAMVID_11, LabelSet
from sdcpc_ros.model_files.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    resolve_model,
    save_checkpoint,
)
from sdcpc_ros.network import SDCPC, SDCPCConfig


def _checkpoint(dtype=torch.float32):
    torch.manual_seed(0)
    network = SDCPC(SDCPCConfig(11, encoder="resnet_tiny", embed_dim=16, key_dim=16))
    weights = {n: t.to(dtype) if t.is_floating_point() else t for n, t in network.state_dict().items()}
    return Checkpoint(network.config, CAMVID_11, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (64, 96), weights, {"seed": 7})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, _checkpoint())
    return path


def _rewrite(path, change):
    """Alter the file's own metadata by `change`."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["sdcpc"])
    change(metadata)
    save_file(load_file(path), path, metadata={"sdcpc": json.dumps(metadata)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip(tmp_path, dtype):
    written = _checkpoint(dtype)
    save_checkpoint(tmp_path / "deep" / "model.safetensors", written)
    read = load_checkpoint(tmp_path / "deep" / "model.safetensors")
    assert (read.config, read.label_set, read.mean, read.std) == (
        written.config,
        written.label_set,
        written.mean,
        written.std,
    )
    assert read.input_size == (64, 96) and read.training == {"seed": 7}
    model = read.build_model()
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, written.state_dict[name].to(tensor.dtype))
        assert tensor.dtype in (torch.float32, torch.int64)


def test_saving_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, _checkpoint())
    before = path.read_bytes()
    monkeypatch.setattr(
        "sdcpc_ros.model_files.checkpoint.save_file", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, _checkpoint())
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.safetensors"]


def test_loading_a_model_does_not_import_the_compiler(saved):
    """Which takes PyTorch as long as all of its other imports. Encoders of every kind are built as for a checkpoint."""
    script = """if True:
        import sys, numpy, torch
        from sdcpc_ros.network import SDCPC, SDCPCConfig
        from sdcpc_ros.streaming.segmenter import StreamingSegmenter
        StreamingSegmenter(sys.argv[1], device="cpu", backend="eager").segment(numpy.zeros((64, 96, 3), numpy.uint8))
        with torch.device("meta"):
            for encoder in ("mit_b0", "resnet18", "efficientnet_lite0"):
                SDCPC(SDCPCConfig(3, encoder=encoder))
        print(*({"torch._dynamo", "torch._inductor"} & set(sys.modules)))
    """
    run = subprocess.run([sys.executable, "-c", script, str(saved)], capture_output=True, text=True)
    assert (run.returncode, run.stdout.split()) == (0, []), run.stderr


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such model file"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_pickle_is_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    for name in ("model.pth", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_an_onnx_file_is_to_be_imported(tmp_path):
    (tmp_path / "net.onnx").touch()
    with pytest.raises(CheckpointError, match=r"sdcpc import-onnx net\.onnx --labels LABELS"):
        load_checkpoint(tmp_path / "net.onnx")


@settings(max_examples=20)
@given(keep=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path_factory, keep):
    path = tmp_path_factory.mktemp("truncated") / "model.safetensors"
    save_checkpoint(path, _checkpoint(torch.float16))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(path)


def test_foreign_weights_point_to_the_import(saved):
    save_file(load_file(saved), saved)
    with pytest.raises(CheckpointError, match="import-weights"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=99), "format 99.*reads 1"),
        (lambda m: m.pop("label_set"), "damaged.*label_set"),
        (lambda m: m["network"].update(encoder="vgg"), "encoder"),
        (lambda m: m["network"].update(depth=3), "depth"),
        (lambda m: m["label_set"].update(class_names=["a"]), "colours"),
        (lambda m: m.update(input_size=[4, 4]), "input size"),
        (lambda m: m.update(normalization={"mean": [1, 2], "std": [1, 1, 1]}), "damaged"),
        (lambda m: m["normalization"].update(std=[1, 0, 1]), "std"),
        (lambda m: m["normalization"].update(mean=[1, float("nan"), 1]), "all finite, not .*nan"),
        (lambda m: m["normalization"].update(std=[1, float("inf"), 1]), "all finite, not .*inf"),
        (lambda m: m["normalization"].update(mean=[1, 10**400, 1]), "damaged"),
        (lambda m: m.update(input_size=[float("inf"), 64]), "damaged"),
    ],
)
def test_damaged_metadata_is_named(saved, change, message):
    _rewrite(saved, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(saved)
    assert str(saved) in str(caught.value)


def test_metadata_nested_without_end_are_named(saved):
    save_file(load_file(saved), saved, metadata={"sdcpc": "[" * 100_000})
    with pytest.raises(CheckpointError, match="its sdcpc metadata is damaged"):
        load_checkpoint(saved)


def test_label_set_and_network_must_agree():
    names = LabelSet("two", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    good = _checkpoint()
    with pytest.raises(CheckpointError, match="11 classes but label set 'two' has 2"):
        Checkpoint(good.config, names, good.mean, good.std, good.input_size, good.state_dict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("head.classify.bias"), "missing head.classify.bias"),
        (lambda w: w.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda w: w.update({"head.classify.bias": torch.zeros(3)}), r"head.classify.bias is \(3,\), \(11,\)"),
        (lambda w: w.update({"head.classify.bias": torch.zeros(11).char()}), "bias is torch.int8, torch.float32 is"),
        (lambda w: w.update({"head.classify.bias": torch.zeros(11) + 0j}), "bias is torch.complex64, torch.float32"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, message):
    checkpoint = _checkpoint()
    change(checkpoint.state_dict)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.build_model()


def test_a_model_is_found_by_path_and_by_name(saved, tmp_path, monkeypatch):
    assert resolve_model(str(saved)) == saved
    share = tmp_path / "prefix" / "share" / "sdcpc_ros" / "models"
    share.mkdir(parents=True)
    saved.rename(share / "mine.safetensors")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    assert resolve_model("mine") == share / "mine.safetensors"


def test_the_home_of_nobody_is_no_model():
    with pytest.raises(CheckpointError, match="no model '~nobody-here/model'"):
        resolve_model("~nobody-here/model")


def test_a_model_that_is_not_there_is_named_with_those_that_are(monkeypatch, tmp_path):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"no model 'nothing'.*shipped"):
        resolve_model("nothing")
    with pytest.raises(CheckpointError, match="no such model file"):
        resolve_model(str(tmp_path / "gone.safetensors"))
