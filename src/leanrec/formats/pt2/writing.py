"""Write traced parts as torch programs without their weights and without pickles."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram, save


def save_pt2(program: ExportedProgram, path: Path) -> None:
    """Write a program. Of each weight only one number is stored, and the inputs it was traced with are left out.

    torch writes those inputs as a pickle, and nothing else of such a program.
    """
    program._example_inputs = None
    for name, tensor in program.state_dict.items():
        hollow = tensor.new_zeros(()).expand(tensor.shape)
        parameter = isinstance(tensor, torch.nn.Parameter)
        program.state_dict[name] = torch.nn.Parameter(hollow, requires_grad=False) if parameter else hollow
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor")
        save(program, path)
