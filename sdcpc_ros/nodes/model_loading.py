"""Loads the segmenter and the label map according to the node's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdcpc_ros.labels.label_map import LabelMap, read_label_map
from sdcpc_ros.nodes.parameters import NodeParameters, ParameterError

if TYPE_CHECKING:
    from sdcpc_ros.labels.label_set import LabelSet
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter


def load_segmenter(parameters: NodeParameters) -> tuple[StreamingSegmenter, LabelMap]:
    """Returns the segmenter and the label map of its published masks.

    Raises ValueError (ParameterError, LabelSetError, CheckpointError, BackendError) that names the fault.
    """
    # Imported here: PyTorch takes seconds, while the node answers parameters, diagnostics and signals.
    from sdcpc_ros.model_files.checkpoint import load_checkpoint, resolve_model
    from sdcpc_ros.streaming.segmenter import StreamingSegmenter

    checkpoint = load_checkpoint(resolve_model(parameters.model))
    check_class_names(parameters.class_names, checkpoint.label_set, parameters.model)
    label_map = read_label_map(parameters.label_map, checkpoint.label_set, parameters.label_encoding)
    segmenter = StreamingSegmenter(
        checkpoint,
        device=parameters.device,
        backend=parameters.backend,
        precision=parameters.precision,
        input_size=parameters.input_size,
        background_build=True,
        fallback=parameters.backend_fallback,
        class_groups=label_map.groups,
    )
    return segmenter, label_map


def check_class_names(expected: tuple[str, ...], label_set: LabelSet, model: str) -> None:
    """Raises ParameterError if the expected classes are not the model's. Empty: any classes."""
    if expected and expected != label_set.class_names:
        raise ParameterError(
            f"class_names expects {len(expected)} classes ({', '.join(expected)}), but model '{model}' has the "
            f"{len(label_set)} of label set '{label_set.name}' ({', '.join(label_set.class_names)}); "
            "change one of them, or leave class_names empty"
        )
