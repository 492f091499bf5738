"""The step as an ONNX model, standard operators, stateless, weights inside; and the backend that runs one."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sdcpc_ros import __version__
from sdcpc_ros.inference.cache import FileFormat, cache_folder, check_kept, kept_file
from sdcpc_ros.inference.eager import Backend, BackendError
from sdcpc_ros.inference.step import INPUT_NAMES, OUTPUT_NAMES, Step, example_inputs
from sdcpc_ros.model_files.onnx_session import OnnxError, check_runtime, new_session
from sdcpc_ros.runtime.installation import install_advice

#: Of the operators in an ONNX file: TensorRT reads it from version 8.6, JetPack 6.2 has 10.3.
ONNX_OPSET = 18
#: As onnxruntime names them, of the tensors that it is given.
_NUMPY_TYPES = {torch.uint8: "uint8", torch.float16: "float16", torch.float32: "float32"}


def build(step: Step, size: tuple[int, int]) -> Backend:
    """Loads a model from the cache; exports it first where there is none and the packages are at hand.

    On a GPU TensorRT runs it if the installed onnxruntime can use TensorRT, else CUDA. TensorRT builds its engine here,
    minutes, and keeps it in the cache folder.
    """
    path, device = kept_file(MODEL, step, size), step.mean.device
    tensorrt = {
        "trt_fp16_enable": str(step.dtype == torch.float16),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache_folder()),
    }
    try:
        session = new_session(str(path), device, tensorrt=tensorrt)
    except OnnxError as error:
        raise BackendError(f"backend 'onnxruntime': {error}") from error
    binding = session.io_binding()
    output_shapes = [output.shape for output in session.get_outputs()]
    output_types = [torch.float32, step.dtype, step.dtype]

    def run(*inputs: Tensor) -> list[Tensor]:
        """The inputs and outputs are bound where they lie."""
        inputs = tuple(part.contiguous() for part in inputs)
        outputs = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in zip(output_shapes, output_types)]
        for names, tensors, bind in (
            (INPUT_NAMES, inputs, binding.bind_input),
            (OUTPUT_NAMES, outputs, binding.bind_output),
        ):
            for name, tensor in zip(names, tensors):
                place = tensor.device.type, tensor.device.index or 0
                bind(name, *place, _NUMPY_TYPES[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())
        if device.type == "cuda":
            # onnxruntime works on a stream of its own.
            torch.cuda.current_stream(device).synchronize()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return outputs

    run(*example_inputs(step, size))  # in its first run onnxruntime allocates its memory
    return Backend(run, capturable=False)


def check(step: Step) -> None:
    """Raises BackendError saying what is missing here: a runtime for the device, and a model or what exports one."""
    try:
        check_runtime(step.mean.device)
    except OnnxError as error:
        raise BackendError(f"backend 'onnxruntime': {error}") from error
    _check_type(step)
    check_kept(MODEL, step)


def _check_type(step: Step) -> None:
    """Raises BackendError for bfloat16, for which runtimes lack operators."""
    if step.dtype == torch.bfloat16:
        raise BackendError("ONNX models are written in float32 or float16; precision 'bfloat16' is not supported")


def check_can_write(step: Step) -> None:
    """Raises BackendError saying what writing an ONNX model lacks here."""
    _check_type(step)
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise BackendError(
                f"writing an ONNX model needs the Python package '{package}' ({error}): {install_advice(package)}"
            ) from error


def _write(step: Step, size: tuple[int, int], path: Path, metadata: Mapping[str, str]) -> None:
    # It warns of torchvision, for operators that we do not use.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    program = torch.onnx.export(
        torch.export.export(step, example_inputs(step, size)),
        dynamo=True,
        verbose=False,
        opset_version=ONNX_OPSET,
        input_names=list(INPUT_NAMES),
        output_names=list(OUTPUT_NAMES),
    )
    assert program is not None  # it is None without dynamo only
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter's notes on where in whose file system each came from
    program.model.metadata_props.update(metadata)
    program.save(str(path), external_data=False)


def _made_for(device: torch.device) -> dict[str, str]:
    return {"sdcpc_ros": __version__}  # on every processor and with every PyTorch: it is as portable as ONNX is


MODEL = FileFormat(".onnx", check_can_write, _write, "onnxruntime", "model", "any machine", _made_for)
