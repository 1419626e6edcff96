"""Bad input: exit code 2, one clear line on stderr, and nothing half-written."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.command import Result, leanrec, listing, refused
from e2e.conftest import TINY, write_log

HEADER = "user,item,time\n"
GOOD = "".join(f"{user},{item},{time}\n" for user in "ab" for time, item in enumerate("xyz"))


LOGS = {
    "missing column": (
        HEADER + GOOD,
        ["--item", "sku"],
        "the item column 'sku', got no such column in .*user, item, time",
    ),
    "no column that looks right": ("a,b\n1,2\n", [], "expected a user column, got the columns a, b in .*; name it"),
    "bad time": (
        HEADER + GOOD + "b,z,soon\n",
        [],
        "expected a time such as 1700000000 .*got 'soon' in row 7, column 'time'",
    ),
    "empty": ("", [], "expected an interaction log, got the empty file"),
    "blank": ("\n \n", [], "expected an interaction log, got the empty file"),
    "header only": (HEADER, [], "expected an interaction log, got a header and no rows in"),
    "one user": (
        HEADER + GOOD[: len(GOOD) // 2],
        [],
        "expected at least two users, got one in .*user column the right one",
    ),
    "short users": (
        HEADER + "a,x,1\na,y,2\nb,x,1\n",
        [],
        "expected a user with at least three events, got at most 2 per",
    ),
    "NaN": (
        HEADER + GOOD + "NaN,x,9\n",
        [],
        "expected a user id, got 'NaN' in row 7, column 'user' of .*; drop the row",
    ),
    "no item": (
        HEADER + GOOD + "b,,9\n",
        [],
        "expected an item id, got nothing in row 7, column 'item' of .*; drop the row",
    ),
    "blank item": (HEADER + GOOD + 'b," ",9\n', [], "expected an item id, got ' ' in row 7, column 'item'"),
    "cut": (HEADER + GOOD + "b,z", [], "expected a time such as 1700000000 .*, got nothing in row 7, column 'time' of"),
    "cut beside": (
        "user,item,p\na,x,5\nb,y",
        [],
        "expected 3 fields, got 2 in the last row, 2, of .*cut in the middle\\?",
    ),
    "duplicates": (
        HEADER + GOOD + "b,z,2\n",
        ["--duplicates", "error"],
        "expected every event once, got user 'b', item 'z'",
    ),
    "format": (HEADER + GOOD, ["--format", "xls"], "expected a log format, got 'xls'"),
    "filters": (HEADER + GOOD, ["--min-user", "9"], "expected events, got none that pass the minimum counts in"),
    "titles": (HEADER + GOOD, ["--titles", "nowhere.csv"], "expected a log, got no file at nowhere.csv"),
}


@pytest.mark.parametrize("case", LOGS)
def test_a_log_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    text, options, message = LOGS[case]
    source = tmp_path / "log.csv"
    source.write_text(text)
    assert re.search(
        message, refused(tmp_path, "data", "import", source, "--out", tmp_path / "data", "--json", *options)
    )


def test_a_gzip_file_cut_in_the_middle(tmp_path: Path, log: Path) -> None:
    source = tmp_path / "log.csv.gz"
    whole = gzip.compress(log.read_bytes())
    source.write_bytes(whole[: len(whole) // 2])
    error = refused(tmp_path, "data", "import", source, "--out", tmp_path / "data", "--json")
    assert re.search(
        r"expected a whole gzip file, got one cut in the middle after line \d+ of .*log\.csv\.gz; download", error
    )


def test_no_log(tmp_path: Path) -> None:
    error = refused(tmp_path, "data", "import", tmp_path / "no.csv", "--out", tmp_path / "data", "--json")
    assert re.search(r"expected a log, got no file at .*no\.csv; check the path", error)


def test_a_store_is_not_replaced_unasked(store: Path, log: Path, tmp_path: Path) -> None:
    error = refused(store, "data", "import", log, "--out", store, "--json")
    assert error == f"expected a new directory, got the store {store}; choose another one or allow overwriting it"
    (tmp_path / "notes.txt").write_text("mine")
    error = refused(tmp_path, "data", "import", log, "--out", tmp_path, "--overwrite", "--json")
    assert "which is not a store; choose another one" in error


def test_the_exit_code_and_the_line_of_the_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "leanrec", "evaluate", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: expected the directory of a run, got nothing at {tmp_path / 'nothing'}; make one with 'leanrec train'\n"
    )


SETTINGS = {
    "unknown key": (["train.epoch=3"], "unknown config key 'train.epoch'; did you mean 'epochs'\\? known: "),
    "unknown table": (["training.epochs=3"], "unknown config key 'training'; did you mean 'train'\\?"),
    "unknown backbone field": (["backbone.widht=8"], "unknown config key 'backbone.widht'; did you mean 'width'\\?"),
    "wrong type": (["train.epochs=many"], "config train: Expected `int`, got `str` - at `train.epochs`"),
    "wrong choice": (["train.window=first"], "config train: Invalid enum value 'first' - at `train.window`"),
    "no value": (["train.epochs"], "expected key.path=value, got 'train.epochs'; for instance train.epochs=5"),
    "not a table": (["train.epochs.most=5"], "'epochs' in 'train.epochs.most=5' is a value|config train"),
    "impossible shape": (["backbone.heads=3"], "expected backbone.width to be a multiple of backbone.heads"),
    "objective": (
        ["objective.name=softmx"],
        "got 'softmx'; did you mean 'softmax'\\? known: contrastive, gbce, sampled-softmax, softmax",
    ),
    "range": (["train.batch_users=0"], "config train: Expected `int` >= 1 - at `train.batch_users`"),
    "dropout": (["backbone.dropout=2"], "config backbone: Expected `float` < 1.0 - at `backbone.dropout`"),
    "dilations": (["backbone.name=nextitnet", "backbone.dilations=[]"], "expected at least one dilation in backbone"),
    "split shares": (
        ["data.split=time", "data.valid_from=0.95"],
        "expected 0 < valid < test < 1 as shares of the events, got 0.95",
    ),
    "technique": (["--technique", "thinner"], "expected a technique, got 'thinner'; .*known: "),
    "backbone": (
        ["--backbone", "sasrek"],
        "expected a backbone, got 'sasrek'; did you mean 'sasrec'\\? known: bert4rec, cells, gru4rec, nextitnet, popular, sas",
    ),
    "recipe": (
        ["--recipe", "demo-ful"],
        "expected a recipe's name or a TOML file, got 'demo-ful'; did you mean 'demo-full'\\?",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_configuration_that_cannot_be_used(case: str, store: Path, tmp_path: Path) -> None:
    given, message = SETTINGS[case]
    backbone = [] if case in ("backbone", "recipe") else ["--backbone", "sasrec"]
    error = refused(tmp_path, "train", store, *backbone, *given, "--out", tmp_path / "run")
    assert re.search(message, error)


def test_a_backbone_is_needed(store: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "train", store, "--out", tmp_path / "run")
    assert (
        error
        == "expected backbone.name, got none; known: bert4rec, cells, gru4rec, nextitnet, popular, sasrec; --backbone sets it"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[backbone\n", r"recipe\.toml is not valid TOML: "),
        (b"\xff\xfe", r"recipe\.toml is not valid TOML: 'utf-8' codec"),
        (b"backbone = 'sasrec'\n", r"expected a table at backbone, got 'sasrec'; write \[backbone\]"),
        (b"technique = 5\n", r"expected a table at technique, got 5; write \[technique\]"),
    ],
)
def test_a_recipe_that_cannot_be_used(content: bytes, message: str, store: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_bytes(content)
    options = ["--recipe", recipe, "--backbone", "sasrec", "--technique", "any", "--out", tmp_path / "run"]
    assert re.search(message, refused(tmp_path, "train", store, *options))


def test_where_a_run_cannot_be_written(store: Path, run: Path, tmp_path: Path) -> None:
    config = ["--backbone", "sasrec", *TINY]
    error = refused(run, "train", store, *config, "--out", run)
    assert error == f"{run} exists; go on with --resume, or choose another --out"
    (tmp_path / "file").write_text("mine")
    error = refused(tmp_path, "train", store, *config, "--out", tmp_path / "file")
    assert error == f"expected a directory to write in, got a file at {tmp_path / 'file'}; choose another place"
    error = refused(tmp_path, "train", store, *config, "--out", tmp_path / "file" / "run")
    assert re.search(r"cannot write .*run: Not a directory; .*choose another place", error)


def test_what_cannot_be_resumed(store: Path, run: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "train", store, "--out", tmp_path / "run", "--resume")
    assert error == (
        f"expected a run with config.toml to resume, got none at {tmp_path / 'run'}; start it without --resume"
    )
    for extra in (["train.epochs=9"], ["--backbone", "sasrec"], ["--recipe", "demo-small"], ["--technique", "x"]):
        error = refused(run, "train", store, *extra, "--out", run, "--resume")
        assert error == "--resume goes on with the run's own configuration; drop the other options"


def test_a_store_that_is_missing_or_too_short(store: Path, tmp_path: Path) -> None:
    config = ["--backbone", "sasrec", *TINY, "--out", tmp_path / "run"]
    error = refused(tmp_path, "train", tmp_path / "data", *config)
    assert error == f"expected a store, got no directory at {tmp_path / 'data'}; make one with 'leanrec data import'"
    error = refused(tmp_path, "train", tmp_path, *config)
    assert "expected a store, got a directory without store.json" in error
    source = tmp_path / "log.csv"
    source.write_text(HEADER + "a,x,1\na,y,2\na,z,3\nb,x,4\n")
    assert leanrec("data", "import", source, "--out", tmp_path / "short").code == 0
    error = refused(tmp_path, "train", tmp_path / "short", *config)
    assert re.search("expected users with at least two training events, got none in .*; use a longer log", error)


def test_a_store_with_another_catalogue(run: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path / "other.csv", tuple(f"other {number}" for number in range(40)))
    assert leanrec("data", "import", log, "--out", tmp_path / "other").code == 0
    for command in (["evaluate"], ["bench", "--seconds", 0.1], ["recommend", "--out", tmp_path / "top.parquet"]):
        name, *options = command
        error = refused(tmp_path, name, run, *options, "--data", tmp_path / "other", "--json")
        assert re.search(
            "expected items that the model knows, such as '.*', got only others, such as 'other .*', in .*; is it the right",
            error,
        )


REQUESTS = {
    "both": (
        ["--history", "item-1", "--data", "d", "--out", "o"],
        "expected one of --history KEY,KEY,..., --histories FILE and --data DATA, and with",
    ),
    "neither": ([], "expected one of --history KEY,KEY,..., --histories FILE and --data DATA, and with"),
    "no file": (["--data", "d"], "and with --data also --out FILE.parquet or --user KEY"),
    "file for one": (["--history", "item-1", "--out", "o"], "and with --data also --out FILE.parquet or --user KEY"),
    "user of none": (["--history", "item-1", "--user", "u"], "and with --data also --out FILE.parquet or --user KEY"),
    "times of one": (
        ["--history", "item-1", "--history", "item-2", "--times", "1"],
        "expected --times once for each --history, got 1 for 2",
    ),
    "no such file": (
        ["--histories", "none.txt"],
        "expected --histories to be a text file in UTF-8, got No such file or directory at none.txt",
    ),
    "all unknown": (
        ["--history", "itm-1,zebra"],
        "at least one known item key, got 'itm-1', 'zebra' \\(did you mean 'item-1",
    ),
    "nothing": (["--history", ""], "expected at least one item key, got an empty history"),
    "budget": (
        ["--history", "item-1", "--budget", 0],
        "expected a budget above 0, as a share of the full model's FLOPs, got 0",
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_that_cannot_be_answered(case: str, run: Path) -> None:
    options, message = REQUESTS[case]
    assert re.search(message, leanrec("recommend", run, *options).error)


def test_a_table_where_a_directory_is(run: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    error = refused(tmp_path, "recommend", run, "--data", store, "--out", tmp_path / "taken", "--json")
    assert re.search("expected a file to write, got a directory at .*taken; choose another place", error)
    error = refused(tmp_path, "evaluate", run, "--per-user", tmp_path / "taken", "--json")
    assert re.search("expected a file to write, got a directory at .*taken; choose another place", error)


def test_the_other_commands(run: Path, tmp_path: Path) -> None:
    for batch in ("abc", "0", "1,,2", "-1", "²"):
        error = leanrec("bench", run, "--batch", batch).error
        assert error == f"expected --batch as positive numbers such as 1,32,256, got {batch!r}"
    assert leanrec("bench", run, "--batch", 1, "-k", 41).error.startswith("expected k in 1..40, the items of run")
    assert leanrec("evaluate", run, "--split", "train").error == "expected --split test or valid, got 'train'"
    assert leanrec("evaluate", run, "--budget", 0, "--json").error.startswith(
        "expected a budget above 0, as a share of the full"
    )
    error = leanrec("list", "backbone").error
    assert error.startswith(
        "cannot list 'backbone'; did you mean 'backbones'? known: backbones, datasets, formats, objectives,"
    )
    error = refused(tmp_path, "data", "fetch", "ml-9", "--out", tmp_path / "data")
    assert re.match("expected a data set, got 'ml-9'; did you mean 'ml-", error)
    error = refused(tmp_path, "data", "simulate", "--users", 0, "--out", tmp_path / "data")
    assert error == "simulated shop: expected users of at least 1, got 0"
    error = refused(run, "demo", "--out", run)
    assert error == f"{run} exists and is not empty; delete it or choose another --out"


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ["train"],
            ["evaluate"],
            ["recommend", "r", "-k", "0"],
            ["bench", "r", "--seconds", "0"],
            ["demo", "--users", "1"],
        ),
        *(
            ["data", "import", "f"],
            ["data", "simulate", "--seed", "-1", "--out", "q"],
            ["evaluate", "r", "--budget", "-1"],
        ),
        *(["nonsense"], ["cost", "r", "--jsn"]),
    ],
)
def test_wrong_usage(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended: Result = leanrec(*arguments)
    assert (ended.code, ended.out, listing(tmp_path)) == (2, "", {})
    assert "Usage: leanrec" in ended.err
    assert "Traceback" not in ended.err
