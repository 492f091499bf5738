"""ONNX files run by onnxruntime: what the rest of the package knows of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

#: By torch device type: the providers that are asked for, the first of them being the one that must be there.
_PROVIDERS = {"cpu": ("CPUExecutionProvider",), "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider")}
#: Types of a model's input that images can be made of, as onnxruntime spells them.
INPUT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class OnnxError(ValueError):
    """An ONNX model cannot be read or run here."""


class Port(NamedTuple):
    """An input or output of a model."""

    name: str
    type: str  #: as onnxruntime spells it, "tensor(float)"
    shape: tuple[int | str | None, ...]  #: names or None for what is left open


class OnnxSession:
    """One model, for any device: a session is made for the first image of each."""

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._sessions: dict[str, Any] = {}

    def ports(self) -> tuple[list[Port], list[Port]]:
        """Inputs and outputs. Raises OnnxError when the model cannot be read."""
        session = self._session("cpu")
        inputs, outputs = (
            [Port(port.name, port.type, tuple(port.shape)) for port in found]
            for found in (session.get_inputs(), session.get_outputs())
        )
        return inputs, outputs

    def run(self, image: Tensor, input_name: str, output_name: str) -> Tensor:
        """One output for one image, both on the image's device. Raises OnnxError when the model fails."""
        session = self._session(image.device.type)
        try:
            (found,) = session.run([output_name], {input_name: image.contiguous().cpu().numpy()})
        except Exception as error:  # onnxruntime's exceptions have no common base but this
            shape = tuple(image.shape)
            raise OnnxError(f"the ONNX model failed on an input of {shape}: {_first_line(error)}") from error
        return torch.from_numpy(np.ascontiguousarray(found)).to(image.device)

    def _session(self, device: str) -> Any:
        if device not in self._sessions:
            self._sessions[device] = _new_session(self._model, device)
        return self._sessions[device]


def _new_session(model: bytes, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise OnnxError(
            f"an ONNX model needs the Python package 'onnxruntime' ({error}): pip install 'sdcpc_ros[onnx]'"
        ) from error
    providers = _PROVIDERS[device]
    available = onnxruntime.get_available_providers()
    if providers[0] not in available:
        raise OnnxError(
            f"onnxruntime {onnxruntime.__version__} here has {', '.join(available)} but not {providers[0]}: install "
            "onnxruntime-gpu (on a Jetson, NVIDIA's wheel), or use device cpu"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    # Waiting threads would keep the cores from the rest of the node.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:
        raise OnnxError(_reason(str(error))) from error


def _reason(message: str) -> str:
    """Why a model is refused, in a sentence."""
    lower = message.lower()
    if "protobuf" in lower or "no graph was found" in lower or "modelproto" in lower:
        return "not an ONNX file, or a damaged one"
    if "external" in lower:
        return (
            "keeps its weights in other files, which are not read; put all into one: "
            'onnx.save(onnx.load("model.onnx"), "whole.onnx")'
        )
    if "opset" in lower:
        return f"uses an opset that the onnxruntime here does not know: {_first_line(message)}"
    return f"onnxruntime cannot run it: {_first_line(message)}"


def _first_line(message: object) -> str:
    return (str(message).strip() or "no reason given").splitlines()[0]
