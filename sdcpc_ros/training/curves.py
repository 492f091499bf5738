"""The curves of a training run as a picture, for a model card: loss and learning rate, and the scores of validation."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sdcpc_ros.training.run_files import read_log
from sdcpc_ros.training.trainer import LOG, VALIDATION_LOG

FORMATS = (".png", ".svg", ".pdf")
_INCHES = (8.0, 3.6)
_DPI = 150
_LOSS, _RATE, _STREAMING, _SINGLE = "#1f4e79", "#b8b8b8", "#1f4e79", "#c8781e"


def plot_training(folder: Path, output: Path) -> None:
    """Draw the logs of the run in `folder`; output: a file that ends in one of FORMATS.

    Raises ValueError with a sentence when the folder holds no log, or the ending is another; OSError.
    """
    if output.suffix.lower() not in FORMATS:
        raise ValueError(f"'{output}' is no picture that can be drawn; {', '.join(FORMATS)} are possible")
    if not (folder / LOG).is_file():
        raise ValueError(f"no '{LOG}' in '{folder}'; the output folder of `sdcpc train` is needed")
    log = read_log(folder / LOG)
    scores = read_log(folder / VALIDATION_LOG) if (folder / VALIDATION_LOG).is_file() else None
    figure = Figure(figsize=_INCHES, layout="constrained")
    panels = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    _draw_loss(panels[0], log)
    if scores:
        _draw_scores(panels[1], scores)
    figure.savefig(output, dpi=_DPI)


def _draw_loss(axes: Axes, log: dict[str, list[float]]) -> None:
    rate = axes.twinx()
    rate.plot(log["step"], log["learning_rate"], color=_RATE, linewidth=1)
    rate.set_ylabel("learning rate", color="#808080")
    rate.set_ylim(bottom=0)
    axes.plot(log["step"], log["loss"], color=_LOSS, linewidth=1.4)
    axes.set_zorder(rate.get_zorder() + 1)
    axes.patch.set_visible(False)  # the rate lies behind it
    axes.set_title("loss, mean since the line before", fontsize=10)
    _dress(axes)


def _draw_scores(axes: Axes, scores: dict[str, list[float]]) -> None:
    for prefix, colour, who in (("", _STREAMING, "streaming"), ("single_", _SINGLE, "single frame")):
        for name, style in (("miou", "-"), ("mvc8", "--")):
            label = f"{'mIoU' if name == 'miou' else 'mVC8'}, {who}"
            axes.plot(
                scores["step"], scores[prefix + name], style, color=colour, marker=".", label=label, linewidth=1.4
            )
    axes.set_title("validation, moving average of the weights, %", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    _dress(axes)


def _dress(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(color="#e8e8e8")
    axes.spines["top"].set_visible(False)
