"""A backbone of cells in series, whose architecture can be opened for a search and settled on what it found."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import nn

from leanrec.core.backbone import Backbone, Diagram
from leanrec.core.errors import ConfigError
from leanrec.layers.cells import Architecture, Cell, edges
from leanrec.layers.operations import ATTENTION, NONE

_KEY = "backbone.architecture"
_START = "conv3"
"""The operation of every edge where no architecture is given."""


class CellStack(Backbone):
    """Residual blocks that are cells.

    Args:
        width: Channels D.
        layers: Cells L.
        nodes: Nodes of a cell.
        architecture: The operation of every edge, as `of_cells` reads it; none for `_START` everywhere.
        heads: Of attention, where there is any.
        drop: Dropout on every branch.
        rezero: Multiply every branch by a learned scalar that starts at zero.

    Attributes:
        architecture: The operations of every edge that were given or found; none before a search.

    Raises:
        ConfigError: The architecture has another number of edges, or an unknown operation.
    """

    supports: ClassVar[frozenset[str]] = frozenset({"cells", "width", "depth", "share"})

    def __init__(
        self,
        width: int,
        layers: int,
        nodes: int,
        architecture: Architecture,
        heads: int,
        drop: float,
        rezero: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.nodes, self.depth, self.attention_heads = width, nodes, layers, heads
        given = self.of_cells(architecture or (_START,) * len(edges(nodes)))
        self.blocks = nn.ModuleList(Cell(width, nodes, names, heads, drop, _KEY, rezero) for names in given)
        self._settled(architecture)

    def of_cells(self, architecture: Architecture) -> list[Architecture]:
        """The architecture of every cell, from one for all or one after the other.

        Raises:
            ConfigError: It has another number of edges.
        """
        count, cells = len(edges(self.nodes)), self.depth
        if len(architecture) == count:
            return [architecture] * cells
        if len(architecture) != count * cells:
            raise ConfigError(
                f"expected {count} operations in {_KEY}, one for every edge of a cell of {self.nodes} nodes, or "
                f"{count * cells}, for every edge of {cells} cells, got {len(architecture)}"
            )
        return [architecture[i : i + count] for i in range(0, count * cells, count)]

    def open(self, candidates: Architecture, key: str) -> None:
        """Put a new operation of each of these names on every edge; until `settle`, nothing but a search can use the model.

        Raises:
            ConfigError: An operation is unknown; the message names the configuration key ``key``.
        """
        self.supports = frozenset({"cells"})  # pyright: ignore[reportAttributeAccessIssue]
        for cell in self.cells():
            cell.open(candidates, key)
        self.architecture = ()

    def choose(self, architecture: Architecture) -> None:
        """Set the operation that runs on every edge, while the architecture is open."""
        for cell, names in zip(self.cells(), self.of_cells(architecture), strict=True):
            cell.choose(names)

    def settle(self, architecture: Architecture) -> None:
        """Keep one operation an edge, and its weights."""
        self.supports = type(self).supports  # pyright: ignore[reportAttributeAccessIssue]
        for cell, names in zip(self.cells(), self.of_cells(architecture), strict=True):
            cell.settle(names)
        kept = [cell.chosen for cell in self.cells()]
        self._settled(kept[0] if len(architecture) == len(kept[0]) else sum(kept, ()))

    @abstractmethod
    def renewed(self) -> CellStack:
        """Another of the same shape and architecture, with fresh weights."""

    def cells(self) -> list[Cell]:
        """The blocks."""
        return [cell for cell in self.blocks if isinstance(cell, Cell)]

    def found(self) -> dict[str, Any]:
        """The architecture, once there is one."""
        return {"architecture": list(self.architecture)} if self.architecture else {}

    def diagrams(self) -> tuple[Diagram, ...]:
        """One cell where all are alike, or else each."""
        cells = self.cells()
        if len({cell.chosen for cell in cells}) == 1:
            return (Diagram(f"cell, {len(cells)} in series", _wires(cells[0])),)
        return tuple(Diagram(f"cell {number}", _wires(cell)) for number, cell in enumerate(cells, start=1))

    def _settled(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.heads = self.attention_heads if ATTENTION in architecture else 1


def _wires(cell: Cell) -> tuple[tuple[str, str, str], ...]:
    names = ["input", *(f"node {number}" for number in range(1, cell.nodes + 1))]
    inner = [(names[s], names[t], op) for (s, t), op in zip(cell.wires, cell.chosen, strict=True) if op != NONE]
    fed = {target for _, target, _ in inner}
    return (*inner, *((name, "output", "sum") for name in names if name == "input" or name in fed))
