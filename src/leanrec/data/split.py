"""Which event of a user is the target of validation and of test, and where training ends.

The history of a target is everything before it of the same user. Shape letters: U users, M targets.

Users with a validation target are cut into parts that never meet, so that no figure is of users it was chosen on:

    fit      epochs are selected, routers, menus and prices are fitted on them
    valid    figures are stated on them, and controls held against each other; nothing is fitted on them
    confirm  set apart from both where ``data.confirm`` asks for it: a choice among models is confirmed on them
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from leanrec.core.errors import ConfigError, DataError
from leanrec.data.store import Store

TIMES_AT_ONCE = 1 << 22
"""Events whose times are compared at a time."""
RESERVED, HALVED = 20210711, 20221130
"""Seeds of the draws of reserved users and of those that are fitted on: the same for every model on a store."""
LEAST_USERS = 10
"""Fewest users of either half; validation users are not cut into smaller ones."""

Part = Literal["fit", "valid", "confirm", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """A split of a store's events; positions are absolute indices into its items, for a view those of the whole store.

    Attributes:
        name: What kind of split it is, for reports.
        train_end: int64 [U], end (exclusive) of each user's training part, which starts at ``store.offsets[u]``.
        valid: int64 [U], position of each user's validation target, -1 for none.
        test: int64 [U], position of each user's test target, -1 for none.
        confirm: int64 [U], position of each reserved validation target (`reserved`), -1 for none; None if none is reserved.
        fit: int64 [U], position of each validation target that is fitted on (`halved`), -1 for none; None if these are the targets
            of ``valid``.
        left_out: Newest events that are left out of the training part of each user who has more, whatever their time.
    """

    name: str
    train_end: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    confirm: np.ndarray | None = None
    fit: np.ndarray | None = None
    left_out: int = 0

    def targets(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Users with a target in that part, ascending, and the targets' positions, both int64 [M]."""
        fit = self.valid if self.fit is None else self.fit
        position = {"fit": fit, "valid": self.valid, "confirm": self.confirm, "test": self.test}[part]
        users = np.flatnonzero(position >= 0) if position is not None else np.zeros(0, np.int64)
        return users, position[users] if position is not None else users

    def reserved(self, share: float) -> Split:
        """The same split with a share of the validation targets set apart as the part "confirm".

        Nothing that is chosen on "valid" (epochs, routers, prices, models) has seen them, so a choice can be confirmed on them.
        Which users they are follows from the number of users with a validation target alone.
        """
        users = self.targets("valid")[0]
        drawn = np.random.default_rng(RESERVED).permutation(len(users))[: round(share * len(users))]
        apart = np.zeros(len(self.valid), bool)
        apart[users[drawn]] = True
        return replace(self, valid=np.where(apart, -1, self.valid), confirm=np.where(apart, self.valid, -1))

    def halved(self) -> Split:
        """The same split with half of the validation targets as the part "fit"; as it is where a half would be below `LEAST_USERS`.

        Which users they are follows from the number of users with a validation target alone, reserved ones among them, so that
        runs which reserve different shares never state a figure on a user that another one was fitted on.
        """
        apart = np.full_like(self.valid, -1) if self.confirm is None else self.confirm
        users = np.flatnonzero(np.maximum(self.valid, apart) >= 0)
        drawn = np.random.default_rng(HALVED).permutation(len(users))[: len(users) // 2]
        fitted = np.zeros(len(self.valid), bool)
        fitted[users[drawn]] = True
        half = replace(self, fit=np.where(fitted, self.valid, -1), valid=np.where(fitted, -1, self.valid))
        enough = min(len(half.targets(part)[0]) for part in ("fit", "valid")) >= LEAST_USERS
        return half if enough else self

    def users(self) -> dict[Part, int]:
        """How many users each part has; 0 to fit on where these are the users of "valid"."""
        parts: tuple[Part, ...] = ("fit", "valid", "confirm", "test")
        return {part: 0 if part == "fit" and self.fit is None else len(self.targets(part)[0]) for part in parts}

    @classmethod
    def leave_one_out(cls, store: Store) -> Split:
        """The last event is the test target, the one before it the validation target, all others train.

        Users with fewer than three events have no targets and train on all they have.
        """
        end = np.array(store.offsets[1:])
        enough = np.diff(store.offsets) >= 3
        return cls(
            "leave-one-out",
            np.where(enough, end - 2, end),
            np.where(enough, end - 2, -1),
            np.where(enough, end - 1, -1),
            left_out=2,
        )

    @classmethod
    def global_time(cls, store: Store, valid_from: int, test_from: int) -> Split:
        """Events before ``valid_from`` train; targets are a user's first events in the two windows after it.

        A target needs an earlier event of the same user, so the first event of a new user is passed over.

        Args:
            valid_from: First time of the validation window, in the store's unit.
            test_from: First time of the test window, which is open.

        Raises:
            ConfigError: The windows are not in order.
            DataError: The store has no times, or a part would be empty.
        """
        times = _times(store)
        if valid_from >= test_from:
            raise ConfigError(
                f"expected the validation window before the test window, got {valid_from} and {test_from}"
            )
        start, end = np.array(store.offsets[:-1]), np.array(store.offsets[1:])
        train_end, valid_end = (start + count_before(store, times, limit) for limit in (valid_from, test_from))
        valid, test = np.maximum(train_end, start + 1), np.maximum(valid_end, start + 1)
        split = cls(
            f"global time {valid_from} {test_from}",
            train_end,
            np.where(valid < valid_end, valid, -1),
            np.where(test < end, test, -1),
        )
        sizes = {
            "training": (train_end > start).sum(),
            "validation": (split.valid >= 0).sum(),
            "test": (split.test >= 0).sum(),
        }
        if not all(sizes.values()):
            got = ", ".join(f"{size} for {part}" for part, size in sizes.items())
            raise DataError(
                f"expected users in all three parts, got {got} at the times {valid_from} and {test_from} in "
                f"{store.path}; its times go from {times.min()} to {times.max()}"
            )
        return split

    @classmethod
    def since(cls, store: Store, time: int, until: int | None = None) -> Split:
        """Every user's first event at ``time`` or after, and after another event, is the test target; events before it train.

        Args:
            store: The interactions.
            time: In the store's unit.
            until: If given, only targets before this time are asked for.

        Raises:
            DataError: The store has no times, or no such user.
        """
        times = _times(store)
        start, end = np.array(store.offsets[:-1]), np.array(store.offsets[1:])
        train_end = start + count_before(store, times, time)
        end = end if until is None else start + count_before(store, times, until)
        test, none = np.maximum(train_end, start + 1), np.full(store.num_users, -1)
        split = cls(f"since {time}", train_end, none, np.where(test < end, test, -1))
        if not (split.test >= 0).any():
            window = f"since {time}" if until is None else f"since {time} and before {until}"
            raise DataError(
                f"expected events {window} of users with an earlier one, got none in {store.path}; its times go from "
                f"{times.min()} to {times.max()}"
            )
        return split

    @classmethod
    def time_quantiles(cls, store: Store, valid: float = 0.8, test: float = 0.9) -> Split:
        """A global time split whose windows start after these shares of all events.

        Raises:
            ConfigError: The shares are not ascending between 0 and 1.
            DataError: The store has no times, or a part would be empty.
        """
        if not 0 < valid < test < 1:
            raise ConfigError(f"expected 0 < valid < test < 1 as shares of the events, got {valid} and {test}")
        at = np.quantile(_times(store), [valid, test], method="lower")
        return cls.global_time(store, int(at[0]), int(at[1]))


def _times(store: Store) -> np.ndarray:
    if store.times is None:
        raise DataError(f"expected a store with times for a split by time, got none in {store.path}; use leave-one-out")
    return store.times


def count_before(store: Store, times: np.ndarray, limit: int) -> np.ndarray:
    """int64 [U], events of each user before a time."""
    counts = np.zeros(store.num_users, np.int64)
    for start in range(0, len(times), TIMES_AT_ONCE):
        before = start + np.flatnonzero(times[start : start + TIMES_AT_ONCE] < limit)
        counts += np.bincount(np.searchsorted(store.offsets, before, "right") - 1, minlength=len(counts))
    return counts
