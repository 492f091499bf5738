"""A network for streams: tiny, of random weights, whose past counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdcpc_ros.labels.label_set import CAMVID_11
from sdcpc_ros.model_files.checkpoint import Checkpoint
from sdcpc_ros.network import SDCPC, SDCPCConfig
from sdcpc_ros.streaming import runner_cache
from sdcpc_ros.streaming.segmenter import StreamingSegmenter


@pytest.fixture(scope="session")
def checkpoint(as_if_trained: Callable[[SDCPC], SDCPC]) -> Checkpoint:
    """CamVid's classes, 64 x 96 px, references 1 and 3 frames back."""
    config = SDCPCConfig(11, encoder="resnet_tiny", embed_dim=16, key_dim=16, reference_offsets=(1, 3))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SDCPC(config)
        as_if_trained(network)
    mean, std = (110.0, 115.0, 120.0), (60.0, 61.0, 62.0)
    return Checkpoint(config, CAMVID_11, mean, std, (64, 96), network.state_dict())


class Recording(TorchDispatchMode):
    """Repeats the operators that ran within it, with the same tensors."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, output))
        return output

    @torch.inference_mode()
    def replay(self):
        for func, args, kwargs, output in self._calls:
            for old, new in zip(tree_leaves(output), tree_leaves(func(*args, **kwargs))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture(scope="session")
def record_graph() -> Callable[[Callable[[], object], torch.device], Callable[[], object]]:
    """Stands in for `capture_graph`: like a CUDA graph, a replay repeats operators at their addresses and no Python."""

    def record(compute: Callable[[], object], device: torch.device) -> Callable[[], object]:
        recording = Recording()
        with recording:
            compute()
        return recording.replay

    return record


@pytest.fixture(scope="module", params=["cpu", "graph"])
def new_segmenter(checkpoint: Checkpoint, request: pytest.FixtureRequest) -> Callable[..., StreamingSegmenter]:
    """Makes a segmenter with the runners of a CPU, or with those of a GPU."""

    def new(**options: object) -> StreamingSegmenter:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner_cache, "uses_graphs", lambda device: request.param == "graph")
            return StreamingSegmenter(checkpoint, **options)

    return new
