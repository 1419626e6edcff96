"""What another package adds is found by its entry points and used like what is shipped; nothing in leanrec names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugin.installing import install, run, wheel

HERE = Path(__file__).parent
TOYS = {
    "leanrec.backbones": {"markov": "leanrec_toys.markov"},
    "leanrec.techniques": {"bridge": "leanrec_toys.bridge"},
    "leanrec.objectives": {"pairwise": "leanrec_toys.pairwise"},
    "leanrec.sources": {"arrows": "leanrec_toys.arrows"},
    "leanrec.formats": {"programs": "leanrec_toys.programs"},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("plugin")
    files = {str(path.relative_to(HERE)): path.read_text("utf-8") for path in (HERE / "leanrec_toys").rglob("*.py")}
    install(wheel(where, "leanrec-toys", files, TOYS), where / "site")
    return where / "site"


def test_five_things_of_another_package_are_used(installed: Path, tmp_path: Path) -> None:
    log, data, out = tmp_path / "log.txt", tmp_path / "data", tmp_path / "run"
    log.write_text("".join(f"u{user} > i{(user + step) % 9}\n" for user in range(30) for step in range(8)))
    train = ["train", data, "--backbone", "markov", "--technique", "bridge", "objective.name=pairwise", "--out", out]
    listed, imported, trained, shown, exported, answer, answer_of_export = run(
        installed,
        [
            ["list", "techniques", "--json"],
            ["data", "import", log, "--out", data, "--json"],
            [*train, "train.epochs=3", "train.loss_precision=float32", "train.encoder_precision=float32", "--json"],
            ["describe", out, "--json"],
            ["export", out, "--format", "programs", "--out", tmp_path / "exported", "--json"],
            ["recommend", out, "--history", "i1,i2", "-k", 5, "--json"],
            ["recommend", tmp_path / "exported", "--trust", "--history", "i1,i2", "-k", 5, "--json"],
        ],
    )
    assert {"name": "bridge", "summary": "A learned map from states to item vectors."} in listed.json["techniques"]
    assert imported.json["events"] == 240 and imported.json["notes"][0].startswith("arrows: ")
    assert trained.json["epochs"] == 3
    described = shown.json
    assert (described["backbone"]["name"], described["objective"]) == ("markov", "pairwise")
    assert described["techniques"] == ["bridge"]
    assert exported.json["format"] == "programs"
    items = [[item["item"] for item in result.json["items"]] for result in (answer, answer_of_export)]
    assert items[0] == items[1] and len(items[0]) == 5


BROKEN = {
    "leanrec.backbones": ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
    "leanrec.techniques": ("1 / 0", "ZeroDivisionError: division by zero"),
    "leanrec.objectives": ("", "got none of that name"),
    "leanrec.formats": ("from leanrec.formats import no_such_name", "ImportError: cannot import name 'no_such_name'"),
    "leanrec.sources": (
        "from leanrec.data.sources import sources\nsources.register('csv')(object)",
        "the log format 'csv' is registered twice; choose another name",
    ),
}
COMMANDS: dict[str, list[str]] = {
    "leanrec.backbones": ["list", "backbones"],
    "leanrec.techniques": ["list", "techniques"],
    "leanrec.objectives": ["list", "objectives"],
    "leanrec.formats": ["list", "formats"],
    "leanrec.sources": ["data", "import", __file__, "--out", "nowhere"],
}


@pytest.mark.slow
def test_a_package_that_is_broken_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {group: f"broken_{group.partition('.')[2]}" for group in BROKEN}
    files = {f"{names[group]}.py": code for group, (code, _) in BROKEN.items()}
    points = {group: {name: name} for group, name in names.items()}
    install(wheel(tmp_path, "broken-toys", files, points), tmp_path / "site")
    ended = run(tmp_path / "site", [COMMANDS[group] for group in BROKEN])
    for (_, told), result in zip(BROKEN.values(), ended, strict=True):
        assert told in result.error
        assert result.error.endswith("mend or uninstall broken-toys")
