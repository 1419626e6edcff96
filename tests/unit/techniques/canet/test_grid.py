"""The grid of routes against CANet's numbering and loops over its parts."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.backbone import Backbone
from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL, Gates, Route
from leanrec.techniques.canet.grid import RouteGrid, check_sizes, shares

SIZES, DEPTHS = (64, 96, 128), (2, 4, 6, 8)


def paper_backbone() -> Backbone:
    with torch.device("meta"):
        return SASRec(SASRecConfig(width=128, layers=8, heads=4), 5)


def paper_grid(projected: bool) -> RouteGrid:
    return RouteGrid(paper_backbone(), SIZES, DEPTHS, SIZES, projected)


def sizes_of(route: Route) -> tuple[int, int, int]:
    """Embedding channels, hidden channels and blocks of a route of the paper's grid."""
    return route.emb or 128, route.width or 128, 8 if route.layers is None else len(route.layers)


def test_routes_are_numbered_as_in_the_papers_code() -> None:
    routes = paper_grid(projected=True).routes
    assert len(routes) == 36
    for h, width in enumerate(SIZES):
        for n, depth in enumerate(DEPTHS):
            for e, emb in enumerate(SIZES):
                assert sizes_of(routes[12 * h + 3 * n + e]) == (emb, width, depth)
    assert routes[0] == Route(emb=64, width=64, layers=(0, 1))
    assert routes[35] == FULL and FULL not in routes[:35]
    assert routes[12 + 3 * 2 + 2] == Route(emb=128, width=96, layers=(0, 1, 2, 3, 4, 5))


def test_every_route_can_be_run() -> None:
    backbone = paper_backbone()
    for route in paper_grid(projected=True).routes:
        backbone.check(route)


def test_without_projection_no_embedding_is_larger_than_the_width() -> None:
    routes = paper_grid(projected=False).routes
    assert routes == tuple(
        route for route in paper_grid(projected=True).routes if sizes_of(route)[0] <= sizes_of(route)[1]
    )
    assert len(routes) == 24 and routes[-1] == FULL


def test_the_smallest_embedding_stays_at_every_width() -> None:
    routes = RouteGrid(paper_backbone(), (32, 64, 128), (8,), (96, 128), projected=False).routes
    assert [sizes_of(route)[:2] for route in routes] == [(96, 32), (96, 64), (96, 128), (128, 128)]


@pytest.mark.parametrize("projected", [True, False])
def test_marginals_equal_a_loop_over_routes(projected: bool) -> None:
    grid = paper_grid(projected)
    logits = 3 * torch.randn(5, len(grid.routes), dtype=torch.float64)
    weights = np.exp(logits.numpy())
    share = weights / weights.sum(1, keepdims=True)
    for part, sizes, found in zip((0, 1, 2), (SIZES, SIZES, DEPTHS), grid.double().marginals(logits), strict=True):
        expected = np.zeros((5, len(sizes)))
        for k, route in enumerate(grid.routes):
            expected[:, sizes.index(sizes_of(route)[part])] += share[:, k]
        np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-12)


def test_marginals_stay_finite_and_differentiable_where_one_route_is_certain() -> None:
    logits = torch.full((1, 36), -200.0)
    logits[0, 7] = 200.0
    logits.requires_grad_()
    marginals = paper_grid(projected=True).marginals(logits)
    assert all(part.isfinite().all() for part in marginals)
    torch.stack([part.sum() for part in marginals]).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def masks(route: Route) -> tuple[Tensor, Tensor, Tensor]:
    emb, width, _ = sizes_of(route)
    layers = range(8) if route.layers is None else route.layers
    return (
        torch.tensor([float(channel < emb) for channel in range(128)]),
        torch.tensor([float(channel < width) for channel in range(128)]),
        torch.tensor([float(block in layers) for block in range(8)]),
    )


def parts(gates: Gates) -> tuple[Tensor, Tensor, Tensor]:
    assert gates.emb is not None and gates.width is not None and gates.layers is not None
    return gates.emb, gates.width, gates.layers


@pytest.mark.parametrize("projected", [True, False])
def test_gates_of_a_one_hot_are_the_masks_of_its_route(projected: bool) -> None:
    grid = paper_grid(projected)
    found = parts(grid.gates(torch.eye(len(grid.routes))[:, None].expand(-1, 2, -1)))
    for k, route in enumerate(grid.routes):
        for gate, expected in zip(found, masks(route), strict=True):
            assert gate.shape == (len(grid.routes), 2, len(expected))
            assert torch.equal(gate[k], expected.expand(2, -1))


def test_gates_pass_gradients_to_all_routes_that_open_a_channel() -> None:
    grid = paper_grid(projected=True)
    choice = torch.eye(36)[:1, None].requires_grad_()
    gates = grid.gates(choice)
    for part, gate in enumerate(parts(gates)):
        (gradient,) = torch.autograd.grad(gate[..., -1].sum(), choice, retain_graph=True)
        whole = (128, 128, 8)[part]
        assert gradient[0, 0].tolist() == [float(sizes_of(route)[part] == whole) for route in grid.routes]


BAD = [
    ([8, 4, 16], "ascending sizes, each once", [4, 8, 16]),
    ([4, 4, 16], "ascending sizes, each once", [4, 16]),
    ([6, 16], r"multiples of backbone.heads \(4\)", [4, 16]),
    ([2, 16], r"multiples of backbone.heads \(4\)", [4, 16]),
    ([11, 6, 6], r"multiples of backbone.heads \(4\)", [4, 8, 16]),
    ([4, 8], "sizes that end with the whole model's, 16", [4, 8, 16]),
    ([4, 32], "sizes that end with the whole model's, 16", [4, 16]),
    ([], "sizes that end with the whole model's, 16", [16]),
]


@pytest.mark.parametrize(("sizes", "rule", "works"), BAD, ids=[str(sizes) for sizes, _, _ in BAD])
def test_sizes_are_refused_with_a_list_that_works(sizes: list[int], rule: str, works: list[int]) -> None:
    message = rf"^expected {rule} in technique\.canet\.widths, got {re.escape(str(sizes))}; (\[.*\]) would work$"
    with pytest.raises(ConfigError, match=message) as caught:
        check_sizes("widths", sizes, 16, 4)
    found = re.search(message, str(caught.value))
    assert found is not None
    assert ast.literal_eval(found[1]) == works
    check_sizes("widths", works, 16, 4)


@pytest.mark.parametrize("name", ["widths", "depths", "embs"])
def test_every_list_of_a_grid_is_checked(name: str) -> None:
    whole = {"widths": 128, "depths": 8, "embs": 128}
    sizes = {key: [size] for key, size in whole.items()} | {name: [whole[name], 4]}
    with pytest.raises(ConfigError, match=rf"^expected ascending .* in technique\.canet\.{name}, got .*; \[4, "):
        RouteGrid(paper_backbone(), sizes["widths"], sizes["depths"], sizes["embs"], projected=True)


def test_only_widths_are_multiples_of_the_heads() -> None:
    assert len(RouteGrid(paper_backbone(), (4, 128), (1, 8), (3, 128), projected=True).routes) == 8
    with pytest.raises(ConfigError, match=r"^expected multiples of backbone\.heads \(4\) in technique\.canet\.widths"):
        RouteGrid(paper_backbone(), (3, 128), (8,), (128,), projected=True)


@pytest.mark.parametrize(
    ("whole", "multiple", "parts", "sizes"),
    [
        (128, 4, (1 / 2, 3 / 4), (64, 96, 128)),
        (8, 1, (1 / 4, 1 / 2, 3 / 4), (2, 4, 6, 8)),
        (50, 2, (1 / 2, 3 / 4), (24, 36, 50)),
        (3, 1, (1 / 4, 1 / 2, 3 / 4), (1, 2, 3)),
        (2, 1, (1 / 4, 1 / 2, 3 / 4), (1, 2)),
        (1, 1, (1 / 4, 1 / 2, 3 / 4), (1,)),
        (4, 4, (1 / 2, 3 / 4), (4,)),
        (8, 4, (1 / 2, 3 / 4), (4, 8)),
    ],
)
def test_shares(whole: int, multiple: int, parts: tuple[float, ...], sizes: tuple[int, ...]) -> None:
    assert shares(whole, multiple, parts) == sizes
    check_sizes("widths", sizes, whole, multiple)
