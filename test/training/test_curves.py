"""The picture of a run's curves."""

from __future__ import annotations

import cv2
import pytest

from sdcpc_ros import cli
from sdcpc_ros.training.run_files import append_row, read_log
from sdcpc_ros.training.trainer import LOG, VALIDATION_LOG

plot_training = pytest.importorskip("sdcpc_ros.training.curves", reason="needs matplotlib").plot_training


@pytest.fixture
def folder(tmp_path):
    scores = [f"{prefix}{name}" for prefix in ("", "single_") for name in ("miou", "mvc8", "mvc16")]
    for step in (100, 200, 300):
        append_row(tmp_path / LOG, {"step": step, "loss": 50 / step, "learning_rate": 1e-3})
        row = {name: step / 10 + place for place, name in enumerate(scores)}
        append_row(tmp_path / VALIDATION_LOG, {"step": step, **row})
    return tmp_path


def test_the_curves_are_drawn(folder):
    plot_training(folder, folder / "curves.png")
    picture = cv2.imread(str(folder / "curves.png"))
    assert picture.shape == (540, 1200, 3) and (picture < 128).any()
    before = picture[:, :600]
    (folder / VALIDATION_LOG).unlink()
    plot_training(folder, folder / "curves.png")
    assert (cv2.imread(str(folder / "curves.png"))[:, :600] != before).any()  # the loss alone is as wide as both
    plot_training(folder, folder / "curves.svg")
    assert "<svg" in (folder / "curves.svg").read_text()


def test_the_command_draws_beside_the_logs(folder, capsys):
    assert cli.main(["plot-training", str(folder)]) == 0
    assert (
        capsys.readouterr().out == f"wrote {folder / 'curves.png'}\n" and (folder / "curves.png").stat().st_size > 1000
    )
    assert cli.main(["plot-training", str(folder / "gone")]) == 1
    assert "no 'log.csv' in" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"\.png, \.svg"):
        plot_training(folder, folder / "curves.bmp")
    with pytest.raises(ValueError, match=r"no 'log\.csv' in"):
        plot_training(folder / "gone", folder / "curves.png")
    for content in ("", "a,b\n1,2\n", "step,loss\n1,x\n"):
        (folder / LOG).write_text(content)
        with pytest.raises(ValueError, match="not the log of a training run"):
            plot_training(folder, folder / "curves.png")


def test_a_line_cut_short_is_left_out(folder):
    with (folder / LOG).open("a") as file:
        file.write("400,0.1")
    assert read_log(folder / LOG)["step"] == [100, 200, 300]
