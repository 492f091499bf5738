"""Public weights from a file to a checkpoint, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import IMAGENET_MEAN, CheckpointError, load_checkpoint
from sdcpc_ros.model_files.import_weights import import_weights
from sdcpc_ros.network.config import SDCPCConfig
from sdcpc_ros.network.encoders import build_encoder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ResNet with torchvision's keys, which are our encoder's own."""
    torch.manual_seed(3)
    encoder = build_encoder(SDCPCConfig(1, encoder="resnet_tiny"))
    path = tmp_path_factory.mktemp("weights") / "resnet_tiny.safetensors"
    save_file({**encoder.state_dict(), "fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}, path)
    return path


THIN = {"embed_dim": 16, "key_dim": 16}


def test_checkpoint_holds_the_encoder_and_says_where_it_is_from(weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "start.safetensors"
    import_weights(weights, output, encoder="resnet_tiny", label_set=CAMVID_11, input_size=(64, 96), config_fields=THIN)
    checkpoint = load_checkpoint(output)
    model = checkpoint.build_model()
    public = load_file(weights)
    assert all(torch.equal(tensor, public[key]) for key, tensor in model.encoder.state_dict().items())
    assert checkpoint.label_set == CAMVID_11
    assert checkpoint.mean == IMAGENET_MEAN
    assert checkpoint.input_size == (64, 96)
    assert checkpoint.config.embed_dim == 16
    assert checkpoint.training["encoder_weights"] == "resnet_tiny.safetensors"
    assert checkpoint.training["steps"] == 0


def test_the_seed_decides_the_rest(weights: Path, tmp_path: Path) -> None:
    def head(seed: int) -> torch.Tensor:
        checkpoint = import_weights(
            weights,
            tmp_path / "start.safetensors",
            encoder="resnet_tiny",
            label_set=CAMVID_11,
            seed=seed,
            config_fields=THIN,
        )
        return checkpoint.state_dict["head.classify.weight"]

    state_before = torch.random.get_rng_state()
    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))
    assert torch.equal(torch.random.get_rng_state(), state_before)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "resnet18.pth"])
def test_a_pickle_is_refused_with_a_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(
        CheckpointError, match=rf"{name}: only .safetensors files are read.*safetensors.torch.save_file"
    ):
        import_weights(tmp_path / name, tmp_path / "out.safetensors", encoder="mit_b0", label_set=CAMVID_11)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors: no such model file"):
        import_weights(
            tmp_path / "nothing.safetensors", tmp_path / "o.safetensors", encoder="mit_b0", label_set=CAMVID_11
        )


def test_a_damaged_file_is_named(weights: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors: not a readable safetensors file"):
        import_weights(damaged, tmp_path / "out.safetensors", encoder="resnet18", label_set=CAMVID_11)


def test_weights_of_another_encoder_are_refused_and_nothing_is_written(weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match=r"resnet_tiny\.safetensors: as mit_b0: no weights of this kind"):
        import_weights(weights, output, encoder="mit_b0", label_set=CAMVID_11)
    with pytest.raises(CheckpointError, match=r"as resnet18: .*missing layer1.*misshaped: conv1\.weight is \(8, "):
        import_weights(weights, output, encoder="resnet18", label_set=CAMVID_11)
    assert not output.exists()


def test_the_public_weights_are_not_replaced(weights: Path) -> None:
    before = weights.read_bytes()
    with pytest.raises(CheckpointError, match="this is the input; the model needs another name"):
        import_weights(weights, weights, encoder="resnet_tiny", label_set=CAMVID_11)
    assert weights.read_bytes() == before


@pytest.mark.parametrize("fields", [{"depth": 3}, {"embed_dim": "wide"}, {"num_references": 2}])
def test_a_bad_configuration_is_refused(weights: Path, tmp_path: Path, fields: dict) -> None:
    with pytest.raises(ValueError, match=f"network configuration: .*{next(iter(fields))}"):
        import_weights(
            weights, tmp_path / "o.safetensors", encoder="resnet18", label_set=CAMVID_11, config_fields=fields
        )
