"""This machine: Python, NumPy, OpenCV, PyTorch and its GPU, the model file. No ROS in here."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdcpc_ros.doctor import FAULT, NOTE, WARNING, Finding
from sdcpc_ros.runtime.installation import install_advice, pip_install

_OLDEST_PYTHON = (3, 10)
_OLDEST_TORCH = (2, 5)
GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu")  # of a driver on a PC, and on a Jetson


def check_machine(model: str) -> Iterator[Finding]:
    """The checks that need no ROS, for a node with this `model`."""
    yield check_python()
    numpy = check_import("NumPy", "numpy", install_advice("numpy") or "")
    yield numpy
    yield check_import("OpenCV", "cv2", install_advice("cv2") or "")
    torch = check_torch()
    yield torch
    if FAULT in (numpy.level, torch.level):
        return
    yield check_gpu()
    yield check_model(model)


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    text = f"{'.'.join(map(str, version))} on {platform.machine()}"
    if version < _OLDEST_PYTHON:
        return Finding("Python", text, FAULT, "3.10 or newer is needed: Ubuntu 22.04 has it")
    return Finding("Python", text)


def check_import(what: str, module: str, fix: str) -> Finding:
    """Checks that a module can be imported, and finds its version."""
    try:
        return Finding(what, str(importlib.import_module(module).__version__))
    except Exception as error:  # builds for another NumPy fail with more than ImportError
        return Finding(what, f"cannot be imported: {_one_line(error)}", FAULT, fix)


def check_torch() -> Finding:
    """Checks that PyTorch is new enough and reads NumPy arrays."""
    found = check_import("PyTorch", "torch", install_advice("torch") or "")
    if found.level == FAULT:
        return found
    import numpy as np
    import torch

    if _version(found.text) < _OLDEST_TORCH:
        return Finding("PyTorch", found.text, FAULT, f"2.5 or newer is needed: {pip_install('--upgrade torch')}")
    try:
        torch.from_numpy(np.zeros(1))
    except RuntimeError as error:
        text = f"{found.text} does not work with NumPy {np.__version__}: {_one_line(error)}"
        return Finding("PyTorch", text, FAULT, pip_install("'numpy<2'") + ", or a newer torch")
    return found


def check_gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("GPU", f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    if any(Path(file).exists() for file in GPU_FILES):
        built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        text = f"an NVIDIA driver is here, but PyTorch, built for {built_for}, finds no GPU"
        return Finding("GPU", text, WARNING, "install the torch build for your driver's CUDA; nvidia-smi shows which")
    return Finding("GPU", "none: the network runs on the CPU", NOTE)


def check_model(model: str) -> Finding:
    """Checks that the model can be read completely."""
    from sdcpc_ros.model_files.checkpoint import CheckpointError, load_checkpoint, resolve_model

    try:
        path = resolve_model(model)
        checkpoint = load_checkpoint(path)
        checkpoint.build_model()
    except CheckpointError as error:
        return Finding("model", str(error), FAULT, "name another with --model, and in the node's parameter model")
    height, width = checkpoint.input_size
    size_mb = path.stat().st_size / 1e6
    text = f"{path.name}, {size_mb:.0f} MB: {len(checkpoint.label_set)} classes, trained at {width} x {height}"
    return Finding("model", text)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:2])


def _one_line(error: Any) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
