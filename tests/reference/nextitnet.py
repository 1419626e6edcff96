"""NextItNet from its equations, one user and one step at a time, in NumPy float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reference.sasrec import Weights, layer_norm


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dilation: int) -> np.ndarray:
    """Causal dilated convolution of [T, D] with a weight [D, taps, D]; the last tap reads the step itself."""
    taps = weight.shape[1]
    y = np.zeros_like(x)
    for step in range(len(x)):
        y[step] = bias
        for tap in range(taps):
            source = step - dilation * (taps - 1 - tap)
            if source >= 0:
                y[step] += weight[:, tap] @ x[source]
    return y


def states(
    history: Sequence[int],
    weights: Weights,
    *,
    layers: int,
    dilations: Sequence[int],
    rezero: bool,
    scale: bool,
) -> np.ndarray:
    """States [T, D] after the final norm."""
    table = weights["items.weight"]
    x = table[list(history)] * (np.sqrt(table.shape[1]) if scale else 1.0)
    for block in range(layers):
        y, dilation = x, dilations[block % len(dilations)]
        for name, reach in (("first", dilation), ("second", 2 * dilation)):
            conv, norm = f"blocks.{block}.{name}", f"blocks.{block}.{name}_norm"
            y = convolution(y, weights[f"{conv}.weight"], weights[f"{conv}.bias"], reach)
            y = np.maximum(layer_norm(y, weights[f"{norm}.weight"], weights[f"{norm}.bias"]), 0)
        x = x + (weights[f"blocks.{block}.scale.alpha"] if rezero else 1.0) * y
    return layer_norm(x, weights["norm.weight"], weights["norm.bias"])
