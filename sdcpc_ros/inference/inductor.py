"""The network compiled by torch.compile in the process that runs it: nothing to ship, but a compiler on the robot."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

from sdcpc_ros.inference.eager import Backend, BackendError
from sdcpc_ros.inference.step import Step, example_inputs

#: What is compiled in one process, at most: sizes of the network's input times numbers of frames.
_MOST_SHAPES = 128


def build(step: Step, size: tuple[int, int], batch: int = 1) -> Backend:
    """Compiles, tens of seconds; PyTorch keeps its own cache, so that the next process needs a few.

    For one size and number of frames. With the number left open (`mark_dynamic`) it compiles too, but takes twice as
    long (docs/design_notes.md has the figures), and a CUDA graph is of one number anyway.
    """
    leave_cores_to_the_stream()
    _allow_many_shapes()
    compiled = torch.compile(step, fullgraph=True, dynamic=False)
    # Made outside of inference mode, as frames are: torch.compile would compile the first frame once more.
    inputs = example_inputs(step, size, batch)
    with torch.inference_mode():
        compiled(*inputs)
    return Backend(compiled)


def check(step: Step) -> None:
    """Raises BackendError saying what is missing here."""
    check_compiler("inductor", step.mean.device)


def check_compiler(backend: str, device: torch.device) -> None:
    """Raises BackendError saying what `backend` lacks here: a C++ compiler, or on a GPU Triton too."""
    wanted = os.environ.get("CXX") or "g++"
    if shutil.which(wanted) is None:
        raise BackendError(
            f"backend '{backend}' compiles the network and needs a C++ compiler: there is no '{wanted}' here "
            "(sudo apt install g++, or name one in CXX)"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise BackendError(f"backend '{backend}' needs Triton for a GPU: pip install triton")


def leave_cores_to_the_stream() -> None:
    """One compile job at a time, unless the user says otherwise: the robot is driving meanwhile.

    It also keeps PyTorch from forking workers, which a process with ROS in it must not do.
    """
    if "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ:
        import torch._inductor.config

        torch._inductor.config.compile_threads = 1


def _allow_many_shapes() -> None:
    """Lets torch.compile compile the step once for each size and number of frames.

    It takes more than eight shapes of one function for a mistake, whoever asked for them, and refuses the ninth.
    """
    import torch._dynamo.config as settings

    settings.cache_size_limit = max(settings.cache_size_limit, _MOST_SHAPES)
