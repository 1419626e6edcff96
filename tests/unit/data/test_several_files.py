"""Folders, patterns and lists of files are read as one log."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from leanrec.core.errors import DataError
from leanrec.data.importer import import_log
from leanrec.data.members import members
from unit.data.logs import CSV, TABLE, WHOLE, histories, read, sizes

HALVES = (TABLE[:36], TABLE[36:])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two halves of the log in partitions, the second with other columns in another order."""
    for day, half in zip(("2020-09-13", "2020-09-14"), HALVES, strict=True):
        (tmp_path / "logs" / f"day={day}").mkdir(parents=True)
        half.select("user", "item", "time").write_csv(tmp_path / "logs" / f"day={day}" / "part.csv")
    HALVES[1].select("time", pl.lit("x").alias("more"), "item", "user").write_csv(
        tmp_path / "logs" / "day=2020-09-14" / "part.csv"
    )
    (tmp_path / "logs" / "_SUCCESS").touch()
    (tmp_path / "logs" / ".part.csv.crc").write_bytes(b"\0")
    (tmp_path / "logs" / "day=2020-09-14" / "empty.csv").touch()
    return tmp_path / "logs"


@pytest.mark.parametrize("how", ["folder", "pattern", "deep pattern", "list", "list of folders"])
def test_all_files_are_read(tmp_path: Path, folder: Path, how: str) -> None:
    parts = sorted(folder.glob("*/part.csv"))
    source: Any = {
        "folder": folder,
        "pattern": str(folder / "*" / "*.csv"),
        "deep pattern": str(folder / "**" / "p*.csv"),
        "list": parts,
        "list of folders": [part.parent for part in parts],
    }[how]
    store = import_log(source, tmp_path / "store")
    assert sizes(store) == WHOLE
    assert histories(store) == histories(read(tmp_path / "logs" / "..", CSV, overwrite=True))
    assert "2 files were read in the order of their names" in store.meta.notes
    assert len(store.meta.source_sha256) == 64
    assert store.meta.name == {"list": "part", "list of folders": "day=2020-09-13"}.get(how, "logs")


@pytest.mark.parametrize("pattern", ["logs/**", "logs/**/*", "logs/*", "logs/*/*", "logs/**/*.csv", "log**/**/**"])
def test_a_pattern_finds_every_file_once(tmp_path: Path, folder: Path, pattern: str) -> None:
    (folder / "day=2020-09-14" / "_part.csv").write_text(CSV)
    (folder / "_old").mkdir()
    (folder / "_old" / "part.csv").write_text(CSV)
    assert sizes(import_log(str(tmp_path / pattern), tmp_path / "store")) == WHOLE


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("_*", "seen.csv"), ("_old/*", "seen.csv"), ("*/_p*.csv", "_part.csv"), (".h*", ".hidden.csv")],
)
def test_a_pattern_may_ask_for_hidden_files(tmp_path: Path, pattern: str, found: str) -> None:
    (tmp_path / "logs" / "_old").mkdir(parents=True)
    (tmp_path / "logs" / "_old" / "_part.csv").write_text(CSV)
    (tmp_path / "logs" / "_old" / "seen.csv").write_text(CSV)
    (tmp_path / "logs" / ".hidden.csv").write_text(CSV)
    (tmp_path / "logs" / "seen.txt").write_text("a b\n")
    assert [member.path.name for member in members([str(tmp_path / "logs" / pattern)])] == [found]


def test_partitions_are_columns(tmp_path: Path, folder: Path) -> None:
    store = import_log(folder, tmp_path / "a", time="day")
    assert store.times is not None and set(store.times.tolist()) == {1599955200, 1600041600}
    store = import_log(folder, tmp_path / "b", where="day >= '2020-09-14'")
    assert store.num_events == 36 and store.meta.dropped == {"outside where": 36}
    assert import_log(folder, tmp_path / "c", item="day").num_items == 2


@pytest.mark.parametrize("form", ["parquet", "ipc", "ndjson", "gzip", "zstd"])
def test_every_form_may_be_in_parts(tmp_path: Path, form: str) -> None:
    (tmp_path / "logs").mkdir()
    for number, half in enumerate(HALVES):
        path = tmp_path / "logs" / f"{number}"
        if form == "gzip":
            path.write_bytes(gzip.compress(half.write_csv().encode()))
        elif form == "zstd":
            half.write_csv(path, compression="zstd", check_extension=False)
        else:
            getattr(half, f"write_{form}")(path)
    assert sizes(import_log(tmp_path / "logs", tmp_path / "store")) == WHOLE


def test_sessions_of_several_files_are_different_ones(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.txt").write_text("a b c\na c\n")
    store = import_log(str(tmp_path / "*.txt"), tmp_path / "store")
    assert store.user_keys == ["1:1", "1:2", "2:1", "2:2"]


def test_types_may_differ_between_files(tmp_path: Path) -> None:
    HALVES[0].write_parquet(tmp_path / "1.parquet")
    HALVES[1].cast({"user": pl.String, "item": pl.Float64, "time": pl.String}).write_parquet(tmp_path / "2.parquet")
    assert sizes(import_log(str(tmp_path / "*.parquet"), tmp_path / "store")) == WHOLE


def test_progress_goes_over_all_files(tmp_path: Path, folder: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    import_log(folder, tmp_path / "store", progress=lambda *call: calls.append(call))
    done = [call[1] for call in calls if call[0] == "read"]
    assert done == sorted(done)
    assert calls[len(done) - 1][1] == calls[len(done) - 1][2] > 0


def faults(tmp_path: Path, names: dict[str, str], message: str, **options: Any) -> None:
    (tmp_path / "logs").mkdir()
    for name, text in names.items():
        (tmp_path / "logs" / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        import_log(options.pop("source", tmp_path / "logs"), tmp_path / "store", **options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_column_that_one_file_lacks(tmp_path: Path) -> None:
    faults(
        tmp_path,
        {"1.csv": CSV, "2.csv": "user,item\n1,2\n"},
        r"expected the time column 'time' in every file, got none in .*2\.csv; it has the columns user, item",
    )


def test_files_of_two_forms(tmp_path: Path) -> None:
    faults(
        tmp_path,
        {"1.csv": CSV, "2.txt": "a b\nb c\n"},
        r"expected files of one form, got csv in .*1\.csv and pairs in .*2\.txt; name some of them, by a pattern",
    )


def test_damage_is_told_with_its_file_and_row(tmp_path: Path) -> None:
    message = r"expected a time such as .*, got 'soon' in row 73, column 'time' of .*2\.csv"
    faults(tmp_path, {"1.csv": CSV, "2.csv": CSV + "1,2,soon\n"}, message)


def test_a_missing_id_is_told_with_its_file(tmp_path: Path) -> None:
    faults(tmp_path, {"1.csv": CSV, "2.csv": CSV + ",2,3\n"}, r"got nothing in row 73, column 'user' of .*2\.csv")


def test_nothing_there(tmp_path: Path) -> None:
    faults(tmp_path, {"a": ""}, r"expected an interaction log, got empty files only in .*logs")


@pytest.mark.parametrize("source", ["nowhere/*.csv", ["nowhere.csv", "nothing.csv"]])
def test_names_of_nothing(tmp_path: Path, source: Any) -> None:
    faults(tmp_path, {}, r"expected a log, got no file at nowhere(/\*)?\.csv; check the path", source=source)


@pytest.mark.parametrize("name", ["none-*.csv", "none.csv"])
def test_one_name_of_nothing_among_others(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "1.csv").write_text(CSV)
    monkeypatch.chdir(tmp_path / "logs")
    with pytest.raises(DataError, match=rf"expected a log, got no file at {re.escape(name)}; check the path"):
        import_log(["1.csv", name], "store")


@pytest.mark.parametrize("names", [["1.csv", "s3://me:secret@b/2.csv?secret"], ["s3://b/1.csv?secret", "s3://b/2.csv"]])
def test_an_address_in_a_list(tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.csv").write_text(CSV)
    monkeypatch.chdir(tmp_path)
    message = r"expected files in a list, got the address s3://b/\d\.csv; import it alone and append the others$"
    with pytest.raises(DataError, match=message):
        import_log(names, "store")


def test_an_empty_list(tmp_path: Path) -> None:
    faults(tmp_path, {}, r"expected a log, got an empty list of them; name one", source=[])
