from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from benchmarks import rows
from benchmarks.cases import parse_case
from benchmarks.configured import digest
from benchmarks.driver import Driver, Outcome, Places
from benchmarks.external import filled
from benchmarks.spec import Commands
from benchmarks.state import Results, units

from leanrec.core.errors import ConfigError, DataError

FIGURES = '{"metric": "p50", "value": 2.5, "low": 2.0, "high": 3.0, "unit": "ms", "variant": "batch-1"}'


def case_of(*lines: str, code: str = "", more: str = "") -> Commands:
    """A case of one command, which prints some lines."""
    script = json.dumps(f"{code or 'pass'}; print({chr(10).join(lines)!r})")
    text = f'kind = "command"\nabout = "a command"\n[variants.one]\ncommand = ["{{python}}", "-c", {script}]\n{more}'
    case = parse_case("commands", text, "commands.toml")
    assert isinstance(case, Commands)
    return case


def run(case: Commands, folder: Path, **more: float) -> Outcome:
    places = Places(folder / "logs", folder / "work", folder / "results")
    return Driver(places, tell=lambda text: None, **more).run([case])  # pyright: ignore[reportArgumentType]


def test_what_a_command_prints_becomes_rows_once(tmp_path: Path) -> None:
    case = case_of("noise", FIGURES, '{"metric": "items", "value": 7}')
    assert run(case, tmp_path).measured == ["commands: one"]
    again = run(case, tmp_path)
    assert again.measured == [] and again.before == 1
    found = rows.read(tmp_path / "results" / "commands.csv")
    told = found.select("variant", "metric", "value", "low", "unit", "config_sha").rows()
    sha = digest(case, "one")
    assert told[:2] == [("one/batch-1", "p50", 2.5, 2.0, "ms", sha), ("one", "items", 7.0, None, "", sha)]
    assert told[2][:2] == ("one", "seconds to measure, command") and len(told) == 3


@pytest.mark.parametrize(
    ("lines", "more", "message"),
    [
        (['{"metric": "p50", "valeu": 1}'], {}, r"expected figures from commands: one .*unknown field `valeu`"),
        (['{"metric": "p50", "value": "fast"}'], {}, r"Expected `float`, got `str`"),
        (["nothing"], {}, r"^expected JSON lines with metric and value from commands: one .*, got none$"),
        ([FIGURES], {"code": "import sys; sys.exit(3)"}, r"^expected commands: one .* to end with 0, got 3; its errors"),
        ([FIGURES], {"code": "import time; time.sleep(9)", "more": "timeout = 0.2"}, r"^expected figures within 0\.2 s from"),
        ([FIGURES], {"more": 'needs = ["no_such_module"]'}, r"^expected the module no_such_module for commands: one"),
    ],
)  # fmt: skip
def test_a_command_that_fails_leaves_no_row(
    lines: list[str], more: dict[str, str], message: str, tmp_path: Path
) -> None:
    case = case_of(*lines, **more)
    (why,) = run(case, tmp_path).failed.values()
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(why)
    assert not (tmp_path / "results" / "commands.csv").exists()


def test_what_a_command_has_started_ends_with_it(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
    )
    run(case_of(FIGURES, code=f"exec(open({str(script)!r}).read())"), tmp_path)
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    for _ in range(200):
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"{stat.parent} is still there")


def test_a_command_that_changed_is_stale(tmp_path: Path) -> None:
    run(case_of(FIGURES), tmp_path)
    other = case_of(FIGURES, code="1")
    assert [Results(other, tmp_path / "results").state(unit) for unit in units(other)] == ["stale"]


def test_nothing_is_started_that_took_longer_than_what_is_left(tmp_path: Path) -> None:
    case = case_of(FIGURES)
    run(case, tmp_path)
    path = tmp_path / "results" / "commands.csv"
    frame = rows.read(path).with_columns(
        pl.when(pl.col("metric").str.starts_with("seconds")).then(7200.0).otherwise(pl.col("value")).alias("value")
    )
    path.unlink()
    rows.append(path, [rows.Row(**found) for found in frame.iter_rows(named=True)])
    other = case_of(FIGURES, code="1")
    assert run(other, tmp_path, hours=1).not_started == ["commands: one"]
    assert run(other, tmp_path, hours=3).measured == ["commands: one"]


def test_placeholders(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(kind: str, name: str) -> str:
        return f"<{kind}|{name}>"

    monkeypatch.setenv("PEER", "/peer")
    assert filled("{python} {env:PEER} {data:ml-1m}/x {work}", fill) == f"{sys.executable} /peer <data|ml-1m>/x <work|>"
    monkeypatch.delenv("PEER")
    with pytest.raises(
        ConfigError, match=r"^expected the variable PEER in the environment, for '\{env:PEER\}', got none$"
    ):
        filled("{env:PEER}", fill)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("{dat:ml-1m}", r"expected a placeholder, got \{dat\}; did you mean 'data'\?"),
        ("{data:ml-2m}", r"expected a log in \{data:ml-2m\}; did you mean 'ml-1m'\?"),
        ("{run:engine/request}", r"expected CASE/MODEL of a case of models in \{run:engine/request\}"),
        (
            "{data:games}",
            r"expected the log games at .*games\.txt, got nothing; name the folder of the logs with --logs",
        ),
    ],
)
def test_placeholders_that_stand_for_nothing(word: str, message: str, tmp_path: Path) -> None:
    case = case_of(FIGURES, more=f'env = {{ X = "{word}" }}')
    (why,) = run(case, tmp_path).failed.values()
    with pytest.raises(DataError, match=message):
        raise DataError(why)
