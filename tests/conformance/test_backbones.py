"""What every backbone promises, with every option of its config switched once."""

from __future__ import annotations

from itertools import combinations, product

import msgspec
import pytest
import torch
from torch import Tensor

from conformance.settings import NETWORKS, changed
from leanrec.backbones import backbones
from leanrec.core.backbone import Backbone
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Gates, Route
from leanrec.cost.count import flops_per_user
from leanrec.layers.elastic import ElasticLinear
from toys import random_batch, randomise

ITEMS = 40
CAUSAL = {name: backbones.get(name).build(setting.config, ITEMS).causal for name, setting in NETWORKS.items()}
VARIANTS = [pytest.param(name, setting.config, id=name) for name, setting in NETWORKS.items()] + [
    pytest.param(name, changed(setting.config, **{field: value}), id=f"{name}-{field}={value}")
    for name, setting in NETWORKS.items()
    for field, value in setting.other.items()
]
variants = pytest.mark.parametrize(("name", "config"), VARIANTS)
causal_variants = pytest.mark.parametrize(
    ("name", "config"), [variant for variant in VARIANTS if CAUSAL[str(variant.values[0])]]
)


def make(name: str, config: msgspec.Struct) -> Backbone:
    """A backbone whose every parameter is away from its neutral start, in eval mode."""
    backbone = backbones.get(name).build(config, ITEMS)
    randomise(backbone)
    return backbone.eval()


def some_histories(backbone: Backbone) -> Batch:
    longest = backbone.max_length
    return random_batch(ITEMS, [1, 3, longest, 5, 2, longest, longest - 1])


def some_queries(backbone: Backbone) -> Batch:
    return backbone.query(some_histories(backbone))


def grid(backbone: Backbone) -> list[Route]:
    """Widths x embedding sizes x all subsets of blocks, as far as the backbone supports them."""
    heads, blocks = backbone.heads, len(backbone.blocks)
    per_head = backbone.width // heads
    narrow = {per_head // 2 * heads, max(-(-4 // heads), per_head // 3) * heads}  # norms of 2 channels magnify rounding
    widths = [None, *narrow] if "width" in backbone.supports else [None]
    subsets = [layers for count in range(blocks + 1) for layers in combinations(range(blocks), count)]
    depths = [None, *subsets] if "depth" in backbone.supports else [None]
    return [Route(*parts) for parts in product([None, backbone.items.dim // 2, 1], widths, depths)]


def gates_of(backbone: Backbone, routes: list[Route], steps: int = 1) -> Gates:
    """One route per user as masks [B, steps, .]."""

    def prefix(size: int | None, most: int) -> list[float]:
        return [float(channel < (size or most)) for channel in range(most)]

    def chosen(layers: tuple[int, ...] | None) -> list[float]:
        return [float(layers is None or block in layers) for block in range(len(backbone.blocks))]

    masks = (
        [prefix(route.emb, backbone.items.dim) for route in routes],
        [prefix(route.width, backbone.width) for route in routes],
        [chosen(route.layers) for route in routes],
    )
    dtype = next(backbone.parameters()).dtype
    return Gates(*(torch.tensor(mask, dtype=dtype).unsqueeze(1).repeat(1, steps, 1) for mask in masks))


@variants
def test_shapes_and_types(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    histories, batch = some_histories(backbone), some_queries(backbone)
    users, steps = batch.items.shape
    whole = backbone.encode(batch, keep_layers=True)
    assert whole.states.shape == (users, steps, backbone.items.dim)
    assert [tuple(layer.shape) for layer in whole.layers] == [(users, steps, backbone.width)] * len(backbone.blocks)
    newest = backbone.encode(batch, last_only=True)
    assert newest.states.shape == (users, backbone.items.dim)
    assert newest.layers == ()
    scores = Recommender(backbone, lambda model, batch, states, targets: {}).score(histories)
    assert scores.shape == (users, ITEMS)
    assert whole.states.dtype == newest.states.dtype == scores.dtype == torch.float32


@causal_variants
def test_nothing_looks_ahead(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    steps = backbone.max_length
    before = random_batch(ITEMS, [steps] * 3)
    states = backbone.encode(before).states
    for step in range(steps):
        items = before.items.clone()
        items[:, step] = items[:, step] % ITEMS + 1
        moved = (backbone.encode(Batch(items, before.lengths)).states - states).abs().amax(-1)
        assert (moved[:, :step] == 0).all()
        assert (moved[:, step] > 1e-4).all()


@variants
def test_no_state_sees_the_item_that_is_wanted_of_it(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    lengths = torch.tensor([backbone.max_length, 4, 1] * 3)
    events = torch.randint(1, ITEMS + 1, (len(lengths), backbone.max_length + 1))
    inside = torch.arange(backbone.max_length) < lengths[:, None]

    def states(events: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        batch = backbone.examples(Batch(events[:, :-1] * inside, lengths, events[:, 1:] * inside))
        assert batch.targets is not None
        return backbone.encode(batch).states, batch.targets

    before, wanted = states(events)
    scored = 0
    for step in range(backbone.max_length + 1):
        changed_events = events.clone()
        changed_events[:, step] = events[:, step] % ITEMS + 1
        after, now_wanted = states(changed_events)
        differs = now_wanted != wanted
        scored += int(differs.sum())
        assert torch.equal(after[differs], before[differs])
        assert step == 0 or differs.any() or not backbone.causal
    assert scored == int((wanted > 0).sum()) > len(lengths)


@variants
def test_padding_and_neighbours_do_not_change_a_state(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    together = some_queries(backbone)
    states, newest = backbone.encode(together).states, backbone.encode(together, last_only=True).states
    for row, length in enumerate(together.lengths.tolist()):
        alone = Batch(together.items[row : row + 1, :length], together.lengths[row : row + 1])
        torch.testing.assert_close(backbone.encode(alone).states[0], states[row, :length], atol=1e-5, rtol=0)
        torch.testing.assert_close(backbone.encode(alone, last_only=True).states[0], newest[row], atol=1e-5, rtol=0)


@variants
def test_the_newest_step_alone_equals_the_full_run(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    batch = some_queries(backbone)
    rows = torch.arange(batch.size)
    for route in grid(backbone):
        whole = backbone.encode(batch, route).states[rows, batch.last]
        torch.testing.assert_close(backbone.encode(batch, route, last_only=True).states, whole, atol=1e-5, rtol=0)


@variants
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["float32", "float64"])
def test_masked_equals_sliced_on_every_route(
    name: str, config: msgspec.Struct, dtype: torch.dtype, limit: float
) -> None:
    backbone = make(name, config).to(dtype)
    sizes = {route: min(route.emb or backbone.items.dim, route.width or backbone.width) for route in grid(backbone)}
    assert_masked_equals_sliced(backbone, sizes, limit)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["float32", "float64"])
def test_masked_equals_sliced_with_layers_between_embedding_and_hidden_channels(
    name: str, dtype: torch.dtype, limit: float
) -> None:
    backbone = backbones.get(name).build(NETWORKS[name].config, ITEMS)
    backbone.enter = ElasticLinear(backbone.items.dim, backbone.width)
    backbone.leave = ElasticLinear(backbone.width, backbone.items.dim)
    randomise(backbone)
    sizes = {route: route.emb or backbone.items.dim for route in grid(backbone)}
    for more in (True, False):
        assert any(route.emb and route.width and (route.emb > route.width) == more for route in sizes)
    assert_masked_equals_sliced(backbone.to(dtype).eval(), sizes, limit)


def assert_masked_equals_sliced(backbone: Backbone, sizes: dict[Route, int], limit: float) -> None:
    """On every route, whose states have so many channels; masked states are zero beyond them."""
    batch = backbone.query(random_batch(ITEMS, [1 + row % backbone.max_length for row in range(len(sizes))]))
    gates = gates_of(backbone, list(sizes))
    masked = backbone.encode(batch, gates=gates).states
    newest = backbone.encode(batch, gates=gates, last_only=True).states
    for row, (route, size) in enumerate(sizes.items()):
        backbone.check(route)
        length = int(batch.lengths[row])
        sliced = backbone.encode(Batch(batch.items[row : row + 1, :length], batch.lengths[row : row + 1]), route).states
        assert sliced.shape[-1] == size
        torch.testing.assert_close(masked[row, :length, :size], sliced[0], atol=limit, rtol=0)
        torch.testing.assert_close(newest[row, :size], sliced[0, -1], atol=limit, rtol=0)
        assert not masked[row, :length, size:].any()


@variants
def test_gates_of_equal_steps_are_gates_of_the_whole_history(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    routes = grid(backbone)
    batch = backbone.query(random_batch(ITEMS, [1 + row % backbone.max_length for row in range(len(routes))]))
    once = backbone.encode(batch, gates=gates_of(backbone, routes), keep_layers=True)
    each = backbone.encode(batch, gates=gates_of(backbone, routes, batch.items.shape[1]), keep_layers=True)
    for found, expected in zip((*each.layers, each.states), (*once.layers, once.states), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@variants
def test_gates_pass_gradients_only_at_the_steps_that_are_not_detached(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    batch = backbone.query(random_batch(ITEMS, [4, backbone.max_length, 7, 1]))
    narrow = next(route for route in reversed(grid(backbone)) if route.layers is None)
    gates = gates_of(backbone, [narrow] * batch.size, batch.items.shape[1])
    newest = (torch.arange(batch.items.shape[1]) == batch.last[:, None]).unsqueeze(-1)
    masks = [mask.requires_grad_() for mask in (gates.emb, gates.width, gates.layers) if mask is not None]
    states = backbone.encode(batch, gates=Gates(*(torch.where(newest, mask, mask.detach()) for mask in masks))).states
    for gradient in torch.autograd.grad(backbone.items.score(states.flatten(0, 1)).square().sum(), masks):
        assert gradient.isfinite().all()
        assert gradient.abs().amax(-1, keepdim=True).gt(0).equal(newest)


@variants
def test_a_slice_is_the_small_model_with_a_prefix_of_the_weights(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    for width in sorted({route.width for route in grid(backbone)} - {None}):  # pyright: ignore[reportArgumentType]
        small = backbones.get(name).build(changed(config, width=width), ITEMS).eval()
        shapes = {key: value.shape for key, value in small.state_dict().items()}
        whole = backbone.state_dict()
        small.load_state_dict({key: whole[key][tuple(map(slice, shape))] for key, shape in shapes.items()})
        small.scale = backbone.scale  # the input keeps the factor of the whole model
        batch = some_queries(backbone)
        sliced = backbone.encode(batch, Route(width=width)).states
        torch.testing.assert_close(small.encode(batch).states, sliced, atol=1e-5, rtol=0)


@variants
def test_gates_pass_gradients_to_a_router(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config)
    batch = some_queries(backbone)
    narrow = next(route for route in reversed(grid(backbone)) if route.layers is None)
    gates = gates_of(backbone, [narrow] * batch.size)
    masks = [mask.requires_grad_() for mask in (gates.emb, gates.width, gates.layers) if mask is not None]
    states = backbone.encode(batch, gates=gates, last_only=True).states
    for gradient in torch.autograd.grad(backbone.items.score(states).square().sum(), masks):
        assert gradient.isfinite().all()
        assert gradient.any()


@variants
def test_every_parameter_learns(name: str, config: msgspec.Struct) -> None:
    backbone = make(name, config).train()
    model = Recommender(backbone, lambda model, batch, states, targets: {"nll": model.items.nll(states, targets)})
    model.loss(some_histories(backbone))["nll"].backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key
    assert not backbone.items.get_parameter("weight").grad[0].any()  # pyright: ignore[reportOptionalSubscript]


@pytest.mark.parametrize("name", NETWORKS)
def test_less_width_or_depth_costs_less(name: str) -> None:
    backbone = make(name, NETWORKS[name].config)
    model = Recommender(backbone, lambda model, batch, states, targets: {})
    cost = {route: flops_per_user(model, backbone.max_length, route) for route in grid(backbone)}
    for route, flops in cost.items():
        for whole in {Route(None, route.width, route.layers), Route(route.emb, None, route.layers)} & cost.keys():
            assert flops <= cost[whole]
        if route.layers is not None and len(route.layers) < len(backbone.blocks):
            assert flops < cost[Route(route.emb, route.width)]
    assert all(flops < cost[FULL] for route, flops in cost.items() if route.width is not None)
