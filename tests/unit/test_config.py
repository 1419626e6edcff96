from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.config import (
    DataConfig,
    RunConfig,
    override,
    parse,
    parse_toml,
    read_recipe,
    read_toml,
    recipe_names,
)
from leanrec.core.errors import ConfigError
from leanrec.train.loop import TrainConfig

SASREC = {"backbone": {"name": "sasrec"}}


def test_only_the_backbone_has_no_default() -> None:
    config = parse(SASREC)
    assert config.backbone.name == "sasrec"
    assert config.objective.name == "softmax"
    assert config.technique == ()
    assert (config.train, config.data) == (TrainConfig(), DataConfig())


def test_parsing_does_not_change_the_tree() -> None:
    tree = {"backbone": {"name": "sasrec", "width": 8}, "train": {"epochs": 1}}
    parse(tree)
    assert tree == {"backbone": {"name": "sasrec", "width": 8}, "train": {"epochs": 1}}


def test_the_resolved_configuration_has_every_field() -> None:
    config = parse({"backbone": {"name": "nextitnet", "width": 8}, "objective": {"name": "gbce"}})
    tree = config.tree()
    assert tree.keys() == {"backbone", "objective", "technique", "train", "data"}
    for table, chosen in (("backbone", config.backbone.config), ("objective", config.objective.config)):
        assert tree[table].keys() == {"name", *chosen.__struct_fields__}
    assert tree["backbone"]["width"] == 8
    assert tree["train"].keys() == set(TrainConfig.__struct_fields__)
    assert tree["data"].keys() == set(DataConfig.__struct_fields__)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_configuration(name: str) -> None:
    config = parse(read_recipe(name))
    assert_survives(config)


def assert_survives(config: RunConfig) -> None:
    assert parse(config.tree()) == config
    assert parse_toml(config.toml(), "here") == config
    assert parse_toml(config.toml().encode(), "here") == config
    assert parse(msgspec.json.decode(msgspec.json.encode(config.tree()))) == config


def numbers(most: float = 1e6, least: float = 0) -> st.SearchStrategy[float]:
    return st.floats(least, most, allow_nan=False)


TRAIN = st.builds(
    TrainConfig,
    epochs=st.integers(1, 10**6),
    patience=st.integers(0, 1000),
    learning_rate=numbers(least=1e-9),
    schedule=st.sampled_from(["plateau", "linear"]),
    plateau=st.integers(0, 1000),
    decay=numbers(1, least=1e-9),
    warmup=st.integers(0, 10**6),
    beta2=numbers(0.9999),
    weight_decay=numbers(),
    clip=numbers(),
    batch_users=st.integers(1, 10**6),
    batch_tokens=st.integers(1, 10**9),
    window=st.sampled_from(["last", "all"]),
    loss_precision=st.sampled_from(["auto", "float32", "bfloat16"]),
    encoder_precision=st.sampled_from(["auto", "float32", "bfloat16"]),
    device=st.sampled_from(["auto", "cpu"]),
    checkpoint_seconds=numbers(),
    init=st.text(max_size=5),
    seed=st.integers(0, 2**20 - 1),
)
DATA = st.builds(
    DataConfig,
    split=st.sampled_from(["leave-one-out", "time"]),
    valid_from=numbers(0.99),
    test_from=numbers(0.99),
)


@given(TRAIN, DATA, st.sampled_from(["softmax", "sampled-softmax", "gbce"]), st.sampled_from(["sasrec", "nextitnet"]))
def test_every_configuration_survives_being_written(
    train: TrainConfig, data: DataConfig, objective: str, backbone: str
) -> None:
    tree = {"train": msgspec.to_builtins(train), "data": msgspec.to_builtins(data), "objective": {"name": objective}}
    config = parse({"backbone": {"name": backbone}, **tree})
    assert (config.train, config.data) == (train, data)
    assert_survives(config)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, r"expected backbone\.name, got none; known: bert4rec, cells, gru4rec, nextitnet, popular, sasrec"),
        ({"backbone": {"width": 8}}, r"expected backbone\.name, got none"),
        (
            {**SASREC, "trian": {}},
            r"unknown config key 'trian'; did you mean 'train'\? known: backbone, data, objective",
        ),
        ({**SASREC, "train": {"epoch": 3}}, r"unknown config key 'train\.epoch'; did you mean 'epochs'\? known: "),
        ({**SASREC, "data": {"splits": 3}}, r"unknown config key 'data\.splits'; did you mean 'split'\?"),
        ({"backbone": {"name": "sasrec", "wdth": 3}}, r"unknown config key 'backbone\.wdth'; did you mean 'width'\?"),
        ({**SASREC, "objective": {"name": "gbce", "x": 1}}, r"unknown config key 'objective\.x'; known: "),
        ({"backbone": {"name": "sasrac"}}, r"expected a backbone, got 'sasrac'; did you mean 'sasrec'\?"),
        ({"backbone": {"name": 7}}, r"expected a backbone, got '7'; known: "),
        (
            {**SASREC, "objective": {"name": "gbse"}},
            r"expected an? objective, got 'gbse'; did you mean 'gbce'\? known: contrastive, gbce, sampled-softmax",
        ),
        ({**SASREC, "technique": {"thin": {}}}, r"expected a technique, got 'thin'; "),
        (
            {"backbone": "sasrec"},
            r"expected a table at backbone, got 'sasrec'; write \[backbone\] or backbone\.name=\.\.\.",
        ),
        ({**SASREC, "train": 3}, r"expected a table at train, got 3"),
        ({**SASREC, "technique": {"thin": 1}}, r"expected a table at thin, got 1"),
        ({**SASREC, "train": {"epochs": "many"}}, r"config train: Expected `int`, got `str` - at `train\.epochs`"),
        (
            {**SASREC, "train": {"window": "first"}},
            r"config train: Invalid enum value 'first' - at `train\.window`; known: all, last$",
        ),
        (
            {**SASREC, "train": {"schedule": "linea"}},
            r"config train: Invalid enum value 'linea' - at `train\.schedule`; did you mean 'linear'\? known: linear, plateau$",
        ),
        (
            {**SASREC, "technique": {"cprec": {"codes": "aut"}}},
            r"config technique\.cprec: Invalid enum value 'aut' - at `technique\.cprec\.codes`; did you mean 'auto'\?",
        ),
        ({**SASREC, "data": {"split": 3}}, r"config data: Expected `str`, got `int` - at `data\.split`"),
        ({"backbone": {"name": "sasrec", "width": [8]}}, r"config backbone: .*got `array` - at `backbone\.width`"),
        (
            {**SASREC, "objective": {"name": "gbce", "negatives": "x"}},
            r"config objective: .* - at `objective\.negatives`",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_path(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        parse(tree)
    assert "\n" not in str(caught.value)


def test_overrides() -> None:
    tree = {"backbone": {"name": "sasrec", "width": 8}}
    changed = override(
        tree,
        [
            "backbone.width=16",
            "train.learning_rate = 1e-3",
            "train.window=all",
            'train.loss_precision="float32"',
            "some.new.list=[1, 2]",
            "some.new.flag=true",
            "some.text=a=b",
            "some.empty=",
            "top=2024-01-01x",
        ],
    )
    assert changed == {
        "backbone": {"name": "sasrec", "width": 16},
        "train": {"learning_rate": 1e-3, "window": "all", "loss_precision": "float32"},
        "some": {"new": {"list": [1, 2], "flag": True}, "text": "a=b", "empty": ""},
        "top": "2024-01-01x",
    }
    assert tree == {"backbone": {"name": "sasrec", "width": 8}}
    assert override(tree, []) == tree


def test_another_objective_takes_over_the_fields_that_it_has() -> None:
    tree = {"backbone": {"name": "sasrec"}, "objective": {"name": "sampled-softmax", "negatives": 9, "power": 0.5}}
    assert override(tree, ["objective.name=softmax"])["objective"] == {"name": "softmax"}
    gbce = override(tree, ["objective.name=gbce", "objective.negatives=7"])
    assert gbce["objective"] == {"name": "gbce", "negatives": 7}
    parse(gbce)
    assert override(tree, ["objective.name=sampled-softmax"]) == tree
    unknown = override(tree, ["objective.name=nothing"])  # refused when it is parsed
    assert unknown["objective"] == tree["objective"] | {"name": "nothing"}


def test_the_last_override_wins() -> None:
    assert override({}, ["train.epochs=1", "train.epochs=2"]) == {"train": {"epochs": 2}}


@pytest.mark.parametrize("assignment", ["train.epochs", "=3", "train.=3", ".epochs=3", "train..epochs=3", ""])
def test_an_override_that_is_none(assignment: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^expected key\.path=value, got .*; for instance train\.epochs=5$"
    ) as caught:
        override({}, [assignment])
    assert repr(assignment) in str(caught.value)


def test_an_override_below_a_value() -> None:
    with pytest.raises(
        ConfigError, match=r"^'epochs' in 'train\.epochs\.most=5' is a value, not a table; it has no 'most'$"
    ):
        override({"train": {"epochs": 3}}, ["train.epochs.most=5"])


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[backbone]\nname = "sasrec"\nwidth = 8\n')
    assert read_recipe(str(path)) == {"backbone": {"name": "sasrec", "width": 8}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[backbone", "mine.toml is not valid TOML: "),
        (b"\xff", "mine.toml is not valid TOML: 'utf-8' codec can't decode byte 0xff"),
        (
            b"backbone = 'sasrec'",
            r"expected a table at backbone, got 'sasrec'; write \[backbone\] or backbone.name=...",
        ),
    ],
)
def test_a_recipe_that_is_none(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_recipe(str(path))


def test_a_recipe_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"expected a recipe's name or a TOML file, got 'demo-ful'; did you mean 'demo-full'\?"
    ):
        read_recipe("demo-ful")
    with pytest.raises(ConfigError, match=r"expected a recipe's name or a TOML file, got "):
        read_recipe(str(tmp_path))


def test_text_that_is_not_toml() -> None:
    with pytest.raises(ConfigError, match=r"^the page is not valid TOML: "):
        read_toml("a = ", "the page")


def test_written_toml_is_toml() -> None:
    assert tomllib.loads(parse(SASREC).toml())["backbone"]["name"] == "sasrec"
