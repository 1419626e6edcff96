"""Which points are proposed, what limits rule out, and when a training is given up."""

from __future__ import annotations

from typing import Any

import pytest

from leanrec.core.errors import ConfigError
from leanrec.core.stage import Stage
from leanrec.evaluate.losses import PairedLoss
from leanrec.tasks.slim.journal import Journal, Point, Proposal, Trial
from leanrec.tasks.slim.judge import cost_front, proposed
from leanrec.tasks.slim.plan import Plan, over, parse_limits
from leanrec.tasks.slim.result import at_budget, headline, hint
from leanrec.tasks.slim.watch import GivenUp, Guard, NoTime
from leanrec.train.checkpoint import Progress


def point(name: str, flops: float, p: float, size: int = 100) -> Point:
    return Point(name=name, budget=None, flops=flops, bytes=size, params=size, loss=PairedLoss(0, 0, 0, 0, p))


def plan(**limits: float) -> Plan:
    return Plan(data="", catalog_sha256="", config={}, max_loss=0.1, limits=limits, techniques=None)


def names(points: list[Point]) -> list[str]:
    return [p.name for p in points]


def test_the_front_has_what_is_cheaper_or_surer() -> None:
    found = [point("a", 5, 0.01), point("b", 3, 0.1), point("c", 4, 0.15), point("d", 1, 0.5), point("e", 9, 0.001)]
    assert names(cost_front(found, plan())) == ["b", "a", "e"]


def test_counted_limits_rule_out() -> None:
    found = [point("big", 1, 0.01, 200), point("small", 2, 0.01, 100)]
    assert names(cost_front(found, plan(bytes=150))) == ["small"]
    assert cost_front(found, plan(bytes=50)) == []


def test_at_most_four_are_proposed_the_surest_first_and_the_cheapest_last() -> None:
    found = [point(str(i), i, 0.1 / (i + 1)) for i in range(7)]
    assert names(proposed(found)) == ["6", "4", "2", "0"]
    assert names(proposed(found[:2])) == ["1", "0"]
    assert proposed([]) == []


def test_limits() -> None:
    assert parse_limits(None) == {}
    assert parse_limits("p99_ms=5, bytes=20MB,flops=1.5M,params=500k") == {
        "p99_ms": 5,
        "bytes": 20e6,
        "flops": 1.5e6,
        "params": 500e3,
    }
    assert over({"bytes": 20e6}, {"bytes": 30e6}) == "bytes of 3e+07 is over the limit of 2e+07"
    assert over({"bytes": 20e6}, {"flops": 30e6}) == ""
    for text in ("bytes", "bytes=", "bytes=nan", "bytes=inf", "bytes=5XB", "=5"):
        with pytest.raises(ConfigError, match="expected"):
            parse_limits(text)


def progress(epoch: int, best: float, seconds: float = 0) -> Progress:
    return Progress(epoch=epoch, best=best, seconds=seconds, history=[{"ndcg@10": best}])


def test_a_training_far_behind_the_full_model_is_given_up_from_half_way_on() -> None:
    guard = Guard("x", 100, curve=[0.1, 0.2, 0.3, 0.4], hopeless=0.5)
    guard.start(Stage("train", 8), 1, Progress())
    guard.epoch(progress(1, 0.01))
    with pytest.raises(
        GivenUp, match=r"validation NDCG@10 0.0900 after 2 of 8 epochs, where the full model had 0.2000"
    ):
        guard.epoch(progress(2, 0.09))
    guard.epoch(progress(2, 0.11))
    guard.epoch(progress(4, 0.01))  # as long as the full model: it will be judged


def test_nothing_is_given_up_without_a_threshold() -> None:
    guard = Guard("x", 100, curve=[0.1, 0.2], hopeless=0)
    guard.start(Stage("train", 2), 1, Progress())
    guard.epoch(progress(1, 0.0))


def test_a_training_stops_when_the_time_is_spent() -> None:
    kept: list[float] = []
    guard = Guard("x", 10, kept=lambda p: kept.append(p.seconds))
    guard.step(progress(0, 0, 9))
    with pytest.raises(NoTime):
        guard.step(progress(0, 0, 11))
    assert kept == [11]


def test_the_budget_becomes_the_default_of_what_has_one() -> None:
    tree = {"technique": {"a": {"budget": 0.3, "x": 1}, "b": {"y": 2}}}
    assert at_budget(tree, 0.5) == {"technique": {"a": {"budget": 0.5, "x": 1}, "b": {"y": 2}}}
    assert tree["technique"]["a"]["budget"] == 0.3
    assert at_budget(tree, None) is tree


def test_where_users_are_too_few_it_says_what_would_help() -> None:
    def judged(mean: float, upper: float, **more: Any) -> Journal:
        sure = Point(name="canet", budget=0.5, flops=1, bytes=1, params=1, loss=PairedLoss(mean, 0, 0, upper, 0.1))
        return Journal(plan=plan(), started="", trials=[Trial(name="canet", points=[sure])], **more)

    assert hint(judged(0.02, 0.14), 471) == (
        "canet at a budget of 0.5 is the surest: -2.0 % on validation, but for all that 471 users can tell it may be -14.0 %. "
        "Bring more users, or allow more with --max-loss and another --out."
    )
    tested = Proposal(point=judged(0.02, 0.14).trials[0].points[0], loss=PairedLoss(-0.01, 0, 0, 0.12, 0.1))
    assert hint(judged(0.02, 0.14, proposals=[tested]), 471) == (
        "canet at a budget of 0.5 is the surest: on 471 users that nothing had seen it changed NDCG@10 by +1.0 %, and loses less "
        "than 12.0 % with 95 % confidence. Allow more with --max-loss and another --out, or bring more users."
    )
    assert hint(judged(0.2, 0.3), 471) == hint(judged(0.02, 0.14, chosen=point("a", 1, 0.01)), 471) == ""


def found(low: float, high: float, **more: Any) -> dict[str, Any]:
    mean = (low + high) / 2
    loss = {"mean": mean, "ci95": [low, high]}
    times = {"flops": 3.14, "bytes": 2.0}
    base = {"chosen": {"p50_ms": 0.5}, "baseline": {"p50_ms": 0.6}, "times": times, "cost": "flops", "max_loss": 0.01}
    return base | {"test_loss": loss, "candidates": [], "users": {"test": 500}} | more


def test_the_sentence() -> None:
    saved = "3.1x cheaper (FLOPs; 1.2x as fast for one user), quality "
    assert headline(found(-0.004, 0.002)) == saved + "unchanged within 1 % (difference -0.2 % .. +0.4 %)"
    assert headline(found(0.01, 0.03)) == saved + "2.0 % lower (difference -3.0 % .. -1.0 %)"
    assert headline(found(-0.03, -0.01)) == saved + "2.0 % better (difference +1.0 % .. +3.0 %)"
    assert headline(found(-0.04, 0.02)) == (
        saved
        + "could not be told apart from that of the full model (difference -2.0 % .. +4.0 %; 500 users are too few)"
    )
    slower = found(-0.004, 0.002, chosen={"p50_ms": 0.8})
    assert headline(slower).startswith("3.1x cheaper in FLOPs, not in time (0.75x as fast for one user), quality ")
    small = found(-0.004, 0.002, cost="bytes")
    assert headline(small).startswith("2.0x smaller (1.2x as fast for one user), quality unchanged within 1 %")
    assert headline(found(0, 0, chosen=None)) == (
        "No cheaper model was found that keeps the promise (less than 1 % of NDCG@10 lost, with 95 % confidence): "
        "keep the full model."
    )
    waiting = found(0, 0, chosen=None, candidates=[{"status": "no time"}])
    assert headline(waiting).endswith("repeat with more --hours.")
