"""SASRec, and the blocks it shares with BERT4Rec, from their equations, one user and one step at a time, in NumPy float64.

Weights come by the names of the package's parameters. Channel c belongs to head c mod H; a head's channels are c, c + H, ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Weights = Mapping[str, np.ndarray]


def layer_norm(x: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Over the last dimension."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-8) * gain + bias


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)."""
    return np.maximum(x, 0)


def gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x), with the normal distribution's Phi."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention(x: np.ndarray, weights: Weights, prefix: str, heads: int, causal: bool) -> np.ndarray:
    """Multi-head attention of states [T, D]."""

    def linear(name: str, y: np.ndarray) -> np.ndarray:
        return y @ weights[f"{prefix}.{name}.weight"].T + weights[f"{prefix}.{name}.bias"]

    query, key, value = linear("query", x), linear("key", x), linear("value", x)
    mixed = np.zeros_like(x)
    for head in range(heads):
        own = np.arange(head, x.shape[1], heads)
        for step in range(len(x)):
            past = slice(0, step + 1 if causal else len(x))
            logits = key[past][:, own] @ query[step, own] / np.sqrt(len(own))
            share = np.exp(logits - logits.max())
            mixed[step, own] = share / share.sum() @ value[past][:, own]
    return linear("out", mixed)


def states(history: Sequence[int], weights: Weights, *, scale: bool, **options: Any) -> np.ndarray:
    """States [T, D] after the final norm."""
    vectors = weights["items.weight"][list(history)]
    return blocks(vectors, weights, scale=scale, causal=True, **options)


def blocks(
    vectors: np.ndarray,
    weights: Weights,
    *,
    layers: int,
    heads: int,
    norm: str,
    rezero: bool,
    scale: bool,
    causal: bool,
    activation: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """States [T, D] after the final norm, from item vectors [T, D]."""
    x = vectors * (np.sqrt(vectors.shape[1]) if scale else 1.0) + weights["positional"][: len(vectors)]
    for block in range(layers):
        prefix = f"blocks.{block}"

        def normed(y: np.ndarray, which: int, prefix: str = prefix) -> np.ndarray:
            return layer_norm(y, weights[f"{prefix}.norms.{which}.weight"], weights[f"{prefix}.norms.{which}.bias"])

        def alpha(which: int, prefix: str = prefix) -> np.ndarray | float:
            return weights[f"{prefix}.scales.{which}.alpha"] if rezero else 1.0

        def feed_forward(y: np.ndarray, prefix: str = prefix) -> np.ndarray:
            inner = activation(y @ weights[f"{prefix}.inner.weight"].T + weights[f"{prefix}.inner.bias"])
            return inner @ weights[f"{prefix}.outer.weight"].T + weights[f"{prefix}.outer.bias"]

        if norm == "pre":
            x = x + alpha(0) * attention(normed(x, 0), weights, f"{prefix}.attention", heads, causal)
            x = x + alpha(1) * feed_forward(normed(x, 1))
        else:
            x = normed(x + alpha(0) * attention(x, weights, f"{prefix}.attention", heads, causal), 0)
            x = normed(x + alpha(1) * feed_forward(x), 1)
    return layer_norm(x, weights["norm.weight"], weights["norm.bias"])
