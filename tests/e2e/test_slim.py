"""`leanrec slim` and its report on a tiny shop: what it chooses, what it says, and that an interruption changes nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from e2e.command import Result, leanrec, listing, refused
from e2e.processes import program
from leanrec.core.errors import ArtifactError
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.tasks.report import subject, write_report

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "search-within-limits.md"
FULL = (
    *("--backbone", "sasrec", "backbone.width=16", "backbone.layers=2", "backbone.heads=2", "backbone.max_length=8"),
    *("train.epochs=3", "train.patience=0", "train.learning_rate=1e-2", "train.batch_users=16"),
    *("train.loss_precision=float32", "train.encoder_precision=float32"),
)
LENIENT = ("--max-loss", 0.9, "--techniques", "canet", "--hours", 0.1)


SMALL = ("--max-loss", 0.9, "--techniques", "cprec", "--cost", "bytes", "--hours", 0.1)


def search(shop: Path, out: Path, *options: object) -> Result:
    return leanrec("slim", shop, *FULL, *(options or LENIENT), "--export", "none", "--out", out, "--json")


@pytest.fixture(scope="module")
def ended(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A search that nothing happened to. Nothing is written into it."""
    out = tmp_path_factory.mktemp("slim") / "search"
    return out, search(shop, out)


@pytest.fixture(scope="module")
def plain_winner(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A search whose winner has one route, and is exported. Nothing is written into it."""
    out = tmp_path_factory.mktemp("small") / "search"
    return out, leanrec("slim", shop, *FULL, *SMALL, "--out", out, "--json")


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    """What may not depend on what happened on the way, and on which machine."""
    chosen = {k: v for k, v in found["chosen"].items() if not k.endswith("_ms") and k != "run"}
    trials = [{k: v for k, v in trial.items() if k != "seconds"} for trial in found["candidates"]]
    for trial in trials:
        trial["why"] = trial["why"].split(" in ")[0]
    return {"chosen": chosen, "candidates": trials, "proposals": found["proposals"], "test_loss": found["test_loss"]}


def test_json_keeps_the_contract(ended: tuple[Path, Result]) -> None:
    out, result = ended
    found = result.json
    assert {"chosen", "baseline", "candidates", "saving", "test_loss", "report"} <= found.keys()
    assert found["saving"].keys() == {"flops", "p99", "bytes"}
    assert found["test_loss"].keys() == {"mean", "ci95"}
    low, high = found["test_loss"]["ci95"]
    assert low <= found["test_loss"]["mean"] <= high
    assert found == json.loads((out / "slim.json").read_text())
    assert {path.name for path in out.iterdir()} == {
        "search.json",
        "slim.json",
        "runs",
        "chosen",
        "report.html",
    }


def test_the_report_shows_the_times_that_the_command_printed(ended: tuple[Path, Result], tmp_path: Path) -> None:
    out, result = ended
    printed = {name: result.json[side]["p99_ms"] for name, side in (("full", "baseline"), ("chosen", "chosen"))}
    facts = write_report(subject([out], tmp_path / "report.html"))  # also when it is written again
    assert {row["name"]: row["p99"] for row in facts.timing if row["batch"] == 1} == printed
    for page in (out / "report.html", tmp_path / "report.html"):
        assert f"p99 {printed['chosen']:.2f} ms, measured" in page.read_text("utf-8")


def test_every_candidate_is_accounted_for(ended: tuple[Path, Result]) -> None:
    trials = {trial["name"]: trial for trial in ended[1].json["candidates"]}
    assert trials.keys() == {"shallow", "narrow", "small", "tiny", "canet"}
    assert {trial["status"] for trial in trials.values()} <= {"done", "abandoned", "skipped"}
    for trial in trials.values():
        assert bool(trial["points"]) == (trial["status"] == "done")
        assert bool(trial["why"]) == (trial["status"] != "done")


def test_the_winner_is_a_run_like_any_other_and_answers_at_its_budget(ended: tuple[Path, Result]) -> None:
    found = ended[1].json
    alone = leanrec("evaluate", found["chosen"]["run"], "--json").json
    assert alone["metrics"] == found["chosen"]["metrics"]
    assert alone["cost"]["flops_per_user"] == found["chosen"]["flops_per_user"]
    base = leanrec("evaluate", found["baseline"]["run"], "--json").json
    assert base["metrics"] == found["baseline"]["metrics"]
    loss = 1 - alone["metrics"]["ndcg@10"] / base["metrics"]["ndcg@10"]
    assert found["test_loss"]["mean"] == pytest.approx(loss)
    assert found["saving"]["flops"] == pytest.approx(
        1 - alone["cost"]["flops_per_user"] / base["cost"]["flops_per_user"]
    )


def test_the_winner_is_the_cheapest_of_those_confirmed(ended: tuple[Path, Result]) -> None:
    found = ended[1].json
    kept = [p["point"] for p in found["proposals"] if p["accepted"]]
    assert 1 <= len(kept) <= 4
    best = min(kept, key=lambda point: point["flops"])
    assert (found["chosen"]["name"], found["chosen"]["budget"]) == (best["name"], best["budget"])


def test_training_never_sees_the_users_that_confirm(ended: tuple[Path, Result], shop: Path) -> None:
    users = ended[1].json["users"]
    assert users["fit"] + users["choose"] + users["confirm"] == len(
        Split.leave_one_out(Store.open(shop)).targets("valid")[0]
    )
    assert (
        leanrec("evaluate", ended[0] / "runs" / "full", "--split", "valid", "--json").json["users"] == users["choose"]
    )


def test_what_happens_is_told_as_lines_of_json(ended: tuple[Path, Result], plain_winner: tuple[Path, Result]) -> None:
    events = [json.loads(line) for line in (ended[1].err + plain_winner[1].err).splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "trial" and kinds[-3:] == ["confirmed", "test", "export"]
    assert {"trial", "epoch", "trained", "confirmed", "test", "export"} == set(kinds)
    table = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    told = {kind: set(re.findall(r"`([^`]+)`", fields)) for kind, fields in table}
    for event in events:
        assert event.keys() - {"event"} <= told[event["event"]], event
    assert all(event["left"] > 0 for event in events if event["event"] == "trial")


def test_the_same_command_again_trains_nothing(ended: tuple[Path, Result], shop: Path) -> None:
    before = listing(ended[0] / "runs")
    again = search(shop, ended[0])
    assert again.json == ended[1].json
    assert again.err == ""
    assert listing(ended[0] / "runs") == before


def test_for_people(ended: tuple[Path, Result], shop: Path) -> None:
    shown = leanrec("slim", shop, *FULL, *LENIENT, "--export", "none", "--out", ended[0])
    assert shown.code == 0, shown.err
    assert shown.out.splitlines()[0] == ended[1].json["headline"]
    for word in ("what was tried", "a router that knows the easy users would save", "NDCG@10, test, seen kept"):
        assert word in shown.out


def test_the_winner_is_exported(plain_winner: tuple[Path, Result], shop: Path) -> None:
    folder, result = plain_winner
    found = result.json["export"]
    assert found["path"] == str(folder / "exported") and (found["format"], found["why"]) == ("onnx", "")
    assert found["parity"] <= 1e-4 and found["bytes"] > 0
    keys = ",".join(Store.open(shop).catalog.keys[:3])
    run, graphs = (
        leanrec("recommend", folder / name, "--history", keys, "--json").json for name in ("chosen", "exported")
    )
    assert [item["item"] for item in graphs["items"]] == [item["item"] for item in run["items"]]
    before = listing(folder)
    again = leanrec("slim", shop, *FULL, *SMALL, "--out", folder, "--json")
    assert again.json == result.json and again.err == ""
    assert listing(folder) == before


@pytest.mark.slow
def test_a_search_is_not_lost_where_its_winner_cannot_be_exported(
    plain_winner: tuple[Path, Result], shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plain_winner[1].json
    out = shutil.copytree(plain_winner[0], tmp_path / "search", ignore=shutil.ignore_patterns("exported"))
    command = ("slim", shop, *FULL, *SMALL, "--out", out)

    def ends(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("leanrec.tasks.slim.exported.export_run", ends)
        error: BaseException = KeyboardInterrupt()
        assert leanrec(*command).code == 130
        assert json.loads((out / "slim.json").read_text())["headline"] == whole["headline"]
        error = AssertionError("Guard failed")
        assert leanrec(*command, "--json").json["export"]["why"] == "a fault of leanrec: AssertionError: Guard failed"
        error = ArtifactError("expected more of it, got less; buy some")
        found = leanrec(*command, "--json").json
        assert found["chosen"]["name"] == whole["chosen"]["name"]
        assert found["export"]["path"] is None and found["export"]["why"] == str(error)
        assert leanrec(*command).err.count("not exported: expected more of it, got less; buy some\n") == 1
    with monkeypatch.context() as patch:
        patch.setattr("leanrec.tasks.exporting.find_spec", lambda name: None)
        shown = leanrec(*command)
    assert (
        "exported as pt2" in shown.err
        and "open it with --trust; --export onnx (pip install onnx onnxscript onnxruntime) makes one that" in shown.err
    )
    assert json.loads((out / "slim.json").read_text())["export"]["format"] == "pt2"
    assert leanrec(*command, "--export", "none", "--json").json["export"] is None


KILLED = """
import os, signal
from leanrec.cli.main import run_cli
from leanrec.tasks.slim import journal, search, trying, watch
{place}
run_cli()
"""
PLACES = {
    "in the full model": "watch.Guard.step = lambda self, p: p.epoch == 1 and os.kill(os.getpid(), signal.SIGKILL)",
    "in a candidate": (
        "watch.Guard.step = lambda self, p: self.name != 'full' and p.epoch == 1 and os.kill(os.getpid(), signal.SIGKILL)"
    ),
    "before a candidate is judged": "trying.points = lambda *a: os.kill(os.getpid(), signal.SIGKILL)",
    "before the proposals are confirmed": "search.confirm = lambda *a: os.kill(os.getpid(), signal.SIGKILL)",
    "before the test part is opened": "search.tested = lambda *a: os.kill(os.getpid(), signal.SIGKILL)",
}


SLOW = ("in the full model", "in a candidate", "before a candidate is judged", "before the test part is opened")


@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=pytest.mark.slow if place in SLOW else ()) for place in PLACES]
)
def test_a_killed_search_goes_on_to_the_same_result(
    place: str, ended: tuple[Path, Result], shop: Path, tmp_path: Path
) -> None:
    out = tmp_path / "search"
    killed = program(KILLED.format(place=PLACES[place]), "slim", shop, *FULL, *LENIENT, "--out", out)
    assert killed.returncode == -9, killed.stderr
    finished = {path: path.read_bytes() for path in out.glob("runs/*/manifest.json")}
    result = search(shop, out)
    assert numbers(result.json) == numbers(ended[1].json)
    assert all(path.read_bytes() == content for path, content in finished.items())
    started = {event["name"] for event in map(json.loads, result.err.splitlines()) if event["event"] == "epoch"}
    assert not started & {path.parent.name for path in finished}


def test_nothing_is_chosen_where_nothing_is_sure(shop: Path, ended: tuple[Path, Result], tmp_path: Path) -> None:
    out = tmp_path / "search"
    found = search(shop, out, "--max-loss", 1e-4, "--techniques", "none", "--limit", "flops=1", "--exclude-seen").json
    assert found["chosen"] is found["saving"] is found["test_loss"] is None
    assert found["proposals"] == []
    assert found["headline"].startswith(
        "No cheaper model was found that keeps the promise (less than 0.01 % of NDCG@10"
    )
    assert not (out / "chosen").exists() and (out / "report.html").exists()
    assert found["export"] is None and not (out / "exported").exists()
    assert {t["name"] for t in found["candidates"]} == {"shallow", "narrow", "small", "tiny"}
    left_out = leanrec("evaluate", out / "runs" / "full", "--exclude-seen", "--json").json
    assert found["exclude_seen"] and found["baseline"]["metrics"] == left_out["metrics"]
    assert "seen items are left out" in (out / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_a_search_that_found_nothing_in_time_can_go_on(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "search"
    with monkeypatch.context() as patch:
        patch.setattr("leanrec.tasks.slim.trying.Trials._too_long", lambda self, trial: True)
        found = search(shop, out).json
    assert found["chosen"] is None and found["headline"].endswith("repeat with more --hours.")
    assert {trial["status"] for trial in found["candidates"]} == {"no time"}
    page = (out / "report.html").read_text("utf-8")
    again = search(shop, out).json
    assert again["chosen"] is not None and again["baseline"]["metrics"] == found["baseline"]["metrics"]
    assert (out / "report.html").read_text("utf-8") != page


def test_more_hours_go_on_where_time_ran_out(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "search"
    error = leanrec("slim", shop, *FULL, "--hours", 1e-6, "--out", out, "--techniques", "none")
    assert error.code == 2
    assert "expected the full model trained within --hours 1e-06, got no further in" in error.err
    assert "repeat the command with more --hours to go on from there" in error.err
    found = search(shop, out, "--techniques", "none", "--max-loss", 0.01, "--hours", 0.1).json
    assert found["baseline"]["metrics"]["ndcg@10"] > 0


BAD = {
    "loss of nothing": (
        ("--max-loss", 0),
        "expected --max-loss above 0 and below 1, a share of the full model's NDCG@10, got 0.0",
    ),
    "no time": (("--hours", 0), "expected --hours above 0, got 0.0"),
    "unknown technique": (
        ("--techniques", "canet,cprek"),
        "expected techniques in --techniques, got 'cprek'; did you mean 'cprec'? known: ",
    ),
    "no technique": (("--techniques", " , "), "expected --techniques as names separated by commas, or none, got ' , '"),
    "unknown limit": (
        ("--limit", "p98_ms=5"),
        "expected limits such as p99_ms=5,bytes=20MB in --limit, got 'p98_ms=5'; did you mean 'p99_ms'? known: bytes, flops, ",
    ),
    "a limit of words": (
        ("--limit", "bytes=many"),
        "expected a number above 0 for the limit bytes, got 'many'; 5, 500K or 20MB would work",
    ),
    "a negative limit": (("--limit", "flops=-1"), "expected a number above 0 for the limit flops, got '-1'"),
    "a technique in the full model": (
        ("technique.canet.budget=0.5",),
        "expected a full model without techniques, got canet; --techniques says what to try",
    ),
    "a bad setting": (("backbone.widht=5",), "unknown config key 'backbone.widht'; did you mean 'width'?"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_searched_for(case: str, shop: Path, tmp_path: Path) -> None:
    options, message = BAD[case]
    assert refused(tmp_path, "slim", shop, *FULL, *options, "--out", tmp_path / "search").startswith(message)
    assert listing(tmp_path) == {}


def test_no_backbone(shop: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "slim", shop, "--out", tmp_path / "search")
    assert error.startswith("expected backbone.name, got none; known: bert4rec, ") and error.endswith(
        "--backbone sets it"
    )


def test_too_few_users(tmp_path: Path) -> None:
    assert leanrec("data", "simulate", "--users", 12, "--out", tmp_path / "shop").code == 0
    error = refused(tmp_path, "slim", tmp_path / "shop", *FULL, "--out", tmp_path / "search")
    assert error == (
        "expected at least 10 validation users to choose on and as many to confirm on, got 6 to choose on and 6 to confirm on in "
        f"{tmp_path / 'shop'}; bring more users with three events or more"
    )


def test_another_search_in_the_same_place(shop: Path, ended: tuple[Path, Result]) -> None:
    error = refused(ended[0], "slim", shop, *FULL, *LENIENT, "train.epochs=4", "--out", ended[0])
    assert error.startswith(
        f"expected train.epochs of 3, with which the search in {ended[0]} was started, got 4; repeat "
    )
    error = refused(ended[0], "slim", shop, *FULL, *LENIENT, "--max-loss", 0.5, "--out", ended[0])
    assert error.startswith(f"expected max_loss of 0.9, with which the search in {ended[0]} was started, got 0.5; ")


def test_a_folder_with_something_else(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    error = refused(tmp_path, "slim", shop, *FULL, "--out", tmp_path)
    assert error == f"{tmp_path} exists and holds no search; choose another --out"


def test_a_damaged_search(shop: Path, ended: tuple[Path, Result], tmp_path: Path) -> None:
    out = shutil.copytree(ended[0], tmp_path / "search")
    (out / "search.json").write_text('{"plan": 1}')
    error = refused(out, "slim", shop, *FULL, *LENIENT, "--out", out)
    assert error.startswith(f"cannot read the search in {out}/search.json: Expected `object`, got `int`")
