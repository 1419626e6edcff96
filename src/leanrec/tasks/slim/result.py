"""The result of a search: the winner's figures, its run with the budget it was chosen at, and a sentence that sums up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from leanrec.artifact.store import load_run, save_run
from leanrec.build import OpenRun
from leanrec.config import CONFIG, parse
from leanrec.core.writing import written
from leanrec.data.simulate import oracle_saving
from leanrec.data.store import Store
from leanrec.evaluate.losses import paired_loss
from leanrec.tasks.evaluation import Evaluation, evaluate_run
from leanrec.tasks.slim.journal import Journal, Point
from leanrec.tasks.slim.judge import gain
from leanrec.tasks.slim.plan import Plan
from leanrec.tasks.words import change, cheaper

CHOSEN, RESULT = "chosen", "slim.json"


def tested(full: OpenRun, lean: OpenRun | None, chosen: Point | None, store: Store, plan: Plan) -> dict[str, Any]:
    """Figures of the full model and of the chosen one on the test part."""
    whole = evaluate_run(full, store, "test", plan.exclude_seen)
    found: dict[str, Any] = {"users": len(whole.users), "full": _figures(whole)}
    if lean is not None and chosen is not None:
        here = evaluate_run(lean, store, "test", plan.exclude_seen, chosen.budget)
        loss = paired_loss(gain(here), gain(whole), plan.max_loss)
        found |= {"chosen": _figures(here), "loss": msgspec.to_builtins(loss)}
    return found


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    return {"metrics": evaluation.metrics, "flops": float(evaluation.flops.mean()), "routes": evaluation.route_shares()}


def keep_winner(journal: Journal, run: Path, out: Path) -> Path | None:
    """Write the winner as a run of its own that answers at the chosen budget when none is asked for.

    Args:
        journal: A finished search.
        run: The winner's run.
        out: Directory of the search.
    """
    target = out / CHOSEN
    if journal.chosen is None:
        return None
    if (target / "manifest.json").exists():
        return target
    manifest, state, catalog = load_run(run)
    tree = at_budget(manifest.config, journal.chosen.budget)
    save_run(target, state, catalog, msgspec.structs.replace(manifest, config=tree, files={}, worth=None))
    with written(target / CONFIG) as made:
        made.write_text(parse(tree).toml(), encoding="utf-8")
    with written(target / "log.csv") as made:
        shutil.copyfile(run / "log.csv", made)
    return target


def at_budget(tree: dict[str, Any], budget: float | None) -> dict[str, Any]:
    """A configuration whose techniques that have a budget take this one by default."""
    if budget is None:
        return tree
    tree = msgspec.json.decode(msgspec.json.encode(tree))
    for settings in tree["technique"].values():
        if "budget" in settings:
            settings["budget"] = budget
    return tree


def search_result(journal: Journal, full: OpenRun, out: Path, store: Store) -> dict[str, Any]:
    """What ``slim --json`` prints and ``slim.json`` holds."""
    plan, chosen, test = journal.plan, journal.chosen, journal.test or {}
    timing = journal.timing.get(chosen.key, {}) if chosen else {}
    users = full.split(store).users()
    baseline = {
        "run": str(out / "runs" / "full"),
        "flops_per_user": test["full"]["flops"],
        "bytes": full.manifest.cost.bytes,
        "params": full.manifest.cost.params,
        "metrics": test["full"]["metrics"],
        **_times(timing.get("full")),
    }
    found: dict[str, Any] = {
        "chosen": None,
        "baseline": baseline,
        "max_loss": plan.max_loss,
        "limits": plan.limits,
        "cost": plan.cost,
        "exclude_seen": plan.exclude_seen,
        "candidates": _candidates(journal),
        "proposals": [msgspec.to_builtins(proposal) for proposal in journal.proposals or ()],
        "saving": None,
        "times": None,
        "measured": [{**row, "run": who} for who in ("full", "lean") for row in timing.get(who, [])],
        "test_loss": None,
        "users": {
            "fit": users["fit"],
            "choose": users["valid"],
            "confirm": users["confirm"],
            "test": test["users"],
        },
        "machine": timing.get("machine", full.manifest.train.machine),
        "seed": full.manifest.train.seed,
        "started": journal.started,
        "seconds": {name: round(seconds, 2) for name, seconds in journal.seconds.items()},
        "export": None,
        "report": str(out / "report.html"),
    }
    if chosen is not None:
        lean = {
            "run": str(out / CHOSEN),
            "name": chosen.name,
            "summary": journal.trial(chosen.name).summary,
            "techniques": journal.trial(chosen.name).techniques,
            "budget": chosen.budget,
            "flops_per_user": test["chosen"]["flops"],
            "bytes": chosen.bytes,
            "params": chosen.params,
            "metrics": test["chosen"]["metrics"],
            "routes": test["chosen"]["routes"],
            **_times(timing.get("lean")),
        }
        keys = {"flops": "flops_per_user", "p99": "p99_ms", "bytes": "bytes"}
        ratios = {name: lean[key] / max(baseline[key], 1e-12) for name, key in keys.items()}
        loss = test["loss"]
        found |= {
            "chosen": lean,
            "saving": {name: 1 - ratio for name, ratio in ratios.items()},
            "times": {name: 1 / ratio for name, ratio in ratios.items()},
            "test_loss": {"mean": loss["mean"], "ci95": [loss["low"], loss["high"]]},
        }
    if store.meta.simulation is not None:
        found["oracle"] = _oracle(journal, store, found)
    found["headline"], found["hint"] = headline(found), hint(journal, found["users"]["confirm"])
    return found


def _times(rows: list[dict[str, Any]] | None) -> dict[str, float]:
    """Of requests of one user."""
    return {"p50_ms": rows[0]["p50_ms"], "p99_ms": rows[0]["p99_ms"]} if rows else {}


def _candidates(journal: Journal) -> list[dict[str, Any]]:
    return [
        msgspec.to_builtins(trial) | {"seconds": round(journal.seconds.get(f"train {trial.name}", 0.0), 2)}
        for trial in journal.trials
    ]


def _oracle(journal: Journal, store: Store, found: dict[str, Any]) -> dict[str, float]:
    """What a router that knows the easy users saves if these take the cheapest model that was tried and all others the full one."""
    full = found["baseline"]["flops_per_user"]
    least = min((p.flops for trial in journal.trials for p in trial.points), default=full)
    allowed = oracle_saving(store, least, full)
    saved = found["saving"]["flops"] if found["saving"] else 0.0
    return {"saving": allowed, "share": saved / allowed if allowed > 0 else 0.0}


def hint(journal: Journal, users: int) -> str:
    """What would help if candidates look good enough but none is sure; empty otherwise.

    The bound of the first proposal holds with 95 % confidence: it was to be tested first, whatever it would give.
    """
    most = journal.plan.max_loss
    if journal.proposals and journal.chosen is None and (loss := journal.proposals[0].loss):
        return (
            f"{journal.proposals[0].point.label} is the surest: on {users:,} users that nothing had seen it changed NDCG@10 by "
            f"{-100 * loss.mean:+.1f} %, and loses less than {100 * loss.upper:.1f} % with 95 % confidence. Allow more with "
            "--max-loss and another --out, or bring more users."
        )
    near = [point for trial in journal.trials for point in trial.points if point.loss.mean < most <= point.loss.upper]
    if journal.chosen is not None or not near:
        return ""
    best = min(near, key=lambda point: point.loss.upper)
    return (
        f"{best.label} is the surest: {-100 * best.loss.mean:+.1f} % on validation, but for all that {users:,} users can tell it "
        f"may be {-100 * best.loss.upper:+.1f} %. Bring more users, or allow more with --max-loss and another --out."
    )


def headline(found: dict[str, Any]) -> str:
    """The sentence that sums up: how much cheaper, and how quality changed."""
    promise = f"less than {100 * found['max_loss']:.3g} % of NDCG@10 lost"
    if found["chosen"] is None and any(trial["status"] == "no time" for trial in found["candidates"]):
        return f"No cheaper model was found in the time there was ({promise}, with 95 % confidence): repeat with more --hours."
    if found["chosen"] is None:
        return (
            f"No cheaper model was found that keeps the promise ({promise}, with 95 % confidence): keep the full model."
        )
    times, loss = found["times"], found["test_loss"]
    speed = found["baseline"]["p50_ms"] / max(found["chosen"]["p50_ms"], 1e-12)
    if found["cost"] == "flops":
        saved = cheaper(times["flops"], speed)
    else:
        saved = f"{times['bytes']:.1f}x smaller ({speed:.1f}x as fast for one user)"
    return f"{saved}, quality {change(loss['mean'], *loss['ci95'], users=found['users']['test'])}"
