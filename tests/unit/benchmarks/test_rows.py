from __future__ import annotations

import csv
from multiprocessing import get_context
from pathlib import Path

import pytest
from benchmarks import rows
from benchmarks.rows import Row

from leanrec.core.errors import DataError


def row(**more: object) -> Row:
    return Row(**({"case": "a", "variant": "b", "metric": "ndcg@10", "value": 0.1} | more))  # pyright: ignore[reportArgumentType]


def test_rows_read_back_as_they_were_written(tmp_path: Path) -> None:
    written = [
        row(seed=0, part="test", value=0.1 + 0.2, low=1e-5, high=2.0, unit="ms", note='a, "quoted" note', cores=2),
        row(seed=None, value=1649552.0, torch="2.13.0", date="2026-11-29", threads=1, commit="abc", config_sha="123"),
    ]
    rows.append(tmp_path / "a.csv", written[:1])
    rows.append(tmp_path / "a.csv", written[1:])
    assert [Row(**found) for found in rows.read(tmp_path / "a.csv").iter_rows(named=True)] == written
    text = (tmp_path / "a.csv").read_bytes()
    assert text.endswith(b"\n") and b"\r" not in text and b",1649552," in text
    assert len(list(csv.reader(text.decode().splitlines()))) == 3


def test_the_later_of_two_rows_of_one_key_counts(tmp_path: Path) -> None:
    rows.append(tmp_path / "a.csv", [row(value=1.0), row(part="test", value=2.0), row(value=3.0)])
    assert sorted(rows.newest(rows.read_all(tmp_path))["value"]) == [2.0, 3.0]


def test_a_note_is_one_line() -> None:
    with pytest.raises(DataError, match=r"^expected one line in note of a row, got 'a b'$"):
        row(note="a\nb")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows.append(path, [row()])
    path.write_text(path.read_text().replace("variant,", "varient,", 1))
    message = r"^unknown column 'varient' in .*a\.csv; did you mean 'variant'\? known: "
    with pytest.raises(DataError, match=message):
        rows.read(path)
    with pytest.raises(DataError, match=message):
        rows.append(path, [row()])
    path.write_text("case,variant\n")
    with pytest.raises(DataError, match=r"^expected the columns case,variant,seed,.* got case,variant$"):
        rows.read(path)


def test_a_cell_of_another_type_is_refused(tmp_path: Path) -> None:
    rows.append(tmp_path / "a.csv", [row(seed=7)])
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text().replace(",7,", ",seven,"))
    with pytest.raises(DataError, match=r"^expected rows of results in .*a\.csv, got .*seven"):
        rows.read(tmp_path / "a.csv")


def many(path: Path) -> None:
    for number in range(10):
        rows.append(path, [row(seed=number), row(seed=number, part="test")])


def test_two_processes_append_without_losing_a_row(tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=many, args=(tmp_path / "a.csv",)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(rows.read(tmp_path / "a.csv")) == 40
