"""CpRec: what a compressed model stores, where it starts from, and what it goes together with."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.build import build
from leanrec.config import parse
from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.tied import stored
from leanrec.core.types import FULL, Gates, Route
from leanrec.cost.count import cost
from leanrec.objectives.softmax import Softmax, build_softmax
from leanrec.techniques.cprec.blocks import block_ends
from leanrec.techniques.cprec.rows import freeze
from leanrec.techniques.cprec.sharing import Scheme
from leanrec.techniques.cprec.technique import CpRecConfig, CpRecTechnique
from toys import catalog, random_batch, randomise, scores_by_route

ITEMS, WIDTH, LONGEST = 60, 16, 8
SHAPES: dict[str, dict[str, Any]] = {
    "sasrec": {"heads": 2},
    "nextitnet": {"dilations": [1, 2], "rezero": False},
    "gru4rec": {},
    "bert4rec": {"heads": 2},
}
TABLES: dict[str, dict[str, Any]] = {
    "tied": {"cuts": [10, 30]},
    "shared": {"cuts": [10, 30], "parts": "shared"},
    "both": {"cuts": [10, 30], "parts": "both"},
    "codes": {"codes": 4},
    "codes in blocks": {"codes": [4, 2], "cuts": [5]},
    "tied int8": {"cuts": [10, 30], "int8": True},
    "shared int8": {"cuts": [10, 30], "parts": "shared", "int8": True},
    "int8 codes": {"codes": 4, "int8": True},
    "whole": {"parts": "whole"},
}
backbones = pytest.mark.parametrize("backbone", SHAPES)
tables = pytest.mark.parametrize("table", TABLES)


def make(
    backbone: str = "sasrec", layers: int = 4, noise: float = 0.3, others: dict[str, Any] | None = None, **fields: Any
) -> Recommender:
    """A finished model away from its start, in eval mode."""
    size = {"width": WIDTH, "layers": layers, "max_length": LONGEST, "dropout": 0.0}
    tree = {"backbone": {"name": backbone, **size, **SHAPES[backbone]}, "technique": {"cprec": fields} | (others or {})}
    model, stages = build(parse(tree), catalog(ITEMS))
    randomise(model, noise)
    for stage in stages:
        stage.finish(model)
    return model.eval()


def plain(backbone: str, layers: int = 4) -> Recommender:
    size = {"width": WIDTH, "layers": layers, "max_length": LONGEST, "dropout": 0.0}
    model, _ = build(parse({"backbone": {"name": backbone, **size, **SHAPES[backbone]}}), catalog(ITEMS))
    randomise(model, 0.3)
    return model.eval()


def adopted(full: Recommender, backbone: str, **fields: Any) -> Recommender:
    """A compressed model that starts from a full one."""
    config = CpRecConfig(**fields)
    lean = make(backbone, noise=0.0, **{"cuts": list(config.cuts), **{k: v for k, v in fields.items() if k != "cuts"}})
    state = CpRecTechnique(config).adopt(lean, dict(full.state_dict()))
    lean.load_state_dict(state)
    return lean


@pytest.mark.parametrize(
    ("sharing", "kernels"),
    [("none", 8), ("cross-layer", 1), ("cross-block", 2), ("adjacent-layer", 4), ("adjacent-block", 4)],
)
def test_parameters_are_those_of_the_papers_formula(sharing: Scheme, kernels: int) -> None:
    dims, counts, k, blocks = (16, 4, 1), (10, 20, 30), 3, 4
    model = make("nextitnet", cuts=[10, 30], parts="both", sharing=sharing)
    rows = sum(count * dim for count, dim in zip(counts, dims, strict=True))
    maps = sum(dim * WIDTH for dim in dims[1:])
    table = rows + maps
    softmax = rows + maps + (len(counts) - 1) * WIDTH
    hidden = kernels * (k * WIDTH**2 + WIDTH) + 4 * blocks * WIDTH
    outside = sum(
        p.numel() for p in model.backbone.norm.parameters()
    )  # the paper's network has no norm after its blocks
    weights = {id(p): p.numel() for p in model.parameters()}
    assert sum(weights.values()) - outside == table + softmax + hidden
    assert cost(model, LONGEST).params == sum(weights.values())


def test_codes_and_integers_count_as_parameters() -> None:
    assert sum(p.numel() for p in make(codes=4).items.parameters()) == ITEMS * 4 + 256 * WIDTH
    rows, small = 10 * 16 + 20 * 4 + 30, make(cuts=[10, 30], parts="shared", int8=True).items
    assert sum(p.numel() for p in small.parameters()) == rows + ITEMS + 5 * WIDTH + 2 * WIDTH  # a scale an item
    assert sum(p.nbytes for p in small.parameters()) == rows + 2 * ITEMS + 4 * (5 * WIDTH + 2 * WIDTH)


@backbones
@tables
def test_what_is_stored_gives_the_same_scores(backbone: str, table: str) -> None:
    model, batch = make(backbone, sharing="cross-block", **TABLES[table]), random_batch(ITEMS, [1, 5, 8])
    other = make(backbone, noise=0.1, sharing="cross-block", **TABLES[table])
    scores = [m.items.score(m.represent(batch)) for m in (model, other)]
    assert not torch.allclose(*scores)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.items.score(model.represent(batch)), other.items.score(other.represent(batch)))
    assert len(stored(model)) < len(model.state_dict())


@backbones
def test_blocks_of_full_rank_start_as_the_trained_model(backbone: str) -> None:
    full, batch = plain(backbone), random_batch(ITEMS, [1, 5, 8])
    lean = adopted(full, backbone, cuts=(20,), dims=(WIDTH, WIDTH))
    states = full.represent(batch)
    torch.testing.assert_close(lean.items.score(states), full.items.score(states), atol=1e-4, rtol=1e-4)
    lean = adopted(full, backbone, cuts=(20,), dims=(WIDTH, WIDTH), parts="shared")
    torch.testing.assert_close(lean.represent(batch), full.represent(batch), atol=1e-4, rtol=1e-4)
    state = full.represent(batch)[:1]
    inside = [lean.items.score(state)[0, :20], full.items.score(state)[0, :20]]
    torch.testing.assert_close(inside[0] - inside[0][0], inside[1] - inside[1][0], atol=1e-3, rtol=1e-3)


def test_fewer_dimensions_start_nearer_the_more_there_are() -> None:
    full, ids = plain("sasrec"), torch.arange(1, ITEMS + 1)
    wanted = full.items.embed(ids).detach()
    errors = [
        float(
            (adopted(full, "sasrec", cuts=(10,), dims=(WIDTH, dim)).items.embed(ids).detach() - wanted).square().sum()
        )
        for dim in (1, 4, 12, 16)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-6 < errors[-2]


@pytest.mark.parametrize("width", [5, WIDTH])
def test_one_softmax_over_items_of_low_rank(width: int) -> None:
    items, states = make(cuts=[10, 30]).items, torch.randn(130, width, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(1, ITEMS + 1)
    scores = (states @ items.embed(ids, width).t()).detach()
    torch.testing.assert_close(items.score(states).detach(), scores, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(items.score(states, ids[5:50]).detach(), scores[:, 5:50], atol=1e-5, rtol=1e-5)
    own = torch.randint(1, ITEMS + 1, (130, 3))
    torch.testing.assert_close(items.score(states, own).detach(), scores.gather(1, own - 1), atol=1e-5, rtol=1e-5)
    loss = torch.nn.functional.cross_entropy(scores, own[:, 0] - 1)
    torch.testing.assert_close(items.nll(states, own[:, 0]).detach(), loss, atol=1e-5, rtol=1e-5)
    found, best = items.top_k(states, 7, own)
    kept = scores.scatter(1, own - 1, -torch.inf)
    torch.testing.assert_close(best, kept.topk(7).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(kept.gather(1, found - 1), best, atol=1e-5, rtol=1e-5)


def test_layers_that_share_start_at_the_mean_of_the_trained_ones() -> None:
    full = plain("nextitnet")
    lean = adopted(full, "nextitnet", cuts=(10,), sharing="adjacent-block")
    name = next(name for name, p in full.named_parameters() if name.startswith("backbone.blocks.0.") and p.dim() == 3)
    weights = full.state_dict()
    for first in (0, 2):
        pair = [weights[name.replace("blocks.0", f"blocks.{block}")] for block in (first, first + 1)]
        for block in (first, first + 1):
            found = lean.state_dict()[name.replace("blocks.0", f"blocks.{block}")]
            torch.testing.assert_close(found, (pair[0] + pair[1]) / 2)


def test_layers_may_share_alone_and_the_table_be_coded_later() -> None:
    full = plain("nextitnet")
    shared = adopted(full, "nextitnet", parts="whole", sharing="adjacent-block")
    assert torch.equal(shared.items.embed(torch.arange(ITEMS + 1)), full.items.embed(torch.arange(ITEMS + 1)))
    body = {name: p for name, p in shared.state_dict().items() if ".items." not in name}
    config = CpRecConfig(codes=WIDTH, sharing="adjacent-block")
    coded = make("nextitnet", noise=0.0, codes=WIDTH, sharing="adjacent-block")
    coded.load_state_dict(CpRecTechnique(config).adopt(coded, dict(shared.state_dict())))
    found = coded.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in body.items())
    wanted = shared.items.embed(torch.arange(ITEMS + 1))
    torch.testing.assert_close(coded.items.embed(torch.arange(ITEMS + 1)), wanted, atol=0.05, rtol=0)


def test_a_table_that_is_left_as_it_is_has_no_integers() -> None:
    with pytest.raises(ConfigError) as caught:
        make(parts="whole", int8=True)
    assert str(caught.value) == (
        "expected no technique.cprec.int8 with parts=whole, which leaves the table as it is; use parts=tied or codes"
    )


@tables
@pytest.mark.parametrize("emb", [4, 12, WIDTH])
def test_prefixes_of_channels_work_inside_blocks(table: str, emb: int) -> None:
    items, ids = make(**TABLES[table]).items, torch.arange(ITEMS + 1)
    torch.testing.assert_close(items.embed(ids, emb), items.embed(ids)[:, :emb], atol=1e-6, rtol=0)
    states = torch.randn(5, emb, generator=torch.Generator().manual_seed(0))
    found, scores = items.top_k(states, 10)
    torch.testing.assert_close(scores, items.score(states).topk(10).values, atol=1e-5, rtol=1e-5)
    assert bool((found > 0).all())


@tables
def test_routes_of_canet_are_slices_of_a_compressed_model(table: str) -> None:
    routed = {"canet": {"widths": [8, WIDTH], "depths": [1, 4], "embs": [8, WIDTH]}}
    model, batch = make(others=routed, **TABLES[table]), random_batch(ITEMS, [1, 5, 8, 3])
    for route in model.all_routes():
        kept = [layer in (route.layers or range(4)) for layer in range(4)]
        layers = torch.tensor([[kept]] * batch.size).float()
        gates = Gates(opened(route.emb or WIDTH, batch.size), opened(route.width or WIDTH, batch.size), layers)
        masked = model.backbone.encode(batch, gates=gates).states
        sliced = model.backbone.encode(batch, route).states
        width = sliced.shape[-1]
        torch.testing.assert_close(masked[..., :width], sliced, atol=1e-5, rtol=1e-4)
    routes = model.routes(batch)
    scores = scores_by_route(model, batch, routes).topk(5).values
    for user, route in enumerate(routes):
        alone = model.items.top_k(model.represent(batch, route), 5)[1][user]
        torch.testing.assert_close(scores[user], alone, atol=1e-5, rtol=1e-4)


def opened(channels: int, users: int) -> Tensor:
    """Gates [B, 1, D] with the first channels open."""
    return (torch.arange(WIDTH) < channels).float().repeat(users, 1, 1)


@tables
@backbones
def test_blocks_of_a_compressed_model_are_skipped(backbone: str, table: str) -> None:
    model = make(backbone, others={"skiprec": {"patterns": 4}}, sharing="cross-block", **TABLES[table])
    batch = random_batch(ITEMS, [1, 5, 8, 3])
    fewer = model.represent(batch, Route(layers=(0, 2)))
    skip = torch.tensor([[False, True, False, True]] * 4)
    torch.testing.assert_close(
        model.backbone.encode(model.backbone.query(batch), FULL, last_only=True, skip=skip).states,
        fewer,
        atol=1e-5,
        rtol=1e-4,
    )
    assert not torch.allclose(fewer, model.represent(batch))


@tables
def test_every_term_of_a_routed_compressed_model_trains(table: str) -> None:
    fields = TABLES[table]
    size = {"width": WIDTH, "layers": 4, "max_length": LONGEST, "heads": 2}
    tree = {"backbone": {"name": "sasrec", **size}, "technique": {"cprec": fields, "skiprec": {"training": "sandwich"}}}
    model, _ = build(parse(tree), catalog(ITEMS))
    batch = random_batch(ITEMS, [5, 8, 3])
    batch = replace(batch, targets=batch.items.roll(-1, 1))
    sum(model.loss(batch).values()).backward()
    learned = [p for p in model.items.parameters() if p.requires_grad]
    assert learned and all(p.grad is not None and bool(p.grad.isfinite().all()) for p in learned)


def test_an_automatic_cut_meets_the_size_that_was_asked() -> None:
    rows = sum(p.numel() for p in make(shrink=3.0, decay=4.0, blocks=2).items.parameters())
    assert 0.9 * ITEMS * WIDTH / 3 < rows <= ITEMS * WIDTH / 3


SIZES = [(items, dim) for items in (1, 2, 9, 50, 300, 3_665, 23_715, 200_000) for dim in (1, 7, 16, 48, 64, 128)]


def bare(items: int, dim: int) -> Recommender:
    """A small plain model."""
    backbone = SASRec(SASRecConfig(width=dim, layers=1, heads=1), items)
    return Recommender(backbone, build_softmax(Softmax(), catalog(items)))


@pytest.mark.parametrize("codes", [0, "auto"])
@pytest.mark.parametrize(("items", "dim"), SIZES)
def test_the_default_makes_every_table_smaller(items: int, dim: int, codes: Any) -> None:
    technique = CpRecTechnique(CpRecConfig(codes=codes))
    model = Recommender(
        SASRec(SASRecConfig(width=dim, layers=1, heads=1), items), build_softmax(Softmax(), catalog(items))
    )
    notes = technique.notes(model)
    technique.apply(model)
    freeze(model)
    stored = sum(p.nbytes for p in model.items.parameters())
    assert stored <= 4 * items * dim / 4 + 2 * items  # as int8 at most: a byte a number, and a scale an item
    assert stored <= 4 * items * dim / 7.9 or re.search(r"is kept as int8|gets [4-7]\.\d times smaller", "".join(notes))
    assert len(notes) <= 1


@pytest.mark.parametrize(
    "fields", [{"codes": (128, 32)}, {"codes": (64, 32, 8)}, {"dims": (64, 32, 8)}, {"int8": True}, {}]
)
@pytest.mark.parametrize("items", [1, 2, 50, 700, 3_665, 23_715])
def test_a_limit_that_is_obeyed_is_enough(items: int, fields: dict[str, Any]) -> None:
    """A width of 64 never makes an eighth of a table with codes of 32 bytes; the message says what it can make."""

    def make_it(**more: Any) -> None:
        config = CpRecConfig(**{**fields, **more})
        CpRecTechnique(config).apply(bare(items, 64))

    with pytest.raises(ConfigError) as refused:
        make_it(shrink=500.0)
    found = re.fullmatch(
        r"expected technique.cprec.shrink of at most ([0-9.]+) for \d+ items in blocks of \[.*\] dimensions or bytes an item, "
        r"got 500; \1 would work, or give the last block fewer",
        str(refused.value),
    )
    if found:
        make_it(shrink=float(found[1]))
        make_it()  # without a number it takes what it can
    else:
        assert str(refused.value).endswith("leave out dims, codes and shrink of technique.cprec, or take codes=auto")
        for other in (CpRecConfig(), CpRecConfig(codes="auto")):
            CpRecTechnique(other).apply(bare(items, 64))


@pytest.mark.parametrize("items", [2, 3, 9, 100])
def test_cuts_that_would_work_do(items: int) -> None:
    with pytest.raises(ConfigError) as refused:
        block_ends(items, (items + 5,))
    found = re.search(r"; (\[[0-9, ]+\]) would work", str(refused.value))
    assert found
    block_ends(items, json.loads(found[1]))
