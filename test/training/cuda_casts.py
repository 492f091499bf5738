"""Autocast's types on CUDA, without a GPU: a mode that casts arguments by CUDA's lists, where a CPU's are others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

# From PyTorch's documentation, "CUDA Ops that can autocast": those that the network or its losses may call.
_LOW = {"__matmul__", "addmm", "addbmm", "baddbmm", "bmm", "chain_matmul", "conv1d", "conv2d", "conv3d"}
_LOW |= {"conv_transpose2d", "einsum", "linear", "matmul", "mm", "multi_head_attention_forward", "mv", "prelu"}
_LOW |= {"scaled_dot_product_attention", "__rmatmul__", "affine_grid"}  # the last by its matrix product
_FLOAT = {"__pow__", "__rpow__", "acos", "asin", "binary_cross_entropy_with_logits", "cosh", "cosine_embedding_loss"}
_FLOAT |= {"cross_entropy", "cosine_similarity", "cumprod", "cumsum", "dist", "erfinv", "exp", "expm1", "group_norm"}
_FLOAT |= {"kl_div", "l1_loss", "layer_norm", "log", "log10", "log1p", "log2", "log_softmax", "logsumexp", "mse_loss"}
_FLOAT |= {"nll_loss", "norm", "normalize", "pow", "prod", "reciprocal", "rsqrt", "sinh", "smooth_l1_loss", "softmax"}
_FLOAT |= {"softmin", "softplus", "square", "sum", "tan"}
_WIDEST = {"addcdiv", "addcmul", "bilinear", "cat", "cross", "dot", "grid_sample", "index_put", "scatter_add", "stack"}
_WIDEST |= {"tensordot"}


class CudaCasts(TorchFunctionMode):
    """Within it, tensors on a CPU have the types that `torch.autocast("cuda", dtype)` would give them on CUDA.

    Operators that write to an argument are on no list, as on CUDA: their arguments need one type by themselves. Where
    the code turns autocast off, nothing is cast. A weight is cast once, as in PyTorch before 2.11, which keeps it
    without gradient if it was first cast under `no_grad`.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.enabled = dtype, True
        self.lowered: set[str] = set()  #: names of the operators that got arguments of `dtype`
        self._weights: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by id: itself and its cast
        self._patches = [
            mock.patch.object(torch, "autocast", self._autocast),
            mock.patch.object(torch, "is_autocast_enabled", lambda *_: self.enabled),
            mock.patch.object(torch, "clear_autocast_cache", self._weights.clear),
        ]

    def __enter__(self) -> CudaCasts:
        for patch in self._patches:
            patch.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for patch in self._patches:
            patch.stop()

    @contextmanager
    def _autocast(self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True) -> Iterator[None]:
        before, self.enabled = self.enabled, enabled
        try:
            yield
        finally:
            self.enabled = before

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        dtype = self._type_for(name, args, kwargs) if self.enabled else None
        if dtype is None:
            return func(*args, **kwargs)

        # Computed in float32 from rounded arguments and rounded again: as exact as on a GPU. A CPU would take minutes
        # for convolutions of float16.
        def cast(x: Any) -> Any:
            if not _is_single_or_half(x):
                return x
            if dtype == self.dtype and x.requires_grad and x.is_leaf:
                return self._weights.setdefault(id(x), (x, x.to(dtype).float()))[1]
            return x.to(dtype).float()

        args, kwargs = pytree.tree_map(cast, (args, kwargs))
        return pytree.tree_map(lambda x: x.to(dtype) if _is_single_or_half(x) else x, func(*args, **kwargs))

    def _type_for(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.dtype | None:
        """The type that an operator's arguments are cast to; None for those that they have."""
        if name in _LOW:
            self.lowered.add(name)
            return self.dtype
        if name in _FLOAT:
            return torch.float32
        if name in _WIDEST and any(
            x.dtype == torch.float32 for x in pytree.tree_leaves((args, kwargs)) if _is_single_or_half(x)
        ):
            return torch.float32
        return None


def _is_single_or_half(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64
