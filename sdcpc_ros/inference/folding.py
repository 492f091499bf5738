"""Batch norms folded into the convolutions before them: the same numbers with one pass over the features less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(model: nn.Module, run: Callable[[], object]) -> int:
    """Fold, in place, every batch norm whose input is a convolution's very output; the number folded.

    model: in evaluation mode. run: runs it once, on any input, which shows who feeds whom. A convolution or norm that
    runs more than once stays as it is. What a folded convolution puts out must go to its norm alone, as in our encoders
    and heads.
    """
    produced: dict[int, tuple[Tensor, nn.Conv2d]] = {}  # the tensor is kept, so that its id stays its own
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}  # norm -> convolution
    runs: Counter[nn.Module] = Counter()

    def after_convolution(convolution: nn.Conv2d, _: object, output: Tensor) -> None:
        runs[convolution] += 1
        produced[id(output)] = (output, convolution)

    def before_norm(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        runs[norm] += 1
        if id(inputs[0]) in produced:
            pairs[norm] = produced[id(inputs[0])][1]

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(before_norm))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()

    replacement: dict[nn.Module, nn.Module] = {}
    for norm, convolution in pairs.items():
        if runs[norm] == runs[convolution] == 1:
            replacement[convolution] = fuse_conv_bn_eval(convolution, norm)
            replacement[norm] = nn.Identity()
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child in replacement:
                setattr(parent, name, replacement[child])
    return len(replacement) // 2
