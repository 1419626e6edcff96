"""What is said of unknown keys, and that it is found without looking at everything."""

from __future__ import annotations

import uuid
from typing import Any
from unittest import mock

import pytest

from leanrec.core.errors import UnknownItemError
from leanrec.core.plain import Catalog
from leanrec.engine import keys as module
from leanrec.engine.keys import KEYS_SEARCHED, Keys

MANY = tuple(str(uuid.UUID(int=n * 2**90)) for n in range(30_000))


def keys_of(*names: str) -> Keys:
    return Keys(Catalog(names, names, (1,) * len(names)))


def test_similar_keys_are_named() -> None:
    keys = keys_of("milk", "bread", "a longer name")
    with pytest.raises(UnknownItemError, match=r"got 'mlik' \(did you mean 'milk'\?\)"):
        raise keys.stranger(["mlik"])
    with pytest.raises(UnknownItemError, match=r"in allow, got 'bredd' \(did you mean 'bread'\?\)"):
        keys.allowed(["bredd"])
    with pytest.raises(UnknownItemError, match=r"got 'zzz' \(known keys look like 'milk', 'bread', 'a longer name'\)"):
        raise keys.stranger(["zzz"])


def test_nothing_is_searched_for_a_server() -> None:
    keys = keys_of("milk", "bread")
    with mock.patch.object(module.difflib, "get_close_matches", side_effect=AssertionError):
        with pytest.raises(UnknownItemError, match=r"got 'mlik' \(known keys look like 'milk', 'bread'\)"):
            keys.allowed(["mlik"], suggest=False)
        assert "got 'mlik' (known keys look like" in str(keys.stranger(["mlik"], suggest=False))


@pytest.mark.parametrize("unknown", [MANY[3][:-1] + "x", "x" * 36, "x" * 5000, 7])
def test_a_search_is_bounded(unknown: Any) -> None:
    compared = 0
    ratio = module.difflib.SequenceMatcher.real_quick_ratio

    def counted(self: Any) -> float:
        nonlocal compared
        compared += 1
        return ratio(self)

    with (
        mock.patch.object(module.difflib.SequenceMatcher, "real_quick_ratio", counted),
    ):
        keys_of(*MANY).stranger([unknown])
    assert compared <= KEYS_SEARCHED
