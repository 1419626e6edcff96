"""The names, shapes and types of a model's weights, found without memory for them: on torch's meta device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from leanrec.core.tied import stored

CALLS, CALLS_A_WEIGHT = 2**12, 2**6
"""Calls of torch that building a model may take, and more for every weight that it should have; about ten a weight are usual."""
DTYPE_NAMES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Types as safetensors names them."""


class _Bounded(TorchFunctionMode):
    """Ends what calls torch more often than it may."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("expected a model of as many weights as there are, got one of far more")
        return func(*args, **(kwargs or {}))


def sketch(make: Callable[[], nn.Module], weights: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every weight that a model stores.

    Args:
        make: Builds the model.
        weights: How many weights it should have; building one with far more is ended early.

    Raises:
        ValueError: The model cannot be built, or has far more weights.
    """
    try:
        with torch.device("meta"), _Bounded(CALLS + CALLS_A_WEIGHT * weights):
            return {
                name: (DTYPE_NAMES.get(weight.dtype, str(weight.dtype)), tuple(weight.shape))
                for name, weight in stored(make()).items()
            }
    except (RuntimeError, TypeError, OverflowError, MemoryError, ZeroDivisionError, IndexError) as error:
        raise ValueError(f"expected a model that can be built, got {error}") from error
