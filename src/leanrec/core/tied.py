"""Weights that several layers share are stored once."""

from __future__ import annotations

from torch import Tensor, nn


def first_names(model: nn.Module) -> dict[str, str]:
    """Name of every weight of a model -> the first name of the same weight."""
    firsts: dict[int, str] = {}
    return {name: firsts.setdefault(id(weight), name) for name, weight in model.state_dict(keep_vars=True).items()}


def stored(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model, each once, under its first name."""
    firsts = first_names(model)
    return {name: weight for name, weight in model.state_dict().items() if firsts[name] == name}


def restored(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that were stored once, under all names they have in a model; names the model does not have stay."""
    firsts = first_names(model)
    return state | {name: state[first] for name, first in firsts.items() if first in state}
