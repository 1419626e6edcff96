"""Earth Mover's Distance between the blocks of two models: which block is compared with which, and how much.

The flow F is the cheapest with row sums w^S (student blocks) and column sums w^T (teacher blocks). The weights start even and
follow it, as in BERT-EMD: the unit cost c_i = sum_j F_ij D_ij / w_i of a block gives r_i = sum(c) / c_i and
w = softmax(r / 10), so blocks that are matched cheaply get more of the flow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError

SOFTNESS = 10.0
"""Of the softmax that turns unit costs into weights."""
LEAST = 1e-6
"""Smallest weight of a block, so that its unit cost stays defined."""


def flow_solver() -> Any:
    """POT's exact solver.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        from ot.lp import emd
    except ImportError as error:
        raise ConfigError(
            "expected the package POT for technique.adarec.mapping=emd, got none; install it with pip install 'leanrec[adarec]', "
            "or set technique.adarec.mapping=fixed"
        ) from error
    return emd


def cheapest_flow(ours: Tensor, theirs: Tensor, distance: Tensor) -> Tensor:
    """Flow float64 [L, L'] with row sums ``ours`` [L] and column sums ``theirs`` [L'] that costs least. No gradients."""
    weights = [side.detach().cpu().numpy() for side in (ours, theirs)]
    cost = np.ascontiguousarray(distance.detach().double().cpu().numpy())
    return torch.from_numpy(flow_solver()(*weights, cost)).to(distance.device)


def reweighted(weights: Tensor, work: Tensor) -> Tensor:
    """New weights [L] of layers that carried flow of this total cost [L]; see the module. A layer without cost gets the least."""
    unit = work / weights
    ratio = torch.where(unit > 0, unit.sum() / unit.clamp_min(1e-30), 0.0)
    found = (ratio / SOFTNESS).softmax(0).clamp_min(LEAST)
    return found / found.sum()
