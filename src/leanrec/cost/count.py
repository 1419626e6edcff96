"""Counted cost: parameters, bytes and FLOPs, found by running the model on the meta device.

Convention: a multiply-add is two FLOPs. Matrix products, attention and convolutions are counted; norms, activations,
look-ups and sorting are not. Causal attention counts as the whole T x T rectangle. The head is the scoring of all N
items for the newest step, and what is added to few scores. Routing is whatever a model computes to choose a route; the whole model
needs none.

The meta device is not a convenience: on the CPU the fused kernels of attention and recurrent layers have no formula in
torch's counter and would silently count as nothing. On the meta device they fall apart into matrix products, and a
product that still has no formula is an error here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from leanrec.core.backbone import Exits
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Cost, Route, blank_context

_T = TypeVar("_T")
_POINTS = 16
_MOST_KNOWN = 2**16
"""Most operators that are remembered."""
_PRODUCT = re.compile(r"(mm|mv|dot)(_|$)|matmul|linear|conv|attention|lstm|gru|rnn|cdist")


class Flops:
    """Counts the FLOPs of a model's requests, and remembers what it has counted; the module says what counts.

    Args:
        model: Left as it is; its weights are neither read nor copied.
    """

    def __init__(self, model: Recommender) -> None:
        self.light = on_meta(model)
        self.bodies: dict[tuple[int, Route, bool], tuple[int, int]] = {}
        self.heads: dict[int, int] = {}
        self.chosen: dict[tuple[int, Route], int] = {}

    def request(self, steps: int, route: Route = FULL, head: bool = True, last_only: bool = True) -> int:
        """FLOPs to answer one user on a given route.

        Args:
            steps: Events T of the user's history; as in use, the backbone reads at most its ``max_length`` of them.
            route: The sub-model.
            head: Count the scoring of the catalogue.
            last_only: Count only what the newest step depends on, as in use; otherwise the states of all steps.

        Raises:
            CompositionError: The backbone cannot run this route.
            ConfigError: ``steps`` is below 1.
        """
        flops, channels = self._body(steps, route, last_only)
        if head:
            flops += self._head(channels) + (0 if self.light.sparse is None else self.light.sparse.flops(channels))
        return flops

    def routing(self, steps: int, route: Route = FULL) -> int:
        """FLOPs to choose the route of one user with ``steps`` events, who takes ``route`` in the end.

        Where users leave between blocks, it is all that a user who leaves computes beside the blocks until there for the newest
        step: what decides, and the states of older steps that only later blocks would have read.
        """
        exits = self.light.exits()
        key = steps, FULL if exits is None else route
        if key not in self.chosen:
            batch = _history(self.light, steps)
            self.chosen[key] = _count(lambda: self.light.decide(batch))[0]
            if exits is not None:
                self.chosen[key] += _count(lambda: _leaving(self.light, batch, route, exits))[0]
                self.chosen[key] -= self._body(steps, route, True)[0]
        return self.chosen[key]

    def _body(self, steps: int, route: Route, last_only: bool) -> tuple[int, int]:
        """FLOPs of the backbone, and the channels of its states."""
        key = (steps, route, last_only)
        if key not in self.bodies:
            self.light.check(route)
            batch = _history(self.light, steps)
            flops, states = _count(lambda: newest(self.light, batch, route, last_only))
            self.bodies[key] = flops, states.shape[-1]
        return self.bodies[key]

    def _head(self, channels: int) -> int:
        """FLOPs of scoring the catalogue for one user."""
        if channels not in self.heads:
            self.heads[channels] = _count(lambda: self.light.catalogue(torch.zeros(1, channels, device="meta")))[0]
        return self.heads[channels]


def flops_per_user(
    model: Recommender, steps: int, route: Route = FULL, head: bool = True, last_only: bool = True
) -> int:
    """FLOPs to answer one user on a given route, as `Flops.request` counts them."""
    return Flops(model).request(steps, route, head, last_only)


def route_costs(model: Recommender, steps: int) -> list[tuple[Route, int]]:
    """Every route with its FLOPs per user for a history of ``steps`` events, routing included, in the model's order."""
    flops = Flops(model)
    return [(route, flops.request(steps, route) + flops.routing(steps, route)) for route in model.all_routes()]


def interpolated(count: Callable[[int], int], lengths: np.ndarray) -> np.ndarray:
    """FLOPs float [U] of histories with ``lengths`` [U]: counted at some lengths, linear between them.

    For tables of many routes, where counting every length takes minutes; exact up to 8 steps. Above, attention is up to 3 %
    off at single lengths, and NextItNet's cones, which grow by leaps, up to 14 %; means over users are within 2 %.
    """
    longest = int(lengths.max())
    at = sorted({*range(1, min(longest, 8) + 1), *np.rint(np.geomspace(1, longest, _POINTS)).astype(int).tolist()})
    return np.interp(lengths, at, [count(steps) for steps in at])


def cost(model: Recommender, steps: int) -> Cost:
    """Parameters, bytes and the whole model's FLOPs for a history of ``steps`` events. Tied tensors count once."""
    params = sum(p.numel() for p in model.parameters())
    held = {id(t): t.nbytes for t in [*model.parameters(), *model.buffers()]}
    return Cost(params, sum(held.values()), flops_per_user(model, steps))


def newest(model: Recommender, batch: Batch, route: Route, last_only: bool = True) -> Tensor:
    """The newest states [B, e] of a batch."""
    backbone = model.backbone
    return model.represent(batch, route) if last_only else backbone.encode(backbone.query(batch), route).states[:, -1]


def _leaving(model: Recommender, batch: Batch, route: Route, exits: Exits) -> Tensor:
    """The newest states [1, e] of a user who starts on all blocks and leaves after the last of a route."""
    last = max(route.layers or (), default=len(model.backbone.blocks) - 1)

    def leaves(states: Tensor, block: int) -> Tensor:
        exits(states, block)
        return torch.tensor([block == last])

    whole = Route(route.emb, route.width)
    return model.backbone.encode(model.backbone.query(batch), whole, last_only=True, exits=leaves).states


def on_meta(model: Recommender) -> Recommender:
    """A copy of the model in eval mode that holds shapes only; no weight is copied, and tied tensors stay tied."""
    memo: dict[int, Any] = {id(p): _shape_of(p) for p in model.parameters()}
    memo |= {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    return copy.deepcopy(model, memo).eval()


def _shape_of(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)


def _history(light: Recommender, steps: int) -> Batch:
    if steps < 1:
        raise ConfigError(f"expected a history of at least 1 step to count FLOPs for, got {steps}")
    steps = min(steps, light.backbone.max_length)
    items = torch.zeros(1, steps, dtype=torch.long, device="meta")
    lengths = torch.full((1,), steps, dtype=torch.long, device="meta")
    return Batch(items, lengths, context=blank_context(light.reads, items))


def _count(compute: Callable[[], _T]) -> tuple[int, _T]:
    counter = _Counter()
    with torch.no_grad(), counter:
        result = compute()
    return counter.flops, result


class _Counter(TorchDispatchMode):
    """Adds up torch's own formulas; refuses operators that multiply matrices, by their name, but have none.

    torch's FlopCounterMode sums the same formulas, but also keeps account of every module, which costs time. Most of the time goes
    into finding the shapes of results, so operators are remembered: routes and lengths of a model have most of theirs in common.
    """

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        key = (func, _form(args), _form(kwargs))
        known = _KNOWN.get(key)
        if known is not None:
            flops, single, shapes = known
            self.flops += flops
            made = tuple(
                torch.empty_strided(shape, stride, dtype=dtype, device="meta") for shape, stride, dtype in shapes
            )
            return made[0] if single else made
        before = self.flops
        packet = func.overloadpacket
        if packet not in flop_registry:
            with self:  # in inference mode composite operators arrive whole
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        out = func(*args, **(kwargs or {}))
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif _PRODUCT.search(packet.__name__):
            raise CompositionError(
                f"expected operations that torch has a FLOP formula for, got {packet.__name__!r}, which would count as nothing; "
                "write it as a matrix product, or as torch.einsum, torch.bmm or a convolution"
            )
        single = isinstance(out, Tensor)
        found = (out,) if single else out if isinstance(out, tuple) else ()
        if found and not func._schema.is_mutable and all(isinstance(t, Tensor) and t.is_meta for t in found):
            if len(_KNOWN) >= _MOST_KNOWN:
                _KNOWN.clear()
            _KNOWN[key] = self.flops - before, single, tuple((t.shape, t.stride(), t.dtype) for t in found)
        return out


_KNOWN: dict[Any, tuple[int, bool, tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]]] = {}
"""FLOPs of operators, whether they give one tensor or several, and which; by name and arguments."""


def _form(value: Any) -> Any:
    """What an operator's result depends on, where tensors hold no values; equal numbers of other types are others."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, (tuple, list)):
        return tuple(map(_form, value))
    if isinstance(value, dict):
        return tuple((name, _form(inner)) for name, inner in value.items())
    return type(value), value
