"""Which users of a batch run together, each on its own route. Evaluation and requests both ask here, so what is measured is what is
served. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from leanrec.core.plain import NO_NETWORK, Route

WORTH_A_GROUP = 16
"""Smallest mean number of users of a route for which running the users of each route together beats block by block. Measured
by hand with NextItNet (d = 64, 16 blocks, histories of 30, one core): block by block 1.8 to 7 times as fast at 1 to 3 users, and
0.5 to 0.9 times at 43 to 85."""


class Group(NamedTuple):
    """Users who run together.

    Attributes:
        rows: int64 [B'], their places in the batch, ascending; None for all B.
        routes: The B' users' routes.
        route: What runs for them.
        skip: bool [B', L], the blocks of ``route`` that each user leaves out; None where all run all of them.
    """

    rows: np.ndarray | None
    routes: Sequence[Route]
    route: Route
    skip: np.ndarray | None = None


def grouped(routes: Sequence[Route], blocks: int | None = None, worth: int = WORTH_A_GROUP) -> Iterator[Group]:
    """Group the users of a batch.

    Users of one route run together as a dense slice. Where routes differ in their blocks only and few users share one, all users
    run together, block by block; but for those whom the network does not answer.

    Args:
        routes: The B users' routes.
        blocks: L, of a model that can run block by block; None for one that is a graph per route.
        worth: Smallest mean number of users of a route that run as a group of their own.
    """
    distinct = dict.fromkeys(routes)
    if NO_NETWORK in distinct and len(distinct) > 1:
        out = np.array([route == NO_NETWORK for route in routes])
        yield Group(np.flatnonzero(out), [NO_NETWORK] * int(out.sum()), NO_NETWORK)
        rest = np.flatnonzero(~out)
        for group in grouped([route for route in routes if route != NO_NETWORK], blocks, worth):
            yield group._replace(rows=rest if group.rows is None else rest[group.rows])
        return
    sizes = {(route.emb, route.width) for route in distinct}
    if len(distinct) == 1:
        yield Group(None, routes, routes[0])
    elif blocks is not None and len(sizes) == 1 and len(routes) < worth * len(distinct):
        yield Group(None, routes, Route(*sizes.pop()), skipped(routes, blocks))
    else:
        members: dict[Route, list[int]] = {route: [] for route in distinct}
        for row, route in enumerate(routes):
            members[route].append(row)
        for route, rows in members.items():
            yield Group(np.array(rows), [route] * len(rows), route)


def skipped(routes: Sequence[Route], blocks: int) -> np.ndarray:
    """Which of the L blocks every route leaves out, bool [B, L]."""
    every = range(blocks)
    return np.array([[r.layers is not None and i not in r.layers for i in every] for r in routes])
