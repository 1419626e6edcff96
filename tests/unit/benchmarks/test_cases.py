from __future__ import annotations

import pytest
from benchmarks.cases import load, names, parse_case
from benchmarks.configured import candidates, digest, ordered, run_digests
from benchmarks.spec import Models

from leanrec.core.errors import ConfigError

TINY = """
about = "a tiny case"
log = "shop"
shop.users = 60
settings.backbone.name = "sasrec"
settings.train.epochs = 2
settings.backbone.width = 8
[full]
[variants.wide]
like = "full"
settings.backbone.width = 16
against = ["full"]
[variants.longer]
like = "wide"
init = "wide"
settings.train.epochs = 5
[variants.chosen]
choose = { "train.learning_rate" = [1e-3, 2e-3], "backbone.dropout" = [0.1, 0.3] }
"""


def tiny(*changes: tuple[str, str]) -> Models:
    text = TINY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    case = parse_case("tiny", text, "tiny.toml")
    assert isinstance(case, Models)
    return case


def test_a_variant_has_what_it_is_like_unless_it_says_otherwise() -> None:
    case = tiny()
    ((_, config),) = candidates(case, "longer")
    assert (config.train.epochs, config.backbone.config.width) == (5, 16)  # pyright: ignore[reportAttributeAccessIssue]
    assert case.variants["longer"].against == ("full",)
    assert ordered(case) == ["full", "wide", "longer", "chosen"]


def test_a_grid_is_every_combination() -> None:
    found = candidates(tiny(), "chosen")
    assert len(found) == 4 and found[3][0] == {"train.learning_rate": 2e-3, "backbone.dropout": 0.3}
    assert found[3][1].train.learning_rate == 2e-3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('log = "shop"', 'log = "shops"', r"^tiny\.toml: expected a log, got 'shops'; did you mean 'shop'\?"),
        ('about = "a tiny case"', 'abuot = ""', r"^tiny\.toml: unknown key 'abuot'; did you mean 'about'\?"),
        ("against", "aginst", r"^tiny\.toml: unknown key 'variants\.wide\.aginst'; did you mean 'against'\?"),
        ("train.epochs = 5", "train.epoch = 5", r"^tiny\.toml: variants\.longer: unknown config key 'train\.epoch'"),
        ('against = ["full"]', 'against = ["ful"]', r"variants\.wide, got 'ful'; did you mean 'full'\?"),
        ('like = "wide"', 'like = "wild"', r"variants\.longer\.like, got 'wild'; did you mean 'wide'\?"),
        ('against = ["full"]', 'init = "longer"', r"^tiny: expected models that do not wait for each other, got "),
        ('against = ["full"]', 'derive = "smal"\nof = "full"', r"derives, got 'smal'; did you mean 'small'\?"),
        ("shop.users = 60", "shop.users = 'many'", r"^tiny\.toml: Expected `int`, got `str` - at `\$\.shop\.users`$"),
        ("[full]", "[measure]\nsecond = 1\n[full]", r"^tiny\.toml: unknown key 'measure\.second'; did you mean 'seconds'\?"),
        ("[full]", "kind = 'modells'\n[full]", r"^tiny\.toml: expected kind, got 'modells'; did you mean 'models'\?"),
        ("[full]", "[full", r"^tiny\.toml is not valid TOML: "),
    ],
)  # fmt: skip
def test_what_is_no_case_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_case("tiny", TINY.replace(old, new, 1), "tiny.toml")


def test_the_digest_follows_what_is_measured_and_nothing_else() -> None:
    case = tiny()
    before = {name: digest(case, name) for name in case.models}

    def changed(*changes: tuple[str, str]) -> set[str]:
        other = tiny(*changes)
        return {name for name in case.models if digest(other, name) != before[name]}

    assert changed(("a tiny case", "another sentence"), ("[full]", "seeds = [4]\n[full]")) == set()
    assert changed(("[full]", "settings.train.seed = 3\n[full]")) == set()  # a column
    assert changed(("train.epochs = 5", "train.epochs = 6")) == {"longer"}
    assert changed(("width = 16", "width = 24")) == {"wide", "longer"}
    assert changed(("[full]", "[full]\nsettings.train.clip = 1.0")) == {"full", "wide", "longer"}
    assert changed(("[full]", "code = 2\n[full]")) == set(case.models)
    assert changed(("shop.users = 60", "shop.users = 61")) == set(case.models)
    assert changed(('against = ["full"]', 'against = ["full", "chosen"]')) == {"wide", "longer"}
    trained = {name: run_digests(case, name) for name in case.models}
    for old, new in (
        ("against", "routes = true\nagainst"),
        ('against = ["full"]', ""),
        ("[full]", "[full]\nint8 = true"),
    ):
        assert {
            name: run_digests(tiny((old, new)), name) for name in case.models
        } == trained  # no model is trained again
    more = run_digests(tiny(("[1e-3, 2e-3]", "[1e-3, 2e-3, 3e-3]")), "chosen")
    assert set(trained["chosen"]) < set(more) and len(more) == 6
    seconds = tiny(("[full]", "[measure]\nseconds = 1.0\n[full]"))
    assert digest(seconds, "wide") == before["wide"]
    assert digest(seconds, "wide", timed=True) != digest(case, "wide", timed=True)


@pytest.mark.parametrize("name", names())
def test_every_case_that_is_shipped_can_be_run(name: str) -> None:
    case = load(name)
    models = case.models if isinstance(case, Models) else case.variants
    assert all(len(digest(case, variant)) == 12 for variant in models)


def test_a_case_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match=r"^expected a case, got 'shop-smal'; did you mean 'shop-small'\?"):
        load("shop-smal")
