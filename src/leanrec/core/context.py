"""Which steps states are held for, and what all blocks of one call share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

Steps = tuple[int, ...] | None
"""Which steps a tensor holds: offsets back from each user's newest step (0 = newest), or None for all T steps."""


def constant(values: tuple[int, ...], device: torch.device) -> Tensor:
    """int64 [S], made once; of use with and without gradients."""
    if torch.compiler.is_exporting():  # a tracer's stand-ins must not outlive it
        return torch.tensor(values, dtype=torch.int64, device=device)
    return _constant(values, device)


@lru_cache(maxsize=4096)
def _constant(values: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.int64, device=device)


@dataclass(frozen=True, slots=True)
class Context:
    """What all blocks of one call share.

    Attributes:
        lengths: int64 [B].
        steps: T, the number of steps of the batch.
        width: Hidden channels of the route.
        channels: float [B, 1 or T, D] open hidden channels in masked execution, else None.
        reach: Steps that a block may look back over; T, or, in a graph for any T, the most there can be.
        columns: What the histories carry besides items; see `Batch.context`.
        masks: What `valid` has found, so that every block need not ask again.
    """

    lengths: Tensor
    steps: int
    width: int
    channels: Tensor | None = None
    reach: int = 0
    columns: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    masks: dict[Steps, Tensor] = field(default_factory=dict)

    def at(self, steps: tuple[int, ...]) -> Tensor:
        """int64 [B, S], the absolute steps of the given offsets; negative before the first event."""
        newest = (self.lengths - 1)[:, None]
        return newest if steps == (0,) else newest - constant(steps, self.lengths.device)

    def column(self, name: str, have: Steps) -> Tensor:
        """[B, S], a column of the histories at steps ``have``, that of the first event before it; [B, 1] of one per request."""
        column = self.columns[name]
        if column.dim() == 1:
            return column[:, None]
        return column if have is None else column.gather(1, self.at(have).clamp_min(0))

    def valid(self, have: Steps, like: Tensor) -> Tensor | None:
        """[B, S, 1] one where the step exists, in the type of ``like``; None when no step can be missing."""
        if have is None or have == (0,):
            return None
        if have not in self.masks:
            self.masks[have] = (self.at(have) >= 0).unsqueeze(-1).to(like.dtype)
        return self.masks[have]

    def restrict(self, x: Tensor, have: Steps, want: Steps) -> Tensor:
        """Of states [B, S, w] at steps ``have``, those at steps ``want``."""
        if want == have:
            return x
        if want is None:
            raise ValueError("all steps were asked of states that hold only some")
        if have is None:
            index = self.at(want).clamp_min(0).unsqueeze(-1).expand(-1, -1, x.shape[-1])
            return x.gather(1, index)
        return x.index_select(1, constant(_places(have, want), x.device))

    def rows(self, index: Tensor) -> Context:
        """The context of some of the users, int64 [B']; for execution without masks."""
        columns = {name: column[index] for name, column in self.columns.items()}
        return Context(self.lengths[index], self.steps, self.width, reach=self.reach, columns=columns)

    def gate(self, x: Tensor) -> Tensor:
        """``x`` [B, S, D] with closed channels at zero."""
        return x if self.channels is None else x * self.channels


@lru_cache(maxsize=4096)
def _places(have: tuple[int, ...], want: tuple[int, ...]) -> tuple[int, ...]:
    """Where the steps ``want`` stand among ``have``."""
    return tuple(have.index(step) for step in want)
