from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from benchmarks import pictures, rows, tables
from benchmarks.__main__ import main
from benchmarks.rows import Row

from leanrec.core.errors import ConfigError
from leanrec.tasks.report.frontier import FrontierPoint, frontier, standalone

TABLE = """
heads = ["model"]
of = { case = "c", part = "test" }
caption = "Of one seed."
columns = [
  { head = "NDCG@10", of = { metric = "ndcg@10", interval = true } },
  { head = "share", of = { metric = "ndcg@10", over = { variant = "full" }, format = "{:.0%}" } },
]
rows = [
  { cells = ["all"], of = { variant = "full" } },
  { cells = ["half"], of = { variant = "half" } },
  { cells = ["other"], of = { variant = "other" } },
]
"""
DOCUMENT = "It reaches <!-- value best --><!-- /value -->.\n\n<!-- table t -->\n<!-- /table -->\n"
EXPECTED = """It reaches <!-- value best -->.18<!-- /value -->.

<!-- table t -->

| model | NDCG@10 | share |
|---|---|---|
| all | .1810 [.1700, .1900] | 100% |
| half | .0905 | 50% |
| other | not run | not run |

Of one seed.

<!-- /table -->
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents, tables and rows."""
    found = [
        Row(case="c", variant="full", seed=0, part="test", metric="ndcg@10", value=0.181, low=0.17, high=0.19),
        Row(case="c", variant="half", seed=0, part="test", metric="ndcg@10", value=0.0905),
    ]
    rows.append(tmp_path / "results" / "c.csv", found)
    (tmp_path / "tables").mkdir()
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "tables" / "t.toml").write_text(TABLE)
    value = '[best]\ncase = "c"\nvariant = "full"\nmetric = "ndcg@10"\nformat = "{:.2f}"\n'
    (tmp_path / "tables" / "values.toml").write_text(value)
    (tmp_path / "docs" / "deep" / "page.md").write_text(DOCUMENT)
    (tmp_path / "README.md").write_text("No numbers.\n")
    monkeypatch.setattr(tables, "SPECS", tmp_path / "tables")
    return tmp_path


def update(place: Path, write: bool = True) -> list[str]:
    frame = rows.read_all(place / "results")
    return tables.update(frame, place, write, place / "tables")


def test_documents_are_filled_from_rows(place: Path) -> None:
    page = place / "docs" / "deep" / "page.md"
    assert len(update(place)) == 1
    assert page.read_text() == EXPECTED
    assert update(place) == []
    rows.append(place / "results" / "c.csv", [Row(case="c", variant="other", part="test", metric="ndcg@10", value=0.2)])
    update(place)
    assert "| other | .2000 | 110% |" in page.read_text()


def test_a_changed_digit_is_found(place: Path) -> None:
    update(place)
    page = place / "docs" / "deep" / "page.md"
    page.write_text(page.read_text().replace(".0905", ".0906"))
    (line,) = update(place, write=False)
    assert line == "docs/deep/page.md:8: expected '| half | .0905 | 50% |', got '| half | .0906 | 50% |'"
    assert ".0906" in page.read_text()


def test_the_command_fails_where_a_document_differs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "README.md").write_text("<!-- table backbones -->\n<!-- /table -->\n")
    (place / "docs" / "deep" / "page.md").unlink()
    command = ["tables", "--root", str(place)]
    assert main([*command, "--check"]) == 1
    assert capsys.readouterr().out.startswith("README.md:2: expected ")
    assert main(command) == 0 and main([*command, "--check"]) == 0


def test_the_documents_say_what_the_rows_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("<!-- table tt -->\n<!-- /table -->", r"^expected a table in .*tables, got 'tt'; did you mean 't'\?"),
        ("<!-- value beast --><!-- /value -->", r"value of tables/values\.toml; did you mean 'best'\?"),
        ("<!-- table t -->\n", r"^README\.md: expected markers in pairs, got <!-- table t --> alone$"),
        ("<!-- picture none -->\n<!-- /picture -->", r"^expected a picture in .*, got 'none'; known: "),
    ],
)
def test_markers_that_lead_nowhere_are_refused(place: Path, document: str, message: str) -> None:
    (place / "README.md").write_text(document)
    with pytest.raises(ConfigError, match=message):
        update(place)


def test_a_figure_is_of_one_row(place: Path) -> None:
    again = Row(case="c", variant="full", seed=1, part="test", metric="ndcg@10", value=0.185)
    rows.append(place / "results" / "c.csv", [again])
    with pytest.raises(ConfigError, match=r"expected one row of c, full, ndcg@10, got 2 of seeds .* give seed or part"):
        update(place)
    table = place / "tables" / "t.toml"
    table.write_text(table.read_text().replace('part = "test" }', 'part = "test", seeds = "mean" }', 1))
    value = place / "tables" / "values.toml"
    value.write_text(value.read_text() + "seed = 0\n")
    update(place)
    assert "| all | .1830 |" in (place / "docs" / "deep" / "page.md").read_text()


def test_a_picture_has_the_points_that_were_measured(place: Path) -> None:
    spec = (
        'alt = "Quality against cost"\ncost_axis = "FLOPs"\nquality = { case = "c", metric = "ndcg@10", part = "test" }\n'
        'cost = { case = "c", metric = "flops" }\nlevels = { half = { variant = "half" } }\n'
        '[points]\nfull = { variant = "full" }\nhalf = { variant = "half" }\n'
    )
    (place / "one.toml").write_text(spec)
    rows.append(place / "results" / "c.csv", [Row(case="c", variant="full", metric="flops", value=7.0)])
    found = tables.Rows(rows.newest(rows.read_all(place / "results")))
    text, files = pictures.picture("one", found, place / "docs" / "deep" / "page.md", place, place)
    assert text.strip() == "![Quality against cost](../pictures/one.svg)"
    point = FrontierPoint("full", "plain", 7.0, 0.181, 0.17, 0.19)
    drawn = standalone(frontier([point], "FLOPs", "NDCG@10", "Quality against cost", {"half": 0.0905}))
    assert files == {place / "docs" / "pictures" / "one.svg": drawn}
    (place / "one.toml").write_text(spec + 'quarter = { variant = "full", at = 4 }\n')
    assert ">quarter<" in next(iter(pictures.picture("one", found, place / "README.md", place, place)[1].values()))
    (place / "one.toml").write_text("width = 230\n" + spec)
    text, files = pictures.picture("one", found, place / "README.md", place, place)
    assert text == "![Quality against cost](docs/pictures/one.svg)"  # in a line, beside others
    assert ' width="230" height="150"' in next(iter(files.values()))


def test_a_picture_needs_a_point(place: Path) -> None:
    (place / "none.toml").write_text(
        'alt = "a"\ncost_axis = "b"\ncost = { case = "c", metric = "flops" }\nquality = { case = "c", metric = "x" }\n'
        '[points]\nfull = { variant = "full" }\n'
    )
    found = tables.Rows(rows.newest(rows.read_all(place / "results")))
    with pytest.raises(
        ConfigError, match="expected at least one point whose cost and quality are among the rows, got none"
    ):
        pictures.picture("none", found, place / "README.md", place, place)


def test_what_was_measured_twice_is_held_against_the_interval_of_before(place: Path) -> None:
    (place / "docs" / "deep" / "page.md").unlink()
    page = place / "README.md"
    page.write_text("<!-- repeated all -->\n<!-- /repeated -->\n")
    update(place)
    assert "Repeated: not run." in page.read_text()
    row = Row(case="c", variant="full", seed=0, part="test", metric="ndcg@10", value=0.1712, low=0.16, high=0.18)
    again = [
        msgspec.structs.replace(row, config_sha="1", date="2026-02-01"),  # of before it had no hash
        msgspec.structs.replace(row, config_sha="1", part="valid", value=0.2, low=0.19, high=0.21),
        msgspec.structs.replace(row, config_sha="1", part="valid", value=0.22, low=0.21, high=0.23),
        msgspec.structs.replace(row, config_sha="1", variant="half"),
        msgspec.structs.replace(row, config_sha="1", variant="other"),
        msgspec.structs.replace(row, config_sha="2", variant="other"),  # another configuration is no repeat
    ]
    rows.append(place / "results" / "c.csv", again)
    update(place)
    assert page.read_text().splitlines()[4:-2] == [
        "| c | full | 0 | 0.1810 [0.1700, 0.1900],  | 0.1712, 2026-02-01 | 1 of 2 |"
    ]
