"""Whole SegFormers from a folder of the hub: the same logits, classes and normalisation, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import foreign_models as foreign
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdcpc_ros.cli import main
from sdcpc_ros.inference.step import Step, example_inputs
from sdcpc_ros.labels.label_set import CAMVID_11, CITYSCAPES_19
from sdcpc_ros.model_files.checkpoint import IMAGENET_MEAN, CheckpointError, load_checkpoint
from sdcpc_ros.model_files.import_segmenter import import_segformer
from sdcpc_ros.network.encoders import MIX_TRANSFORMERS
from sdcpc_ros.streaming.segmenter import StreamingSegmenter

pytestmark = pytest.mark.slow

CONFIG, CLASSES = foreign.SEGFORMER_CONFIG, foreign.SEGFORMER_CLASSES
_encoder, _tensors, _write = foreign.segformer_encoder, foreign.segformer_tensors, foreign.write_segformer


def _published_head(tensors: dict[str, Tensor], pyramid: list[Tensor]) -> Tensor:
    """The decode head as it is published: project, upsample, concatenate (coarsest first), mix, normalise, classify."""
    head = {name.removeprefix("decode_head."): tensor for name, tensor in tensors.items()}
    size = pyramid[0].shape[2:]
    levels = []
    for level, features in enumerate(pyramid):
        weight, bias = head[f"linear_c.{level}.proj.weight"], head[f"linear_c.{level}.proj.bias"]
        projected = F.conv2d(features, weight[:, :, None, None], bias)
        levels.append(F.interpolate(projected, size, mode="bilinear", align_corners=False))
    mixed = F.conv2d(torch.cat(levels[::-1], 1), head["linear_fuse.weight"])
    norm = [head[f"batch_norm.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
    mixed = F.relu(F.batch_norm(mixed, *norm))
    return F.conv2d(mixed, head["classifier.weight"], head["classifier.bias"])


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = _write(tmp_path_factory.mktemp("hub") / "segformer-b0-streets", CONFIG, _tensors(_encoder()))
    (folder / "README.md").write_text("---\nlicense: other\ntags:\n- vision\n---\n# A model")
    (folder / "LICENSE").write_text("1. Definitions\nResearch only.\n")
    return folder


@pytest.fixture(scope="module")
def imported(hub_folder: Path) -> Path:
    output = hub_folder.parent / "model.safetensors"
    assert main(["import-weights", str(hub_folder), "--segmenter", "segformer", "-o", str(output)]) == 0
    return output


def test_logits_are_the_published_ones(imported: Path) -> None:
    model = load_checkpoint(imported).build_model()
    image = torch.randn(2, 3, 70, 99, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = _published_head(_tensors(_encoder()), _encoder()(image))
        found = model.encode(image).logits
    assert expected.std() > 0.5
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("variant", [0, 2])
def test_logits_are_those_of_transformers(variant: int, tmp_path: Path) -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed: pip install 'sdcpc_ros[benchmarks]'")
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    channels, depths = MIX_TRANSFORMERS[f"mit_b{variant}"]
    torch.manual_seed(0)
    config = SegformerConfig(
        depths=list(depths),
        hidden_sizes=list(channels),
        decoder_hidden_size=256 if variant < 2 else 768,
        num_labels=150,
    )
    theirs = SegformerForSemanticSegmentation(config).eval()
    torch.nn.init.normal_(theirs.decode_head.classifier.weight)
    torch.nn.init.uniform_(theirs.decode_head.batch_norm.running_var, 0.5, 2)
    torch.nn.init.normal_(theirs.decode_head.batch_norm.running_mean)
    theirs.save_pretrained(tmp_path)
    ours = import_segformer(tmp_path, tmp_path / "ours.safetensors").build_model()
    image = torch.randn(1, 3, 128, 96)
    with torch.inference_mode():
        expected, found = theirs(image).logits, ours.encode(image).logits
    assert expected.std() > 0.5
    assert (found - expected).abs().max() < 1e-4


def test_classes_normalisation_size_and_licence_are_read(imported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = load_checkpoint(imported)
    assert checkpoint.label_set == CITYSCAPES_19
    assert checkpoint.mean == pytest.approx(IMAGENET_MEAN)
    assert checkpoint.input_size == (64, 96)
    assert main(["info", str(imported)]) == 0
    shown = capsys.readouterr().out
    assert "SegFormer with mit_b0" in shown
    assert "temporal path: DSSA without weights" in shown
    assert "licence: license: other" in shown
    assert "Research only." in shown
    assert "imported_from: segformer-b0-streets/model.safetensors" in shown


def test_an_unknown_label_set_gets_colours_that_differ(tmp_path: Path) -> None:
    names = {str(index): f"thing {index // 2}" for index in range(CLASSES)}  # names that come twice
    folder = _write(tmp_path / "own", {**CONFIG, "id2label": names}, _tensors(_encoder()))
    label_set = import_segformer(folder, tmp_path / "o.safetensors").label_set
    assert label_set.class_names[:2] == ("thing 0 0", "thing 0 1")
    assert len(set(label_set.colours)) == CLASSES


def test_it_streams(imported: Path, hub_folder: Path, tmp_path: Path) -> None:
    import_segformer(hub_folder, tmp_path / "m.safetensors", config_fields={"reference_offsets": [1, 3]})
    segmenter = StreamingSegmenter(tmp_path / "m.safetensors", device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (72, 104, 3), np.uint8)
    found = [segmenter.segment(image, index / 15, confidence=True) for index in range(4)]
    assert [result.references for result in found] == [0, 1, 1, 2]
    assert found[-1].labels.shape == image.shape[:2]
    assert np.array_equal(found[0].labels, segmenter.segment_single(image).labels)


def test_the_size_and_classes_may_be_given(hub_folder: Path, tmp_path: Path) -> None:
    made = import_segformer(hub_folder / "model.safetensors", tmp_path / "o.safetensors", input_size=(128, 256))
    assert made.input_size == (128, 256)
    with pytest.raises(CheckpointError, match="classifier has 19 classes, but label set 'camvid_11' has 11"):
        import_segformer(hub_folder, tmp_path / "o.safetensors", label_set=CAMVID_11)


def test_without_a_preprocessor_the_defaults_are_on_record(hub_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((hub_folder / name).read_bytes())
    made = import_segformer(tmp_path, tmp_path / "o.safetensors")
    assert made.training["preprocessing"] == "defaults, as there is no preprocessor_config.json"
    assert made.mean == IMAGENET_MEAN
    assert made.training["licence"].startswith("not stated")


def test_pickled_weights_are_refused_with_a_way_out(tmp_path: Path) -> None:
    folder = _write(tmp_path / "pickled", CONFIG)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match=r"holds pytorch_model\.bin .*never read.*safetensors\.torch\.save_file"):
        import_segformer(folder, tmp_path / "o.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "vit"}, "model_type is 'vit'; 'segformer' is needed"),
        ({"sr_ratios": [4, 4, 2, 1]}, r"sr_ratios is \[4, 4, 2, 1\]; \[8, 4, 2, 1\] is supported"),
        ({"depths": [1, 1, 1, 1]}, "none of SegFormer B0 to B5"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label: the ids are 0 to 2 with gaps"),
        ({"id2label": {"a": "b"}}, "id2label: .*a mapping from ids"),
        ({"id2label": {"0": "road"}}, "classifier has 19 classes"),
        ({"id2label": None}, "has no id2label"),
    ],
)
def test_a_config_that_does_not_fit_is_named(
    hub_folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = _write(tmp_path / "other", {**CONFIG, **change})
    (folder / "model.safetensors").write_bytes((hub_folder / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=message):
        import_segformer(folder, tmp_path / "o.safetensors")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    tensors = _tensors(_encoder())
    del tensors["decode_head.linear_c.2.proj.bias"]
    folder = _write(tmp_path / "lacking", CONFIG, tensors)
    with pytest.raises(CheckpointError, match=r"the decode head lacks linear_c\.2\.proj\.bias"):
        import_segformer(folder, tmp_path / "o.safetensors")
    headless = {name: tensor for name, tensor in tensors.items() if name.startswith("segformer")}
    folder = _write(tmp_path / "headless", CONFIG, headless)
    with pytest.raises(CheckpointError, match=r"has no decode head.*--encoder mit_b0"):
        import_segformer(folder, tmp_path / "o.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("preprocessor_config.json", '{"image_mean": [1, 2]}', "not a usable preprocessor configuration"),
        ("preprocessor_config.json", "[]", "a JSON object is needed"),
        ("config.json", "{", "not readable as JSON"),
        ("config.json", "[" * 100_000, "not readable as JSON"),
        ("preprocessor_config.json", '{"size": Infinity}', "not a usable preprocessor configuration"),
    ],
)
def test_damaged_files_are_named(hub_folder: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((hub_folder / file).read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name}: .*{message}"):
        import_segformer(tmp_path, tmp_path / "o.safetensors")


def test_the_published_weights_are_not_replaced(hub_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="this is the input"):
        import_segformer(hub_folder, hub_folder / "model.safetensors")


def test_it_exports_whole(hub_folder: Path, tmp_path: Path) -> None:
    made = import_segformer(hub_folder, tmp_path / "m.safetensors")
    step = Step(made.build_model(), made.mean, made.std)
    generator = torch.Generator().manual_seed(0)
    image, *references, age_s = example_inputs(step, (64, 96))
    image = torch.randint(0, 256, image.shape, dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        _, *memory = step(image, *references, torch.full_like(age_s, -1))
    references = [part[:, None].repeat(1, age_s.shape[1], 1, 1, 1) for part in memory]
    with torch.no_grad():
        program = torch.export.export(step, (image, *references, age_s)).module()
        for expected, found in zip(step(image, *references, age_s), program(image, *references, age_s)):
            assert torch.allclose(found, expected, atol=1e-4)
