"""Shared weights: once each, at the places that are told, and as int8 with scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.artifact.weights import SCALE, SharedWeights, read_weights
from leanrec.core.errors import ArtifactError


def test_equal_arrays_are_one_weight_and_others_are_not(tmp_path: Path) -> None:
    weights, rng = SharedWeights(), np.random.default_rng(0)
    table = rng.standard_normal((5, 3), np.float32)
    assert weights.put("a", table) == "a"
    assert weights.put("b", table.copy()) == "a"
    assert weights.put("a", table + 1) == "a.2"
    assert weights.put("c", table.reshape(3, 5)) == "c"
    weights.keep("d", table)
    assert sorted(weights.arrays) == ["a", "a.2", "c", "d"]
    places = weights.save(tmp_path / "w")
    raw, found = (tmp_path / "w").read_bytes(), read_weights(tmp_path / "w")
    for name, array in weights.arrays.items():
        offset, size = places[name]
        assert raw[offset : offset + size] == array.tobytes()
        assert np.array_equal(found[name], array)


def test_int8_is_near_and_keeps_what_it_is_told(tmp_path: Path) -> None:
    weights, rng = SharedWeights(), np.random.default_rng(0)
    table, cube = rng.standard_normal((50, 8), np.float32), rng.standard_normal((3, 4, 4), np.float32)
    table[0] = 0
    for name, array in (("table", table), ("cube", cube), ("bias", table[0]), ("costs", table), ("thin", table[:, :1])):
        weights.arrays[name] = array
    weights.quantise(keep=("costs",))
    assert weights.arrays["table"].dtype == weights.arrays["cube"].dtype == np.int8
    assert all(weights.arrays[name].dtype == np.float32 for name in ("bias", "costs", "thin"))
    weights.save(tmp_path / "w")
    found = read_weights(tmp_path / "w")
    assert not any(name.endswith(SCALE) for name in found)
    for name, array in (("table", table), ("cube", cube)):
        limit = np.abs(array).reshape(len(array), -1).max(1).max() / 127
        assert found[name].dtype == np.float32 and np.abs(found[name] - array).max() <= limit


@pytest.mark.parametrize("raw", [b"", b"\xff" * 40, b"\x04\0\0\0\0\0\0\0null", b"\x02\0\0\0\0\0\0\0{}"[:9]])
def test_foreign_files_are_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"is not a whole safetensors file: .*; export again"):
        read_weights(tmp_path / "w")
