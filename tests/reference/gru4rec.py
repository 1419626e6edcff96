"""GRU4Rec from its equations, one user and one step at a time, in NumPy float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reference.sasrec import Weights, layer_norm


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def gru(x: np.ndarray, weights: Weights, prefix: str) -> np.ndarray:
    """States [T, D] of a GRU over inputs [T, D], from a state of zeros; gates are stored as reset, update, new."""
    (reset_x, update_x, new_x), (reset_h, update_h, new_h) = weights[f"{prefix}.input"], weights[f"{prefix}.state"]
    (reset_b, update_b, new_b), (reset_c, update_c, new_c) = (
        weights[f"{prefix}.input_bias"],
        weights[f"{prefix}.state_bias"],
    )
    h, states = np.zeros(x.shape[1]), []
    for event in x:
        reset = sigmoid(reset_x @ event + reset_b + reset_h @ h + reset_c)
        update = sigmoid(update_x @ event + update_b + update_h @ h + update_c)
        new = np.tanh(new_x @ event + new_b + reset * (new_h @ h + new_c))
        h = (1 - update) * new + update * h
        states.append(h)
    return np.array(states)


def states(history: Sequence[int], weights: Weights, *, layers: int, rezero: bool, scale: bool) -> np.ndarray:
    """States [T, D] after the final norm."""
    table = weights["items.weight"]
    x = table[list(history)] * (np.sqrt(table.shape[1]) if scale else 1.0)
    for block in range(layers):
        prefix = f"blocks.{block}"
        normed = layer_norm(x, weights[f"{prefix}.norm.weight"], weights[f"{prefix}.norm.bias"])
        x = x + (weights[f"{prefix}.scale.alpha"] if rezero else 1.0) * gru(normed, weights, f"{prefix}.gru")
    return layer_norm(x, weights["norm.weight"], weights["norm.bias"])
