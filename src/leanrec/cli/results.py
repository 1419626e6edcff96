"""Results of commands: JSON objects, and the same as tables."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from leanrec.artifact.exported import Exported
from leanrec.artifact.manifest import Manifest
from leanrec.artifact.worth import Worth
from leanrec.build import OpenRun
from leanrec.cli.baselines import show_baselines
from leanrec.cli.output import note, print_table
from leanrec.core.errors import ConfigError
from leanrec.data.simulate import ceiling
from leanrec.data.store import Store, write_parquet
from leanrec.engine.events import AnyEvent, Event
from leanrec.evaluate.metrics import CUTOFFS, MISSED, intervals, summarise
from leanrec.evaluate.patterns import decided, information, keep_rates
from leanrec.formats import format_names
from leanrec.tasks import Evaluation, Part, never_trained, told
from leanrec.tasks.controls import CONTROL_LABELS
from leanrec.tasks.words import ahead_by, human, megabytes, within


def keys(text: str) -> list[str]:
    """Item keys of a comma-separated list; quotes keep commas inside a key."""
    return next(csv.reader(io.StringIO(text), skipinitialspace=True), [])


def several_events(histories: list[str], times: list[str] | None) -> list[list[AnyEvent]]:
    """Events of several users, as `events` reads each.

    Raises:
        ConfigError: There are not as many times as histories, or some do not fit.
    """
    if times is not None and len(times) != len(histories):
        raise ConfigError(f"expected --times once for each --history, got {len(times)} for {len(histories)}")
    return [events(history, None if times is None else times[row]) for row, history in enumerate(histories)]


def events(history: str, times: str | None) -> list[AnyEvent]:
    """Events of comma-separated item keys and, if they are given, of as many times.

    Raises:
        ConfigError: There are not as many times, or one is no number of seconds.
    """
    items = keys(history)
    if times is None:
        return [*items]
    seconds = [part.strip() for part in times.split(",")]
    if len(seconds) != len(items) or not all(part.isascii() and part.isdigit() and len(part) <= 11 for part in seconds):
        raise ConfigError(
            f"expected --times as {len(items)} numbers of seconds, one for each item of --history, got {times[:60]!r}"
        )
    return [Event(item, int(time)) for item, time in zip(items, seconds, strict=True)]


def whole_numbers(option: str, text: str) -> list[int]:
    """Positive numbers of a comma-separated list.

    Raises:
        ConfigError: One of them is not.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ConfigError(f"expected {option} as positive numbers such as 1,32,256, got {text!r}")
    return [int(part) for part in parts]


def plain(struct: Any) -> dict[str, Any]:
    """A struct as plain values."""
    return msgspec.to_builtins(struct)


def worth_result(manifest: Manifest, worth: Worth | None) -> dict[str, Any]:
    """What a lean model saves and costs, for ``--json``: the facts, and the same as sentences; empty for a plain model."""
    if worth is None:
        return {}
    lines = told(worth, tuple(manifest.config.get("technique", {})), fresh=manifest.train.stated > 0)
    return {"worth": plain(worth) | {"lines": lines}}


def tell_worth(result: dict[str, Any]) -> None:
    """Print the lines of `worth_result` on stderr."""
    for line in result.get("worth", {}).get("lines", ()):
        note(line)


def train_result(run: Path, manifest: Manifest) -> dict[str, Any]:
    """What ``train --json`` ends with."""
    summary = manifest.train
    return {
        "run": str(run),
        "epochs": summary.epochs,
        "best_epoch": summary.best_epoch,
        "valid": summary.valid,
        "users": {"fit": summary.fitted, "valid": summary.stated},
        "seconds": summary.seconds,
        "users_per_s": summary.users_per_s,
    }


def who_saw_what(users: dict[str, int]) -> str:
    """On which validation users the figures of a training were measured, in a line."""
    if users["valid"]:
        return f"epochs and routes chosen on {users['fit']:,} validation users, figures of {users['valid']:,} others"
    if users["fit"]:
        return f"figures of the {users['fit']:,} validation users that epochs and routes were chosen on, too few for two halves"
    return "figures of the validation users that epochs and routes were chosen on"


def evaluation_result(
    run: OpenRun, store: Store, evaluation: Evaluation, part: Part, exclude_seen: bool
) -> dict[str, Any]:
    """What ``evaluate --json`` prints. For a simulated shop also the metrics and the best reachable ones by kind of user."""
    ranks = evaluation.ranking.ranks
    result: dict[str, Any] = {
        "run": str(run.path),
        "split": part,
        "users": len(evaluation.users),
        "items": store.num_items,
        "exclude_seen": exclude_seen,
        "metrics": summarise(ranks),
        "ci95": {name: list(pair) for name, pair in intervals(ranks).items()},
        "cost": {
            "params": run.manifest.cost.params,
            "bytes": run.manifest.cost.bytes,
            "flops_per_user": float(evaluation.flops.mean()),
            "flops_full": evaluation.flops_full,
            "flops_ratio": evaluation.flops_ratio,
            "body_ratio": evaluation.body / evaluation.body_full if evaluation.body_full else 1.0,
        },
        "routes": evaluation.route_shares(),
    } | unknown_result(store, evaluation)
    untrained = never_trained(run, store, evaluation)
    if untrained:
        result["untrained_targets"] = untrained
    if exclude_seen:
        result["seen_targets"] = evaluation.seen
    kept = evaluation.blocks_kept(len(run.model.backbone.blocks))
    if not kept.all():
        result["blocks"] = {"kept": keep_rates(kept).tolist(), "bits": information(kept)} | decided(kept)
    if store.meta.simulation is not None and store.whole is store:
        kinds = store.users_table()["kind"].to_numpy()[evaluation.users]
        result["kinds"] = {kind: summarise(ranks[kinds == kind]) for kind in sorted(set(kinds))}
        result["kinds_flops_ratio"] = {
            kind: float(evaluation.flops[kinds == kind].mean()) / evaluation.flops_full for kind in result["kinds"]
        }
        result["oracle"] = ceiling(store, part, exclude_seen)["expected"]
    return result


def unknown_result(store: Store, evaluation: Evaluation | None = None) -> dict[str, Any]:
    """What the run does not know of a store, as shares; and the metrics of the targets it knows. Empty for its own store."""
    found = store.unknown
    if found is None:
        return {}
    whole = store.whole
    shares: dict[str, Any] = {
        "items": found.items / whole.num_items,
        "events": found.events / whole.num_events,
        "users": found.users / whole.num_users,
    }
    if evaluation is not None:
        known = evaluation.known
        shares["targets"] = 1 - float(known.mean())
        shares["metrics_of_known"] = summarise(evaluation.ranking.ranks[known]) if known.any() else None
    return {"unknown": shares}


def tell_unknown(result: dict[str, Any]) -> None:
    """Print on stderr what `unknown_result` found."""
    shares = result.get("unknown")
    if not shares:
        return
    if shares["events"]:
        note(
            "note: items are matched by key; skipped {events:.2%} of the events, of {items:.2%} of the items, which the model does "
            "not know; {users:.2%} of the users have no known item and are left out".format(**shares)
        )
    else:
        note("note: items are matched by key; the model knows all of them")


def write_per_user(path: Path, evaluation: Evaluation, store: Store) -> None:
    """One row a user: user, target, rank, route, flops; no target where the run does not know it, no rank where it is missed."""
    users = store.users_table()["user"]
    frame = pl.DataFrame(
        {
            "user": users.gather(evaluation.users),
            "target": pl.Series([None, *store.catalog.keys], dtype=pl.String).gather(evaluation.targets),
            "rank": pl.Series(evaluation.ranking.ranks).replace(MISSED, None),
            "route": pl.Series([str(route) for route in evaluation.ranking.routes]),
            "flops": evaluation.flops,
        }
    )
    write_parquet(frame, path)


def show_evaluation(result: dict[str, Any]) -> None:
    """Metrics with intervals, cost and routes as tables."""
    metrics, ci = result["metrics"], result["ci95"]
    seen = "seen items left out" if result["exclude_seen"] else "seen items kept"
    what = result["run"]
    if "export" in result:
        what = "{out} ({weights}, {size})".format(**result["export"], size=megabytes(result["export"]["bytes"]))
    print_table(
        f"{what} on {result['split']}: {result['users']:,} users, {result['items']:,} items, {seen}",
        ["metric", *(f"@{k}" for k in CUTOFFS)],
        [
            (name.upper(), *(within(metrics[f"{name}@{k}"], ci[f"{name}@{k}"]) for k in CUTOFFS))
            for name in ("hr", "ndcg", "mrr")
        ],
        "full ranking; 95 % bootstrap intervals over users; ties count against the model" + _missed(result),
    )
    for kind, values in result.get("kinds", {}).items():
        best = result["oracle"].get(kind)
        reach = f" of {best['ndcg@10']:.4f} reachable" if best else ""
        print_table(
            f"{kind} users", ["ndcg@10", "hr@10"], [(f"{values['ndcg@10']:.4f}{reach}", f"{values['hr@10']:.4f}")]
        )
    show_cost(result["run"], result["cost"])
    if len(result["routes"]) > 1:
        print_table(
            "routes", ["route", "share"], [(route, f"{share:.1%}") for route, share in result["routes"].items()]
        )
    if "blocks" in result:
        _show_blocks(result["blocks"])
    if "baselines" in result:
        show_baselines(result["baselines"])
    if "controls" in result:
        _show_controls(result)


def _missed(result: dict[str, Any]) -> str:
    """Lines about targets that are never hit."""
    lines, unknown = "", result.get("unknown")
    if result.get("seen_targets"):
        lines += (
            f"\n{result['seen_targets']:,} targets were seen before and can never be hit, since seen items are left out"
        )
    if result.get("untrained_targets"):
        lines += (
            f"\n{result['untrained_targets']:,} of {result['users']:,} targets are items without a training event: hit by "
            "chance alone"
        )
    if unknown and unknown["targets"]:
        lines += f"\n{unknown['targets']:.2%} of the targets are items that the run does not know: missed"
        if unknown["metrics_of_known"]:
            lines += "; of targets it could know: " + ", ".join(
                f"{name.upper()} {unknown['metrics_of_known'][name]:.4f}" for name in ("hr@10", "ndcg@10", "mrr@10")
            )
    return lines


SHADES = "·▁▂▃▄▅▆▇█"


def _show_blocks(blocks: dict[str, Any]) -> None:
    """How often every block runs, as one line of bars, and how much of that is about the user."""
    kept = blocks["kept"]
    bars = "".join(SHADES[round(rate * (len(SHADES) - 1))] for rate in kept)
    print_table(
        "blocks",
        ["", ""],
        [
            (f"share of users of block 1..{len(kept)}", bars),
            ("blocks run per user, mean", f"{sum(kept):.1f} of {len(kept)}"),
            ("for everyone, for no one, per user", "{always:.0%}, {never:.0%}, {per_user:.0%}".format(**blocks)),
            ("what the pattern says of the user", f"{blocks['bits']:.2f} bits"),
        ],
    )


def _show_controls(result: dict[str, Any]) -> None:
    """The learned routes beside their controls, and the curve of budgets."""
    name, rows = "ndcg@10", []
    for control, label in CONTROL_LABELS.items():
        if control in result["controls"]:
            found = result["controls"][control]
            lead = ahead_by(*found["lead"]) if "lead" in found else ""
            rows.append((label, f"{found['metrics'][name]:.4f}", f"{found['flops_ratio']:.1%}", lead))
    print_table("controls", ["routes", "NDCG@10", "FLOPs", "learned routes lead by [95 %]"], rows)
    print_table(
        "one model, every budget",
        ["budget", "FLOPs", "NDCG@10"],
        [(p["budget"], f"{p['flops_ratio']:.1%}", f"{p[name]:.4f}") for p in result["curve"]],
    )


def show_cost(title: str, cost: dict[str, Any]) -> None:
    """Counted cost as a table."""
    rows = [("params (counted)", f"{cost['params']:,}"), ("size (counted)", megabytes(cost["bytes"]))]
    if "flops_per_user" in cost:
        rows.append(("FLOPs per user (counted)", human(cost["flops_per_user"])))
        rows.append(("of the full model, router and head included", f"{cost['flops_ratio']:.1%}"))
        rows.append(("of the full model, body alone", f"{cost['body_ratio']:.1%}"))
    rows += [(f"FLOPs, route {r['route']} (counted)", human(r["flops"])) for r in cost.get("routes", [])]
    print_table(f"cost of {title}", ["", ""], rows)


def show_description(result: dict[str, Any]) -> None:
    """What a run is as a table."""
    rows: list[tuple[str, Any]] = [(f"backbone.{key}", value) for key, value in result["backbone"].items()]
    rows += [("objective", result["objective"]), ("techniques", ", ".join(result["techniques"]) or "none")]
    rows += [("data", result["data"]), ("params (counted)", f"{result['params']:,}")]
    rows.append(("FLOPs per user at full length (counted)", human(result["flops_full"])))
    print_table(str(result["run"]), ["", ""], rows, numbers=False)


def show_bench(result: dict[str, Any]) -> None:
    """Measured times as a table."""
    first = result["rows"][0]["run"]
    ratios = {(r["run"], r["batch"]): r for r in result["ratios"]}
    print_table(
        "measured, runs taking turns",
        ["run", "batch", "p50 ms", "p99 ms", "users/s", "memory MB", f"times as fast as {first}"],
        [
            (
                row["run"],
                row["batch"],
                f"{row['p50_ms']:.3f}",
                f"{row['p99_ms']:.3f}",
                f"{row['users_per_s']:,.0f}",
                f"{row['rss_mb']:.0f}",
                f"{ratios[row['run'], row['batch']]['p50']:.2f}",
            )
            for row in result["rows"]
        ],
        ", ".join(f"{k} {v}" for k, v in result["machine"].items()),
    )


def show_items(result: dict[str, Any], who: str = "") -> None:
    """One user's recommendations as a table."""
    print_table(
        f"{who}route {result['route']}, {result['flops_ratio']:.0%} of the full model's FLOPs",
        ["item", "title", "score"],
        [(item["item"], item["title"], f"{item['score']:.3f}") for item in result["items"]],
    )


def export_result(out: Path, exported: Exported) -> dict[str, Any]:
    """What ``export --json`` prints."""
    result = {
        "out": str(out),
        "format": exported.format,
        "versions": exported.versions,
        "weights": exported.weights,
        "bytes": sum(file.bytes for file in exported.files.values()),
        "parts": {name: file.bytes for name, file in exported.files.items()},
        "routes": [{"route": plan.route, "part": plan.part, "flops": plan.flops} for plan in exported.plan],
        "parity": max(found.error for found in exported.parity),
        "limit": exported.limit,
    }
    return result if exported.loss is None else result | {"loss": plain(exported.loss)}


def show_export(result: dict[str, Any]) -> None:
    """The parts of an export as a table."""
    lost, trust = "", " --trust" if result["format"] in format_names(runs_code=True) else ""
    if "loss" in result:
        lost = "\nint8: NDCG@10 {ndcg_int8:.4f} for {ndcg:.4f} on {users:,} validation users, {overlap:.1%} of lists alike".format(
            **result["loss"]
        )
    print_table(
        f"{result['out']}: {result['format']}, {len(result['routes'])} routes, {megabytes(result['bytes'])}",
        ["part", "size"],
        [(name, megabytes(count)) for name, count in result["parts"].items()],
        f"within {result['parity']:.1g} of the run; next: leanrec recommend {result['out']} --history KEY,KEY,...{trust}{lost}",
    )
