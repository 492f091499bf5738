"""Backend "auto": the fastest backend that costs its user nothing here, and why it was chosen."""

from __future__ import annotations

from typing import NamedTuple

from sdcpc_ros.inference import aot, inductor
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.step import Step


class Choice(NamedTuple):
    """A backend by name, and the reason in words."""

    backend: str
    reason: str


def runs_on_gpu(step: Step) -> bool:
    return step.mean.device.type == "cuda"


def choose_backend(step: Step, size: tuple[int, int]) -> Choice:
    """What `auto` stands for at network size (height, width).

    On a GPU inductor where it can compile. On a CPU the ahead-of-time package if one is cached: making one takes a core
    two minutes, so auto never does. Everywhere else eager.
    """
    if not step.model.compiles:
        return Choice("eager", "onnxruntime runs an imported ONNX model")
    if runs_on_gpu(step):
        try:
            inductor.check(step)
        except BackendError as error:
            return Choice("eager", str(error))
        return Choice("inductor", "compiled for this GPU")
    path = aot.cached_package(step, size)
    if path is not None:
        return Choice("aot", f"package '{path.name}' is cached")
    return Choice(
        "eager",
        f"no ahead-of-time package for {size[1]}x{size[0]} is cached; `sdcpc export --format aot` or backend: aot "
        "makes one",
    )
