"""Counted cost: parameters, bytes and FLOPs, found by running the model on the meta device.

Convention: a multiply-add is two FLOPs. Matrix products, attention and convolutions are counted; norms, activations,
look-ups and sorting are not. Causal attention counts as the whole T x T rectangle. The head is the scoring of all N
items for the newest step.

The meta device is not a convenience: on the CPU the fused kernels of attention and recurrent layers have no formula in
torch's counter and would silently count as nothing. On the meta device they fall apart into matrix products, and a
product that still has no formula is an error here.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Cost, Route

_PRODUCT = re.compile(r"(mm|mv|dot)(_|$)|matmul|linear|conv|attention|lstm|gru|rnn|cdist")


def flops_per_user(
    model: Recommender, steps: int, route: Route = FULL, head: bool = True, last_only: bool = True
) -> int:
    """FLOPs to answer one user. See the module for what is counted.

    Args:
        model: Left as it is; its weights are neither read nor copied.
        steps: Events T of the user's history; as in use, the backbone reads at most its ``max_length`` of them.
        route: The sub-model.
        head: Count the scoring of the catalogue.
        last_only: Count only what the newest step depends on, as in use; otherwise the states of all steps.

    Raises:
        CompositionError: The backbone cannot run this route.
        ConfigError: ``steps`` is below 1.
    """
    model.check(route)
    return _count(on_meta(model), steps, route, head, last_only)


def route_costs(model: Recommender, steps: int) -> list[tuple[Route, int]]:
    """Every route with its FLOPs per user for a history of ``steps`` events, in the model's order."""
    light = on_meta(model)
    return [(route, _count(light, steps, route)) for route in model.all_routes()]


def cost(model: Recommender, steps: int) -> Cost:
    """Parameters, bytes and the whole model's FLOPs for a history of ``steps`` events. Tied tensors count once."""
    params = sum(p.numel() for p in model.parameters())
    held = {id(t): t.nbytes for t in [*model.parameters(), *model.buffers()]}
    return Cost(params, sum(held.values()), flops_per_user(model, steps))


def answer(model: Recommender, batch: Batch, route: Route, head: bool = True, last_only: bool = True) -> Tensor:
    """What is counted: the newest states [B, e] of a batch, or their scores [B, N] with ``head``."""
    backbone = model.backbone
    states = model.represent(batch, route) if last_only else backbone.encode(backbone.query(batch), route).states[:, -1]
    return model.items.score(states) if head else states


def on_meta(model: Recommender) -> Recommender:
    """A copy of the model in eval mode that holds shapes only; no weight is copied, and tied tensors stay tied."""
    memo: dict[int, Any] = {id(p): _shape_of(p) for p in model.parameters()}
    memo |= {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    return copy.deepcopy(model, memo).eval()


def _shape_of(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)


def _count(light: Recommender, steps: int, route: Route, head: bool = True, last_only: bool = True) -> int:
    if steps < 1:
        raise ConfigError(f"expected a history of at least 1 step to count FLOPs for, got {steps}")
    steps = min(steps, light.backbone.max_length)
    batch = Batch(
        torch.zeros(1, steps, dtype=torch.long, device="meta"),
        torch.full((1,), steps, dtype=torch.long, device="meta"),
    )
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _NoSilentZero(), counter:
        answer(light, batch, route, head, last_only)
    return counter.get_total_flops()


class _NoSilentZero(TorchDispatchMode):
    """Refuses operators that multiply matrices, by their name, but have no formula in torch's counter."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if func.overloadpacket not in flop_registry and _PRODUCT.search(name):
            raise NotImplementedError(
                f"torch has no FLOP formula for {name!r}, which would count as nothing; "
                "write it as a matrix product, or as torch.einsum, torch.bmm or a convolution"
            )
        return func(*args, **(kwargs or {}))
