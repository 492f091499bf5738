"""The network run by onnxruntime: the exported ONNX model, with its inputs and outputs bound where they lie."""

from __future__ import annotations

import torch
from torch import Tensor

from sdcpc_ros.inference import onnx_model
from sdcpc_ros.inference.cache import cache_folder, check_trusted
from sdcpc_ros.inference.errors import BackendError
from sdcpc_ros.inference.onnx_model import model_name
from sdcpc_ros.inference.step import INPUT_NAMES, OUTPUT_NAMES, Step, example_inputs
from sdcpc_ros.model_files.onnx_session import OnnxError, check_runtime, new_session
from sdcpc_ros.network import FrameMemory

#: As onnxruntime names them, of the tensors that it is given.
_NUMPY_TYPES = {torch.uint8: "uint8", torch.float16: "float16", torch.float32: "float32"}


class OnnxRuntimeBackend:
    """Runs a model from the cache; exports it first where there is none and the packages are at hand.

    On a GPU TensorRT runs it if the installed onnxruntime can use TensorRT, else CUDA. TensorRT builds its engine here,
    minutes, and keeps it in the cache folder.
    """

    def __init__(self, step: Step, size: tuple[int, int]) -> None:
        path = cache_folder() / model_name(step, size)
        if not path.is_file():
            onnx_model.write_model(step, size, path, {})
        check_trusted(path)
        self._device = step.mean.device
        try:
            self._session = new_session(str(path), self._device, tensorrt=_tensorrt_options(step))
        except OnnxError as error:
            raise BackendError(f"backend 'onnxruntime': {error}") from error
        self._binding = self._session.io_binding()
        self._output_shapes = [output.shape for output in self._session.get_outputs()]
        self._output_types = [torch.float32, step.dtype, step.dtype]
        # In its first run onnxruntime allocates its memory.
        image, *references, age_s = example_inputs(step, size)
        self.step(image, FrameMemory(*references), age_s)

    @torch.inference_mode()
    def step(self, image: Tensor, references: FrameMemory, age_s: Tensor) -> tuple[Tensor, FrameMemory]:
        inputs = [part.contiguous() for part in (image, *references, age_s)]
        outputs = [
            torch.empty(shape, dtype=dtype, device=self._device)
            for shape, dtype in zip(self._output_shapes, self._output_types)
        ]
        for names, tensors, bind in (
            (INPUT_NAMES, inputs, self._binding.bind_input),
            (OUTPUT_NAMES, outputs, self._binding.bind_output),
        ):
            for name, tensor in zip(names, tensors):
                device = tensor.device.type, tensor.device.index or 0
                bind(name, *device, _NUMPY_TYPES[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())
        if self._device.type == "cuda":
            # onnxruntime works on a stream of its own. While a CUDA graph is captured this raises RuntimeError.
            torch.cuda.current_stream(self._device).synchronize()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        logits, *memory = outputs
        return logits, FrameMemory(*memory)


def check(step: Step) -> None:
    """Raises BackendError saying what is missing here: a runtime for the device, and a model or what exports one."""
    try:
        check_runtime(step.mean.device)
    except OnnxError as error:
        raise BackendError(f"backend 'onnxruntime': {error}") from error
    onnx_model.check_type(step)
    key = model_name(step, (1, 1)).partition("-1x1-")[2].rpartition("-")[0]
    if not any(cache_folder().glob(f"onnxruntime-*-{key}-*.onnx")):
        try:
            onnx_model.check_can_write(step)
        except BackendError as error:
            raise BackendError(
                f"backend 'onnxruntime' finds no model in '{cache_folder()}', nor can it write one: {error}. Write it "
                "with `sdcpc export --format onnxruntime` on any machine, and copy it there"
            ) from error


def _tensorrt_options(step: Step) -> dict[str, str]:
    return {
        "trt_fp16_enable": str(step.dtype == torch.float16),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache_folder()),
    }
