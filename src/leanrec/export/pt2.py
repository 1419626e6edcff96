"""Parts as torch programs (``.pt2``) whose weights are in one file beside them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram, save

from leanrec.export.weights import Weights


def versions() -> dict[str, str | int]:
    """What writes programs here."""
    return {"torch": str(torch.__version__)}


def collect(program: ExportedProgram, weights: Weights) -> None:
    """Put the weights of a program into ``weights``, under their names in the program."""
    for name, tensor in program.state_dict.items():
        weights.keep(name, tensor.detach().numpy())


def write(program: ExportedProgram, path: Path) -> None:
    """Write a program without its weights, for each of which one number stands, and without the inputs it was traced with.

    torch writes the inputs, and nothing else of a program, as a pickle.
    """
    program._example_inputs = None
    for name, tensor in program.state_dict.items():
        hollow = tensor.new_zeros(()).expand(tensor.shape)
        program.state_dict[name] = torch.nn.Parameter(hollow, requires_grad=False) if _is_parameter(tensor) else hollow
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor")
        save(program, path)


def _is_parameter(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, torch.nn.Parameter)
