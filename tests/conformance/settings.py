"""One tiny setting of everything in the registries; the conformance suite runs on these and on nothing else.

A new backbone or technique adds one entry here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from leanrec.backbones.bert4rec import BERT4RecConfig
from leanrec.backbones.cells import CellsConfig
from leanrec.backbones.gru4rec import GRU4RecConfig
from leanrec.backbones.nextitnet import NextItNet, NextItNetConfig
from leanrec.backbones.popular import PopularConfig
from leanrec.backbones.sasrec import SASRecConfig
from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Catalog
from leanrec.objectives.softmax import Softmax, build_softmax
from leanrec.techniques.adarec.technique import AdaRecConfig
from leanrec.techniques.canet.technique import CANetConfig
from leanrec.techniques.cprec.technique import CpRecConfig
from leanrec.techniques.memory import MemoryConfig
from leanrec.techniques.skiprec.technique import SkipRecConfig


@dataclass(frozen=True)
class Setting:
    """A tiny config.

    Attributes:
        config: A small shape with every option at work, dropout included.
        other: Another valid value of every field.
        along: For a field that only matters beside others, the values these must have.
        on: Of a technique: fields of the backbone, where it has them, that must be different.
    """

    config: msgspec.Struct
    other: dict[str, Any]
    along: dict[str, dict[str, Any]] = field(default_factory=dict)
    on: dict[str, Any] = field(default_factory=dict)


TRANSFORMER: dict[str, Any] = {
    "width": 8,
    "layers": 2,
    "heads": 3,
    "ffn": 1,
    "activation": "relu",
    "dropout": 0.5,
    "attention_dropout": 0.4,
    "max_length": 12,
    "norm": "post",
    "rezero": True,
    "scale": False,
    "positions": "sinusoids",
    "std": 0.05,
}

BACKBONES: dict[str, Setting] = {
    "sasrec": Setting(
        SASRecConfig(width=12, layers=3, heads=2, ffn=2, attention_dropout=0.1, max_length=10),
        TRANSFORMER | {"activation": "gelu"},
    ),
    "bert4rec": Setting(
        BERT4RecConfig(width=12, layers=3, heads=2, ffn=2, attention_dropout=0.1, max_length=10, hidden=0.5),
        TRANSFORMER | {"scale": True, "positions": "random", "hidden": 0.3, "last_only": 0.5},
    ),
    "gru4rec": Setting(
        GRU4RecConfig(width=12, layers=3, max_length=10),
        {
            "width": 8,
            "layers": 2,
            "dropout": 0.5,
            "max_length": 12,
            "rezero": True,
            "scale": False,
            "std": 0.05,
        },
    ),
    "cells": Setting(
        CellsConfig(
            width=12, layers=3, nodes=2, architecture=("conv3", "attention", "max3"), max_length=10, positions=True
        ),
        {
            "width": 8,
            "layers": 2,
            "nodes": 1,
            "architecture": ("avg3", "conv2x2", "skip", "none", "attention", "conv1", "max2x3", "conv5", "none"),
            "heads": 3,
            "dropout": 0.5,
            "max_length": 12,
            "rezero": True,
            "positions": False,
            "scale": False,
            "std": 0.05,
        },
        along={"nodes": {"architecture": ()}},
    ),
    "nextitnet": Setting(
        NextItNetConfig(width=12, layers=3, dilations=(1, 2), max_length=10),
        {
            "width": 8,
            "layers": 2,
            "kernel": 2,
            "dilations": (1, 4, 2),
            "dropout": 0.5,
            "max_length": 12,
            "rezero": False,
            "scale": False,
            "std": 0.05,
        },
    ),
    "popular": Setting(
        PopularConfig(max_length=10),
        {"days": 2, "scale": 0.5, "max_length": 12},
    ),
}

NETWORKS = {name: setting for name, setting in BACKBONES.items() if name != "popular"}
"""Backbones that compute; the other one only counts."""
SEARCHED = ("conv3", "conv2x2", "max3", "avg3", "attention", "skip", "none")
DEAR = ("max3", "none", "attention", "conv2x2", "avg3", "skip", "conv3")
"""In this order the tests' random numbers find attentions alone, which the budgets forbid."""
"""A tiny search space with every kind of operation."""
JOINT = {"training": "gumbel"}
NESTED = {"training": "sandwich"}

TECHNIQUES: dict[str, Setting] = {
    "adarec": Setting(
        AdaRecConfig(operations=SEARCHED, search_epochs=3, warmup=0.2, cost_weight=0.5),
        {
            "distil": 0.2,
            "embedding": 0.5,
            "hidden": 0.5,
            "logits": 0.5,
            "mapping": "fixed",
            "adaptive": False,
            "direction": "student",
            "candidates": 3,
            "operations": ("conv5", "skip"),
            "per_cell": True,
            "search_epochs": 2,
            "warmup": 0.7,
            "estimator": "gumbel",
            "pace": 1.0,
            "temperature": 2.0,
            "final_temperature": 0.1,
            "cost": "params",
            "cost_weight": 1.0,
            "max_flops": 2000,
            "max_params": 1200,
            "max_share": 0.1,
            "max_ms": 0.002,
            "tuning": "task",
            "weights": "searched",
        },
        along={name: {"operations": DEAR} for name in ("max_flops", "max_params", "max_share", "max_ms")},
        on={"architecture": ()},
    ),
    "canet": Setting(
        CANetConfig(widths=(6, 12), depths=(1, 3), embs=(6, 12), budget=0.3),
        {
            "widths": (4, 12),
            "depths": (2, 3),
            "embs": (4, 12),
            "project": True,
            "training": "gumbel",
            "router": "own",
            "random_routes": 2,
            "distil": 0.5,
            "candidates": 3,
            "guide": 0.5,
            "uniform": 0.5,
            "temperature": 2.0,
            "budget": 0.9,
            "mean": "request",
        },
        along={"guide": JOINT, "uniform": JOINT, "temperature": JOINT},
    ),
    "cprec": Setting(
        CpRecConfig(cuts=(0.5,), decay=1.5),
        {
            "cuts": (10.0, 20.0),
            "blocks": 2,
            "shrink": 1.5,
            "dims": (12, 4),
            "decay": 3.0,
            "parts": "both",
            "sharing": "cross-block",
            "codes": (4, 3),
            "int8": True,
            "std": 0.05,
        },
        along={
            "blocks": {"cuts": (), "decay": 6.0, "shrink": 1.3},
            "shrink": {"cuts": (), "decay": 6.0, "shrink": 1.3},
        },
    ),
    "memory": Setting(
        MemoryConfig(window=3, reach=3, rows=4, own=0.01, shortcut=True),
        {
            "window": 2,
            "reach": 2,
            "backward": 0.6,
            "rows": 6,
            "power": 0.0,
            "discount": 1.0,
            "scale": 10.0,
            "own": 0.1,
            "fit": False,
            "shortcut": False,
            "budget": 0.9,
        },
    ),
    "skiprec": Setting(
        SkipRecConfig(training="rl", patterns=4, keep=0.8, budget=0.8),
        {
            "training": "sandwich",
            "policy": "gru",
            "policy_width": 6,
            "patterns": 6,
            "keep": 0.3,
            "compute": 0.5,
            "bounded": True,
            "random_patterns": 1,
            "distil": 0.5,
            "candidates": 3,
            "temperature": 2.0,
            "reward": 0.5,
            "miss": 0.5,
            "budget": 0.5,
            "mean": "request",
        },
        along={
            "policy_width": {"policy": "conv"},
            "random_patterns": NESTED,
            "distil": NESTED,
            "candidates": NESTED,
        },
    ),
}


def shape(backbone: str, chosen: Sequence[str]) -> msgspec.Struct:
    """The config of a backbone for these techniques."""
    on = {key: value for name in chosen for key, value in TECHNIQUES[name].on.items()}
    config = BACKBONES[backbone].config
    return changed(config, **{key: value for key, value in on.items() if key in config.__struct_fields__})


def taught(model: Recommender, catalog: Catalog) -> Recommender:
    """The model, with a small teacher if it asks for one."""
    try:
        model.learn_from(None)
    except ConfigError:
        body = BACKBONES["nextitnet"].config
        longest = NextItNetConfig(**{**msgspec.structs.asdict(body), "max_length": model.backbone.max_length})
        model.learn_from(Recommender(NextItNet(longest, len(catalog)), build_softmax(Softmax(), catalog)))
    return model


def changed(config: msgspec.Struct, **values: Any) -> msgspec.Struct:
    """The config with other values, checked as if it came from a file."""
    return msgspec.convert(msgspec.to_builtins(config) | values, type(config))
