"""A Git LFS pointer in place of any file that is read is named as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdcpc_ros import cli
from sdcpc_ros.runtime.git_lfs import pointer_reason

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


@pytest.fixture
def pointer(tmp_path: Path):
    def write(name: str) -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(POINTER)
        return str(tmp_path / name)

    return write


def test_only_a_pointer_is_one(pointer, tmp_path):
    assert (
        pointer_reason(pointer("a.mcap")) == "it is a Git LFS pointer, not the file itself; `git lfs pull` fetches it"
    )
    (tmp_path / "b.mcap").write_text("version 2\n")
    assert pointer_reason(tmp_path / "b.mcap") is pointer_reason(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("drive.mcap", ["evaluate-bag", "{file}"]),
        ("drive.db3", ["evaluate-bag", "{file}"]),
        ("bag/metadata.yaml", ["evaluate-bag", "{folder}"]),
        ("bag/drive_0.mcap", ["evaluate-bag", "{folder}"]),
        ("drive.mp4", ["segment", "{file}", "-o", "{out}"]),
        ("pictures/1.png", ["segment", "{folder}", "-o", "{out}"]),
        ("pictures/1.jpg", ["make-bag", "{folder}", "-o", "{out}"]),
        ("model.safetensors", ["info", "{file}"]),
        ("model.onnx", ["import-onnx", "{file}", "--labels", "camvid_11", "-o", "{out}.safetensors"]),
        (
            "encoder.safetensors",
            ["import-weights", "{file}", "--encoder", "mit_b0", "--label-set", "camvid_11", "-o", "{out}.safetensors"],
        ),
    ],
)
def test_every_command_names_the_pointer(pointer, tmp_path, tiny_checkpoint, monkeypatch, capsys, name, command):
    monkeypatch.chdir(tmp_path)  # where evaluate-bag makes the folder of its report
    file = pointer(name)
    words = {"file": file, "folder": str(Path(file).parent), "out": str(tmp_path / "out")}
    arguments = [word.format(**words) for word in command]
    if command[0] in ("evaluate-bag", "segment"):
        arguments += ["--model", str(tiny_checkpoint)]
    assert cli.main(arguments) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert Path(file).name in told and "Git LFS pointer" in told and "`git lfs pull`" in told
