"""The `sdcpc` command, as a user types it for the main paths and in process for the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sdcpc_ros
from sdcpc_ros import DEFAULT_MODEL, cli, inference
from sdcpc_ros.commands import model_options
from sdcpc_ros.labels.label_set import CAMVID_11, LabelSet
from sdcpc_ros.model_files.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.runtime.openmp import SETTINGS

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[1]
THIN = {"encoder": "resnet_tiny", "embed_dim": 16, "key_dim": 16}


def sdcpc(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as the issue types it."""
    return subprocess.run(
        [sys.executable, "-m", "sdcpc_ros.cli", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write_model(path: Path, label_set: LabelSet) -> Path:
    torch.manual_seed(0)
    config = SDCPCConfig.from_dict({**THIN, "num_classes": len(label_set)})
    state, record = SDCPC(config).state_dict(), {"data": "none: random weights", "seed": 0}
    normalization = {"mean": (120.0, 120.0, 120.0), "std": (60.0, 60.0, 60.0)}
    save_checkpoint(
        path, Checkpoint(config, label_set, **normalization, input_size=(64, 96), state_dict=state, training=record)
    )
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "thin.safetensors", CAMVID_11)


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of noise, all road."""
    root = tmp_path_factory.mktemp("camvid")
    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / "val" / folder).mkdir(parents=True)
    for number in range(10):
        name = f"0016E5_{number:05d}.png"
        assert cv2.imwrite(str(root / "val" / "images" / name), random.integers(0, 256, (64, 96, 3), np.uint8))
        assert cv2.imwrite(str(root / "val" / "labels" / name), np.full((64, 96), 3, np.uint8))
    return root


class TestErrorsAreOneSentence:
    def fails(self, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
        assert cli.main([str(argument) for argument in arguments]) == 1
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        return captured.err

    def test_as_the_user_sees_it(self, model: Path, tmp_path: Path) -> None:
        done = sdcpc("evaluate", "--dataset", "camvid", "--root", tmp_path, "--model", model)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("sdcpc evaluate: no folder")
        assert "Traceback" not in done.stderr

    def test_unknown_model(self, camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
        message = self.fails(capsys, "evaluate", "--dataset", "camvid", "--root", camvid, "--model", "no_such_model")
        assert message.startswith("sdcpc evaluate: no model 'no_such_model'")

    def test_model_of_other_classes(self, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        two = LabelSet("two", ("ground", "thing"), ((0, 0, 0), (255, 0, 0)))
        path = write_model(tmp_path / "two.safetensors", two)
        message = self.fails(capsys, "evaluate", "--dataset", "camvid", "--root", camvid, "--model", path)
        assert "the model's classes are 'two' (ground, thing); CamVid val has 'camvid_11' (sky, " in message

    def test_bad_device(self, model: Path, camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = ("evaluate", "--dataset", "camvid", "--root", camvid, "--model", model, "--device", "tpu")
        assert "tpu" in self.fails(capsys, *command)

    def test_a_file_that_cannot_be_written(
        self, model: Path, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ("evaluate", "--dataset", "camvid", "--root", camvid, "--model", model, "--json")
        message = self.fails(capsys, *command, "/proc/scores.json")  # where even root writes nothing
        assert message.startswith("sdcpc evaluate: ") and "/proc" in message
        with pytest.raises(SystemExit) as refused:
            cli.main([str(part) for part in (*command, tmp_path)])
        assert refused.value.code == 2
        assert f"'{tmp_path}' is a folder" in capsys.readouterr().err

    def test_bad_recipe(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("- not\n- a mapping\n")
        message = self.fails(capsys, "train", "--config", recipe, "--root", tmp_path, "--output", tmp_path / "out")
        assert message.startswith("sdcpc train: ")
        assert "recipe.yaml" in message

    def test_a_bug_is_not_dressed_up(self, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
        monkeypatch.setattr("sdcpc_ros.model_files.model_card.model_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cli.main(["info", str(model)])


def test_import_weights_then_info(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder = SDCPC(SDCPCConfig.from_dict({**THIN, "num_classes": 2})).encoder.state_dict()
    save_file(encoder, tmp_path / "public.safetensors")
    (tmp_path / "labels.json").write_text(
        json.dumps({"name": "farm", "class_names": ["soil", "crop"], "colours": [[90, 60, 20], [0, 200, 0]]})
    )
    output = tmp_path / "start.safetensors"
    done = sdcpc(
        *("import-weights", tmp_path / "public.safetensors", "--encoder", "resnet_tiny", "-o", output),
        *("--label-set", tmp_path / "labels.json", "--input-size", "128", "160", "--seed", "4"),
        *("--set", "embed_dim=16", "--set", "reference_offsets=[2,4]"),
        *("--set", "recurrent=false"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    checkpoint = load_checkpoint(output)
    assert checkpoint.config.reference_offsets == (2, 4)
    assert checkpoint.config.recurrent is False
    assert checkpoint.input_size == (128, 160)

    done = sdcpc("info", output)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "# start",
        "- input: 160 x 128 RGB (width x height)",
        "- normalisation: mean 123.675, 116.28, 103.53, std 58.395, 57.12, 57.375",
        "- classes: 2, label set farm",
        "| 1 | crop | 0, 200, 0 |",
        "- encoder: resnet_tiny",
        "- reference_offsets: [2, 4]",
        "- encoder_weights: public.safetensors",
        "- seed: 4",
    ):
        assert line in done.stdout.splitlines()


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04")
    done = sdcpc(
        *("import-weights", tmp_path / "weights.pth", "--encoder", "mit_b0", "--label-set", "camvid_11"),
        *("-o", tmp_path / "out.safetensors"),
    )
    assert done.returncode == 1
    assert "only .safetensors files are read" in done.stderr


def test_set_needs_a_field_and_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["import-weights", "a", "--encoder", "b", "--label-set", "c", "-o", "d", "--set", "wide"])
    assert stopped.value.code == 2
    assert "'wide' is not FIELD=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["evaluate", "--dataset", "synthetic"],
        ["evaluate-bag", "bag"],
        ["segment", "film.mp4", "-o", "out"],
        ["export", "--format", "onnx", "-o", "out"],
        ["info"],
        ["doctor"],
    ],
)
def test_the_shipped_model_is_the_default(arguments: list[str]) -> None:
    parsed = cli.build_parser(chosen=arguments[0]).parse_args(arguments)
    assert parsed.model == DEFAULT_MODEL


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--dataset", "synthetic"],
        ["evaluate-bag", "bag"],
        ["segment", "film.mp4", "-o", "out"],
        ["train", "--config", "a.yaml", "--root", "b", "--output", "c"],
        ["view", "bag"],
    ],
)
def test_the_device_is_auto_by_default(arguments: list[str]) -> None:
    assert cli.build_parser(chosen=arguments[0]).parse_args(arguments).device == "auto"


def test_version() -> None:
    done = sdcpc("--version")
    assert (done.returncode, done.stdout) == (0, f"sdcpc {sdcpc_ros.__version__}\n")


def test_models_lists_what_is_shipped() -> None:
    done = sdcpc("models")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line for line in done.stdout.splitlines() if "camvid_efficientnet_lite0 (default)" in line]
    assert "11, camvid_11" in row and row.rstrip().endswith("models/camvid_efficientnet_lite0.safetensors")


@pytest.mark.parametrize(
    "command", [["segment", "a.mp4", "-o", "b"], ["evaluate-bag", "a.mcap"], ["evaluate", "--dataset", "synthetic"]]
)
def test_a_backend_that_is_none_is_answered_with_those_that_are(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--backend", "steam"])
    assert stopped.value.code == 2
    assert re.search("invalid choice: 'steam' .*eager.*inductor.*aot.*onnxruntime.*tensorrt", capsys.readouterr().err)
    assert model_options.BACKENDS == inference.BACKENDS


@pytest.mark.parametrize("command", [["evaluate-bag", "a.mcap"], ["evaluate", "--dataset", "synthetic"]])
def test_an_evaluation_does_not_change_its_backend_within_a_run(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command, "--backend", "auto"])
    assert re.search("invalid choice: 'auto' .*eager.*inductor", capsys.readouterr().err)


@pytest.mark.parametrize(
    "command",
    [
        ["segment", "a.mp4", "-o", "b"],
        ["evaluate-bag", "a.mcap"],
        ["evaluate", "--dataset", "synthetic"],
        ["export", "--format", "onnx", "-o", "a.onnx"],
    ],
)
def test_a_precision_that_is_none_is_answered_with_those_that_are(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--precision", "int8"])
    assert stopped.value.code == 2
    assert re.search("invalid choice: 'int8' .*auto.*float32.*float16.*bfloat16", capsys.readouterr().err)
    assert model_options.PRECISIONS == inference.PRECISIONS


@pytest.mark.parametrize("command", [["info", "camvid_efficientnet_lite0"], ["models"]])
def test_without_torch_there_is_a_sentence(command: list[str]) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom sdcpc_ros.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"sdcpc {command[0]}: no Python package 'torch'; "
        "to get it: python3 -m pip install torch, or your board's wheels (JetPack)"
    ]


def test_the_network_waits_as_the_nodes_does(model: Path, tmp_path: Path) -> None:
    """GNU OpenMP says what it was told when asked; the setting is in place before PyTorch is loaded."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 96, 3), np.uint8))
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    code = (
        "import sys, os\nfrom sdcpc_ros.cli import main\nassert main(sys.argv[1:]) == 0\n"
        "assert 'torch' in sys.modules and os.environ['GOMP_SPINCOUNT'] == '10000'"
    )
    command = ["segment", str(tmp_path / "a.png"), "-o", str(tmp_path / "labels"), "--model", str(model)]
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if "GOMP_SPINCOUNT" in done.stderr:
        assert "GOMP_SPINCOUNT = '10000'" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["evaluate", "--help"], ["train", "--help"], ["info", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    probe = (
        "import sys\nfrom sdcpc_ros import cli\n"
        "try: cli.main(sys.argv[1:])\nexcept SystemExit as stopped: code = stopped.code\n"
        "assert not {'torch', 'cv2', 'numpy', 'rich'} & set(sys.modules), sorted(sys.modules)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(("usage: sdcpc", "sdcpc "))
