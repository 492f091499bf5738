"""ONNX files run by onnxruntime: what the rest of the package knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdcpc_ros.network.given_logits import Runner
from sdcpc_ros.runtime.installation import install_advice

#: By torch device type: the providers that are asked for, the first of them being the one that must be there.
_PROVIDERS = {"cpu": ("CPUExecutionProvider",), "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider")}
_TENSORRT = "TensorrtExecutionProvider"
#: Types of a model's input that images can be made of, as onnxruntime spells them.
INPUT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class OnnxError(ValueError):
    """An ONNX model cannot be read or run here."""


class OnnxSession:
    """One model, for any device: a session is made for the first image of each."""

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._sessions: dict[torch.device, Any] = {}

    def ports(self) -> tuple[list[Any], list[Any]]:
        """Inputs and outputs, with their name, type ("tensor(float)") and shape, in which a side left open is a name or
        None. Raises OnnxError when the model cannot be read."""
        session = self._session(torch.device("cpu"))
        return session.get_inputs(), session.get_outputs()

    def runner(self, input_name: str, output_name: str) -> Runner:
        """One image -> one output, both on the image's device. The runner raises OnnxError when the model fails."""

        def run(image: Tensor) -> Tensor:
            session = self._session(image.device)
            try:
                (found,) = session.run([output_name], {input_name: image.contiguous().cpu().numpy()})
                found = np.ascontiguousarray(found)
                if found.dtype.kind == "u":  # PyTorch computes with few unsigned types
                    found = found.astype(np.int64)
                return torch.from_numpy(found).to(image.device)
            except Exception as error:  # onnxruntime's exceptions have no common base but this
                shape = tuple(image.shape)
                raise OnnxError(f"the ONNX model failed on an input of {shape}: {_first_line(error)}") from error

        return run

    def _session(self, device: torch.device) -> Any:
        if device not in self._sessions:
            self._sessions[device] = new_session(self._model, device)
        return self._sessions[device]


def check_runtime(device: torch.device) -> None:
    """Raises OnnxError saying what is missing for this device: onnxruntime, or in it the device's provider."""
    try:
        import onnxruntime
    except ImportError as error:
        raise OnnxError(
            f"an ONNX model needs the Python package 'onnxruntime' ({error}): {install_advice('onnxruntime')}"
        ) from error
    needed, available = _PROVIDERS[device.type][0], onnxruntime.get_available_providers()
    if needed not in available:
        raise OnnxError(
            f"onnxruntime {onnxruntime.__version__} here has {', '.join(available)} but not {needed}: install "
            "onnxruntime-gpu (on a Jetson, NVIDIA's wheel), or use device cpu"
        )


def new_session(model: bytes | str, device: torch.device, *, tensorrt: Mapping[str, str] | None = None) -> Any:
    """An onnxruntime session for a model, or the path of one. Raises OnnxError when it cannot be had.

    tensorrt: options of the TensorRT provider, which on a GPU is then tried first where onnxruntime has it.
    """
    check_runtime(device)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    # Waiting threads would keep the cores from the rest of the node.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    on_gpu = {} if device.type == "cpu" else {"device_id": str(device.index or 0)}
    first, *others = _PROVIDERS[device.type]
    providers = [(first, on_gpu), *((provider, {}) for provider in others)]
    if on_gpu and tensorrt is not None and _TENSORRT in onnxruntime.get_available_providers():
        providers.insert(0, (_TENSORRT, {**on_gpu, **tensorrt}))
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise OnnxError(_reason(str(error))) from error
    # Where a provider's libraries are missing, onnxruntime falls back to the CPU and goes on.
    if first not in session.get_providers():
        raise OnnxError(
            f"onnxruntime {onnxruntime.__version__} has {first} but cannot load it: CUDA or cuDNN of the version that "
            "it was built for is missing"
        )
    return session


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
