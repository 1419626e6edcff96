"""Compare a routed model with what needs no router (``evaluate --controls``), and find the cheapest budget that is good enough."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from leanrec.artifact.manifest import read_manifest
from leanrec.build import OpenRun, build, trained_on
from leanrec.config import Choice, RunConfig, parse
from leanrec.core.by_route import routes_taken
from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL, Batch, Route
from leanrec.cost.count import flops_per_user, interpolated
from leanrec.data.batches import ask, lengths, questions, some
from leanrec.data.split import Part
from leanrec.data.store import Store
from leanrec.evaluate.controls import RouteTable, best_policy, difference, matched, one_hot
from leanrec.evaluate.losses import ALPHA, PairedLoss, paired_loss
from leanrec.evaluate.metrics import METRICS, gains, summarise
from leanrec.tasks.evaluation import SCORING, Evaluation, everyone_on, rank_part
from leanrec.tasks.progress import Report, silent
from leanrec.techniques import filling
from leanrec.train.loop import METRIC

CURVE = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""Budgets of the quality-cost curve."""
SEARCHED_BUDGETS = tuple(round(0.05 * i, 2) for i in range(1, 21))
"""Budgets among which the cheapest good one is searched."""
CONTROL_LABELS = {
    "learned": "learned routes",
    "full": "full model alone",
    "whole": "whole network for all",
    "static": "best static route or mix",
    "matched": "same routes, drawn at random",
    "uniform": "all routes alike",
    "rates": "blocks at random, learned rates",
    "coin": "a coin for every block",
    "small": "small model alone",
    "oracle": "oracle of user groups",
}
"""What `controls_of` compares, in words, in the order in which tables list it."""
_COUNTED = 200
"""Users on whom the cost of drawn patterns is counted; each pattern is a network of its own."""


class RoutedPart:
    """Ranks and costs of every user of a part on every route of a model.

    Args:
        run: A run with a choice of routes.
        store: Its interactions.
        part: Of its split.
        exclude_seen: As in `evaluate_run`.
        progress: Is told how many users are ranked.
        most: Take at most so many users, evenly spread.

    Raises:
        ConfigError: The run has one route only.
    """

    def __init__(
        self,
        run: OpenRun,
        store: Store,
        part: Part,
        exclude_seen: bool = False,
        progress: Report = silent,
        most: int | None = None,
    ) -> None:
        self.run, self.store, self.part, self.exclude_seen = run, store, part, exclude_seen
        asked = questions(store, run.split(store), part)
        self.asked = asked if most is None else some(asked, most)
        self.routes = run.model.all_routes()
        if run.model.budgets() is None:
            raise ConfigError(
                f"expected a model with a choice of routes, got one with a single route in {run.path}; "
                f"train it with a technique that has a router, such as --technique {filling('choice')[0]}"
            )
        columns: list[np.ndarray] = []
        users = len(self.asked.users)

        def every_route(stage: str, done: int, total: int) -> None:
            progress(stage, len(columns) * users + done, len(self.routes) * users)

        for route in self.routes:
            what = f"{part}, every route"
            ranking = rank_part(run.model, store, self.asked, exclude_seen, everyone_on(route), every_route, what)
            columns.append(ranking.ranks)
        self.ranks = np.stack(columns, 1)
        self.lengths = steps = np.minimum(lengths(store, self.asked), run.model.backbone.max_length)
        flops = run.flops
        self.table = RouteTable(
            gains=gains(METRIC, self.ranks),
            costs=np.stack([interpolated(partial(flops.request, route=route), steps) for route in self.routes], 1),
            routing=interpolated(flops.routing, steps),
            full=interpolated(flops.request, steps),
        )

    def chosen(self, budget: float | None = None) -> np.ndarray:
        """The policy [U, K] of the model's own routes at a budget."""
        index = {route: k for k, route in enumerate(self.routes)}
        chosen = np.zeros(len(self.asked.users), np.int64)
        model = self.run.model
        for question in ask(self.store, self.asked, model.backbone.max_length, SCORING, model.reads):
            chosen[question.rows] = [index[route] for route in routes_taken(model, question.batch, budget)]
        return one_hot(chosen, len(self.routes))

    @property
    def kept(self) -> np.ndarray | None:
        """Which blocks every route keeps, bool [K, L]; None if routes differ in more than their blocks."""
        if any(route.emb is not None or route.width is not None for route in self.routes):
            return None
        blocks = range(len(self.run.model.backbone.blocks))
        return np.array([[route.layers is None or i in route.layers for i in blocks] for route in self.routes])

    def drawn(self, rates: np.ndarray, seed: int = 0, counted: int = _COUNTED) -> tuple[np.ndarray, float]:
        """Draw the blocks of every user with probabilities float [L]: ranks int64 [U], and the mean cost of ``counted`` users.

        The cost is a share of the whole model's, routing left out.
        """
        users = self.asked.users
        bits = np.random.default_rng(seed).random((len(users), len(rates))) < rates
        routes = [FULL if row.all() else Route(layers=tuple(np.flatnonzero(row).tolist())) for row in bits]

        def choose(batch: Batch) -> list[Route]:
            if batch.users is None:
                raise ValueError("this batch has no users")
            return [routes[i] for i in np.searchsorted(users, batch.users.cpu().numpy())]

        ranks = rank_part(self.run.model, self.store, self.asked, self.exclude_seen, choose).ranks
        some = np.linspace(0, len(users) - 1, min(counted, len(users))).astype(int)
        spent = [self.run.flops.request(int(self.lengths[i]), routes[i]) for i in some]
        return ranks, float(np.mean(spent) / self.table.full[some].mean())

    def metrics(self, policy: np.ndarray) -> dict[str, float]:
        """Expected metrics under a policy, [U, K] or [K]."""
        return {name: float((gains(name, self.ranks) * policy).sum(1).mean()) for name in METRICS}

    def budgets(self, wanted: tuple[float, ...]) -> list[float]:
        """Those of the wanted budgets that the model can be asked for."""
        reach = self.run.model.budgets()
        return [] if reach is None else [budget for budget in wanted if reach[0] <= budget]


def controls_of(
    test: RoutedPart,
    valid: RoutedPart,
    budget: float | None,
    alone: Mapping[str, Evaluation],
    groups: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """What the learned routes are compared with, each with its metrics, its cost, and the learned routes' lead over it.

    - learned: the routes themselves, on the same users.
    - whole: everyone on the whole network.
    - static: the best static route of the learned routes' cost, or the best mix of two; chosen on validation users.
    - matched: the learned frequencies, drawn without looking at the user.
    - uniform: every route for the same share of users.
    - rates, coin: where routes differ in their blocks only, blocks kept at the learned rate of each, or every other one, drawn for
      each user and block without looking.
    - oracle: the best routes that depend on a user's true group only, at the learned cost; chosen on validation users.
    - full, small: models trained alone.

    Args:
        test: All routes on the part that was evaluated.
        valid: All routes on the validation part.
        budget: Of the learned routes.
        alone: Evaluations of models trained alone, by name; of at least the users of ``test``.
        groups: int64 [users of the store], true groups, where they are known.

    Raises:
        ConfigError: A model trained alone was evaluated on other users.
    """
    learned, count = test.chosen(budget), len(test.routes)
    ratio, ours = test.table.ratio(learned, routed=True), test.table.expected(learned)
    everyone = np.zeros(len(valid.asked.users), np.int64)
    policies = {
        "whole": one_hot(np.array([test.routes.index(FULL)]), count)[0],
        "static": best_policy(valid.table, everyone, ratio)[0],
        "matched": matched(learned),
        "uniform": np.full(count, 1 / count),
    }
    if groups is not None:
        of_kinds = best_policy(valid.table, groups[valid.asked.users], ratio, int(groups.max()) + 1)
        policies["oracle"] = of_kinds[groups[test.asked.users]]
    result: dict[str, dict[str, Any]] = {"learned": {"metrics": test.metrics(learned), "flops_ratio": ratio}}
    for name, policy in policies.items():
        shares = np.broadcast_to(policy, (len(ours), count)).mean(0)
        result[name] = {
            "metrics": test.metrics(policy),
            "flops_ratio": test.table.ratio(policy),
            "lead": list(difference(ours, test.table.expected(policy))),
            "routes": {str(test.routes[k]): float(shares[k]) for k in np.flatnonzero(shares)},
        }
    kept = test.kept
    if kept is not None:
        for name, rates in (("rates", matched(learned) @ kept), ("coin", np.full(kept.shape[1], 0.5))):
            ranks, spent = test.drawn(rates)
            lead = list(difference(ours, gains(METRIC, ranks)))
            result[name] = {"metrics": summarise(ranks), "flops_ratio": spent, "lead": lead}
    for name, other in alone.items():
        rows = np.searchsorted(other.users, test.asked.users).clip(max=len(other.users) - 1)
        if not np.array_equal(other.users[rows], test.asked.users):
            raise ConfigError(
                f"expected the {name} model's run to be split as the routed one, got one with other test users; "
                "name one trained with the same data.split"
            )
        result[name] = {
            "metrics": summarise(other.ranking.ranks[rows]),
            "flops_ratio": float(other.flops[rows].mean() / test.table.full.mean()),
            "lead": list(difference(ours, gains(METRIC, other.ranking.ranks[rows]))),
        }
    return result


def curve(part: RoutedPart) -> list[dict[str, float]]:
    """Quality and cost of one model at every budget of `CURVE` that it can keep."""
    points = []
    for budget in part.budgets(CURVE):
        policy = part.chosen(budget)
        points.append({"budget": budget, "flops_ratio": part.table.ratio(policy, routed=True), **part.metrics(policy)})
    return points


def unseen(run: OpenRun, store: Store) -> Part:
    """The part of users that no choice of a run was made on, for a promise: those set apart, or those figures are stated on.

    Raises:
        ConfigError: There are none: the run is of a version that fitted on all validation users, they were too few for two parts,
            or the store is another one than it was trained on.
    """
    part: Part = "confirm" if run.config.data.confirm else "valid"
    trained = run.manifest.train
    if not trained_on(store, run.manifest.data):
        raise ConfigError(
            f"expected the store that {run.path} was trained on, since --max-loss promises on users that nothing was fitted "
            f"on, got another one in {store.path}; leave --data out, or name a --budget"
        )
    if part == "valid" and not trained.stated:
        why = (
            f"only {trained.fitted} for both"
            if trained.fitted
            else "a run of an older version, which fitted on all of them"
        )
        raise ConfigError(
            f"expected validation users that nothing was fitted on for --max-loss, got {why} in {run.path}; name a --budget, or "
            "train again" + (" on more users" if trained.fitted else "")
        )
    return part


def cheapest_budget(part: RoutedPart, max_loss: float) -> tuple[float, PairedLoss]:
    """The lowest budget at which a model loses less of the whole model's NDCG@10 than a limit, with 95 % confidence.

    Budgets are tested from the dearest down, up to the first that fails: an order that does not come from the users, so that the
    chance of any false promise is 5 % for all of them together (`evaluate.losses`).

    Args:
        part: Users that nothing was fitted on; see `unseen`.
        max_loss: Share of the whole model's NDCG@10.

    Returns:
        The budget and its loss.

    Raises:
        ConfigError: No budget loses that little; the message names the loss that can be kept.
    """
    whole = part.table.gains[:, part.routes.index(FULL)]
    found: tuple[float, PairedLoss] | None = None
    dearest = ""
    for budget in reversed(part.budgets(SEARCHED_BUDGETS)):
        loss = paired_loss(part.table.expected(part.chosen(budget)), whole, max_loss)
        if loss.p > ALPHA:
            dearest = dearest or f"; a budget of {budget} loses at most {loss.upper:.4f}"
            break
        found = budget, loss
    if found is None:
        raise ConfigError(
            f"expected a budget whose {METRIC} loss is below {max_loss} with 95 % confidence, got none for {part.run.path} on "
            f"{len(part.asked.users):,} users{dearest}"
        )
    return found


def groups_of(store: Store) -> np.ndarray | None:
    """The true kind of every user, int64, where a store was simulated."""
    if store.meta.simulation is None:
        return None
    return np.unique(store.users_table()["kind"].to_numpy(), return_inverse=True)[1]


def alone_config(run: OpenRun, name: str, valid: RoutedPart, ratio: float) -> RunConfig:
    """The configuration of a model to be trained alone: that of the run's own start, if it has one, without technique.

    Args:
        run: The routed model.
        name: "full" for the whole backbone; "small" for the widest one within the cost that is as deep as the best static
            route, or deeper if even the full width costs less.
        valid: All routes on the validation part.
        ratio: The learned routes' mean cost, as a share of the full model's FLOPs.
    """
    start = run.config.train.init
    plain = msgspec.structs.replace(parse(read_manifest(Path(start)).config) if start else run.config, technique=())
    if name == "full":
        return plain
    static = best_policy(valid.table, np.zeros(len(valid.asked.users), np.int64), ratio)[0]
    model = build(plain, run.catalog)[0]
    steps, heads, whole = model.backbone.max_length, model.backbone.heads, model.backbone.width
    limit, deepest = ratio * flops_per_user(model, steps), len(model.backbone.blocks)
    layers = valid.routes[int(static.argmax())].layers
    widths = range(whole, 0, -heads * max(1, whole // heads // 32))
    for blocks in range(deepest if layers is None else max(1, len(layers)), deepest + 1):
        fitting = (
            w for w in widths if flops_per_user(build(narrowed(plain, w, blocks), run.catalog)[0], steps) <= limit
        )
        width = next(fitting, widths[-1])
        if width < whole:
            return narrowed(plain, width, blocks)
    return plain


def narrowed(config: RunConfig, width: int, blocks: int) -> RunConfig:
    """The configuration with another width and depth of the backbone."""
    smaller = msgspec.structs.replace(config.backbone.config, width=width, layers=blocks)
    return msgspec.structs.replace(config, backbone=Choice(config.backbone.name, smaller))
