"""What a new format takes: one class. The exporter, the engine and the command line find it by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from exporting import source
from leanrec.artifact.weights import SharedWeights
from leanrec.core.errors import ArtifactError
from leanrec.engine.engine import Engine
from leanrec.engine.export_runner import open_export
from leanrec.engine.torch_runner import TorchRunner
from leanrec.export.write import export_model
from leanrec.formats import formats
from leanrec.formats.base import Finish, Format, Runnable, TracedPart


class Whole(Format):
    """Programs of torch that hold their weights themselves."""

    name, ending, runs_code = "whole", "pt2", True

    def versions(self) -> dict[str, str | int]:
        return {"torch": str(torch.__version__)}

    def write(self, part: TracedPart, path: Path, weights: SharedWeights) -> Finish:
        torch.export.save(part.program, path)
        return lambda places: None

    def open(self, folder: Path, expand: bool = False) -> Callable[[str], Runnable]:
        def open_part(name: str) -> Runnable:
            module = torch.export.load(folder / name).module()

            def run(*arrays: np.ndarray) -> list[np.ndarray]:
                with torch.inference_mode():
                    return [module(*map(torch.from_numpy, arrays)).numpy()]

            return run

        return open_part


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Format:
    """The format, known until the test ends."""
    formats.discover()
    monkeypatch.setattr(formats, "_entries", dict(vars(formats)["_entries"]))
    formats.register("whole")(Whole)
    return formats.get("whole").build()


def test_a_new_format_is_written_and_answers_as_the_model(whole: Format, tmp_path: Path) -> None:
    made = source("sasrec")
    exported = export_model(made, tmp_path / "out", whole)
    assert exported.format == "whole" and exported.inputs == {"encoder-full.pt2": ("items", "lengths")}
    with pytest.raises(ArtifactError, match=r"got the whole export .*; if you know who made it add --trust"):
        open_export(tmp_path / "out")
    engine, _ = open_export(tmp_path / "out", trust=True)
    model = Engine(TorchRunner(made.model), made.catalog, made.flops, exported.flops_full)
    histories = [np.array(history) for history in ([1], [5, 2, 9], [3, 3])]
    for found, expected in zip(engine.recommend_ids(histories, 5), model.recommend_ids(histories, 5), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4) if isinstance(found, np.ndarray) else None


def test_an_export_in_a_format_that_is_gone(whole: Format, tmp_path: Path) -> None:
    export_model(source("sasrec"), tmp_path / "out", whole)
    del vars(formats)["_entries"]["whole"]
    expected = (
        "cannot open the export .*: expected a format, got 'whole'; .*; install the package that adds this format"
    )
    with pytest.raises(ArtifactError, match=expected):
        open_export(tmp_path / "out", trust=True)
