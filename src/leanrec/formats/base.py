"""What a format of exports can do: write traced parts as files, and make callable parts of such files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:  # a process that serves an export needs neither of the two
    from torch.export import ExportedProgram

    from leanrec.artifact.weights import SharedWeights

Shape = tuple[int | None, ...]
"""Sizes of an array; None for one that is free."""
Place = tuple[int, int]
"""First byte and number of bytes of a weight in the file of weights."""
Finish = Callable[[Mapping[str, Place]], None]
"""Completes the file of a part when the places of all weights are known."""
Runnable = Callable[..., Sequence[np.ndarray]]
"""An opened part: from arrays, in the order of its inputs, to its outputs."""


class TracedPart(NamedTuple):
    """A part to write: its graph, and the names of the graph's inputs and outputs, in order."""

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Signature(NamedTuple):
    """What a file says that its part takes and gives: names and shapes of its inputs and outputs, in order."""

    inputs: tuple[tuple[str, Shape], ...]
    outputs: tuple[tuple[str, Shape], ...]


class Format(Protocol):
    """Reads and writes the files of parts. Methods that need a package import it when they are called.

    An export has one file of weights, `artifact.exported.WEIGHTS`, which all its parts share.

    Attributes:
        name: In the registry and in manifests.
        ending: Of the files of parts, without the dot.
        packages: What must be installed, besides torch, to write it.
        runs_code: Whether opening a file can run code that is in it. Such a file is opened only if the user trusts it.
    """

    name: str
    ending: str
    packages: tuple[str, ...] = ()
    runs_code: bool

    def versions(self) -> dict[str, str | int]:
        """Versions of what writes the format, for the manifest.

        Raises:
            ConfigError: A package is not installed.
        """
        ...

    def write(self, part: TracedPart, path: Path, weights: SharedWeights) -> Finish:
        """Write the file of a part.

        Args:
            part: What to write.
            path: The file.
            weights: Takes the part's weights. They have no places in the file of weights yet, and int8 is decided later.

        Returns:
            What is called once they have; it may write the file only then.
        """
        ...

    def inspect(self, path: Path, places: Collection[Place]) -> Signature | None:
        """Check a file that a stranger may have made before it is opened.

        Args:
            path: The file.
            places: Of the weights that it may read.

        Returns:
            Its inputs and outputs, or None if only opening the file can tell.

        Raises:
            ValueError: The file is no part of an export; says what was expected.
        """
        return None

    def open(self, folder: Path, expand: bool = False) -> Callable[[str], Runnable]:
        """Prepare to open the parts of an export.

        Args:
            folder: Of an export whose files have been checked.
            expand: Whether the part that scores items may write out what follows from its weights alone. A compressed item table
                is then held as vectors, which is faster and takes more memory than if it had not been compressed.

        Returns:
            What opens a part by the name of its file; it raises `ArtifactError` for a part that does not run.

        Raises:
            ServeError: What runs the format is not installed.
        """
        ...
