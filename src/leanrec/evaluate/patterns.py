"""How much of a choice of blocks is about the user."""

from __future__ import annotations

import numpy as np

ALWAYS = 0.99
"""A block that so many users keep is kept for everyone, one that so many skip for no one."""


def keep_rates(kept: np.ndarray) -> np.ndarray:
    """Share of users, float [L], who keep each block, of patterns bool [U, L]."""
    return kept.mean(0)


def information(kept: np.ndarray) -> float:
    """Mutual information between user and pattern in bits, of patterns bool [U, L].

    A firm policy gives a user the same pattern every time, so it is the entropy of the patterns: 0 if all users share one.
    """
    _, counts = np.unique(kept, axis=0, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def decided(kept: np.ndarray) -> dict[str, float]:
    """Share of the blocks that are kept for everyone, skipped for everyone, and decided per user, of patterns bool [U, L]."""
    rates = keep_rates(kept)
    always, never = rates >= ALWAYS, rates <= 1 - ALWAYS
    return {"always": float(always.mean()), "never": float(never.mean()), "per_user": float((~always & ~never).mean())}
