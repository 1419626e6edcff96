"""Questions in batches: each gets its own answer, a fault stays with the guilty, nobody waits beyond the deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.server.batcher import Batcher
from leanrec.server.problems import Refusal


class Seen:
    """Keeps what a batcher told."""

    def __init__(self) -> None:
        self.users: list[int] = []
        self.waits: list[float] = []

    def started(self, users: int, waited: float, waiting: int) -> None:
        self.users.append(users)
        self.waits.append(waited)


class Gate:
    """Answers the double of a question, as soon as it is open."""

    def __init__(self, is_open: bool = True) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.asked: list[list[int]] = []
        self.threads: list[str] = []
        if is_open:
            self.open.set()

    def __call__(self, questions: list[int]) -> list[int | Exception]:
        self.asked.append(questions)
        self.threads.append(threading.current_thread().name)
        self.entered.set()
        assert self.open.wait(30)
        if any(question < 0 for question in questions):
            raise ValueError(f"no answer to {min(questions)}")
        return [LookupError("odd") if question == 13 else 2 * question for question in questions]


Work = Callable[[Batcher[int, int], Gate, Seen], Coroutine[Any, Any, None]]


def batched(
    work: Work, is_open: bool = True, gather: float = 0.0, most: int = 8, queue: int = 100, longest: float = 3600.0
) -> None:
    async def whole() -> None:
        gate, seen = Gate(is_open), Seen()
        batcher: Batcher[int, int] = Batcher(gate, seen, gather, most, queue, longest)
        try:
            await work(batcher, gate, seen)
        finally:
            gate.open.set()
            batcher.close()

    asyncio.run(whole())


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 30)


@given(
    requests=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=12), min_size=1, max_size=20),
    most=st.integers(1, 9),
    gather=st.sampled_from([0.0, 0.001]),
)
def test_everybody_gets_the_own_answers(requests: list[list[int]], most: int, gather: float) -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        answers = await asyncio.gather(*(batcher.ask(request, 30.0) for request in requests))
        assert answers == [[2 * question for question in request] for request in requests]
        assert sorted(chain(*gate.asked)) == sorted(chain(*requests))
        assert [len(asked) for asked in gate.asked] == seen.users
        assert all(len(asked) <= max(most, *map(len, requests)) for asked in gate.asked)
        assert batcher.waiting == 0

    batched(work, gather=gather, most=most, queue=1000)


def test_what_comes_while_others_are_answered_is_answered_together() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        first = asyncio.create_task(batcher.ask([1], 30.0))
        await entered(gate)
        others = [asyncio.create_task(batcher.ask([question], 30.0)) for question in range(2, 7)]
        await asyncio.sleep(0)
        assert batcher.waiting == 5
        gate.open.set()
        assert await asyncio.gather(first, *others) == [[2], [4], [6], [8], [10], [12]]
        assert gate.asked == [[1], [2, 3, 4, 5, 6]] and seen.users == [1, 5]

    batched(work, is_open=False)


def test_after_a_batch_of_many_the_first_waits_for_others() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        await batcher.ask([1, 2, 3], 30.0)
        late = asyncio.create_task(batcher.ask([4], 30.0))
        await asyncio.sleep(0.01)
        assert gate.asked == [[1, 2, 3]]  # an hour is not over
        assert await asyncio.gather(late, batcher.ask([5, 6], 30.0)) == [[8], [10, 12]]
        assert gate.asked == [[1, 2, 3], [4, 5, 6]]

    batched(work, gather=3600.0)


def test_one_alone_does_not_wait() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        for question in range(5):
            assert await batcher.ask([question], 30.0) == [2 * question]
        assert gate.threads[0] != threading.current_thread().name  # nothing is known of how long it takes
        assert gate.threads[-1] == threading.current_thread().name  # it takes no time
        batcher.single = 3600.0
        await batcher.ask([5], 30.0)
        assert gate.threads[-1] != threading.current_thread().name

    batched(work, gather=3600.0)


def test_a_fault_stays_with_the_guilty() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        first = asyncio.create_task(batcher.ask([1], 30.0))
        await entered(gate)
        others = [asyncio.create_task(batcher.ask([question], 30.0)) for question in (2, -3, 13, 4)]
        await asyncio.sleep(0)
        gate.open.set()
        await first
        found = await asyncio.gather(*others, return_exceptions=True)
        assert (found[0], found[3]) == ([4], [8])
        assert str(found[1]) == "no answer to -3" and isinstance(found[2], LookupError)

    batched(work, is_open=False)


def test_nobody_waits_beyond_the_deadline() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        stuck = asyncio.create_task(batcher.ask([1], 30.0))
        await entered(gate)
        late = batcher.ask([2], 0.01)
        with pytest.raises(Refusal, match=r"expected an answer within 0\.01 s, got none; ask again later") as refused:
            await late
        assert (refused.value.kind, refused.value.status) == ("deadline", 504)
        gate.open.set()
        assert await stuck == [2]
        assert await batcher.ask([3], 30.0) == [6]
        assert gate.asked == [[1], [3]] and batcher.waiting == 0  # what is late is not computed

    batched(work, is_open=False)


def test_the_queue_is_bounded() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        first = asyncio.create_task(batcher.ask([1], 30.0))
        await entered(gate)
        waits = asyncio.create_task(batcher.ask([2, 3], 30.0))
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="expected at most 3 users to wait, got more; try again in 1 s") as refused:
            await batcher.ask([4, 5], 30.0)
        assert (refused.value.kind, refused.value.status) == ("overloaded", 429)
        assert refused.value.headers == {"Retry-After": "1"}
        gate.open.set()
        assert await asyncio.gather(first, waits) == [[2], [4, 6]]

    batched(work, is_open=False, queue=3)


def test_whoever_would_be_late_is_told_at_the_door() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        first = asyncio.create_task(batcher.ask([1], 30.0))
        await entered(gate)
        waits = asyncio.create_task(batcher.ask([2, 3], 30.0))
        await asyncio.sleep(0)
        for users, seconds in ((1, 2.0), (2, 4.0)):
            batcher.pace.took(users, seconds)
        with pytest.raises(
            Refusal, match=r"within 1 s, got a queue of about (8|7\.\d+) s, too long to be sure; try again in 4 s"
        ):
            await batcher.ask([4], 1.0)
        gate.open.set()
        await asyncio.gather(first, waits)

    batched(work, is_open=False)


def test_no_time_is_spent_on_who_would_be_late() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        first = asyncio.create_task(batcher.ask([1], 30.0))
        await entered(gate)
        waits = [asyncio.create_task(batcher.ask([question], within)) for question, within in ((2, 5.0), (3, 3600.0))]
        await asyncio.sleep(0)
        for _ in range(200):
            batcher.pace.took(2, 60.0)
        gate.open.set()
        found = await asyncio.gather(first, *waits, return_exceptions=True)
        assert (found[0], found[2]) == ([2], [6]) and gate.asked == [[1], [3]]
        assert isinstance(found[1], Refusal) and found[1].kind == "deadline"

    batched(work, is_open=False)


def test_batches_that_take_too_long_get_smaller_and_grow_again() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        batcher._longest = 1e-9
        await batcher.ask([1] * 8, 30.0)
        assert batcher.size == 1
        batcher._longest = 3600.0
        for _ in range(12):
            await asyncio.gather(*(batcher.ask([question], 30.0) for question in range(10)))
        assert batcher.size == 8 and max(seen.users[1:4]) < 8

    batched(work)


def test_a_busy_loop_does_not_make_batches_look_slow() -> None:
    """The loop is kept busy while a batch is answered; only the time on the worker's thread is learned."""

    async def whole() -> None:
        now = [0.0]
        entered, free = threading.Event(), threading.Event()

        def answer(questions: list[int]) -> list[int | Exception]:
            now[0] += 0.01 * len(questions)
            entered.set()
            return [2 * question for question in questions]

        batcher: Batcher[int, int] = Batcher(answer, Seen(), 0.0, 8, 100, 0.05, clock=lambda: now[0])
        try:
            for _ in range(3):
                asked = [asyncio.ensure_future(batcher.ask([question], 30.0)) for question in range(4)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert entered.wait(30)
                free.wait(0.1)  # the loop does something else for longer than a batch may take
                await asyncio.gather(*asked)
                entered.clear()
            assert batcher.size == 8
            assert batcher.pace.foresees(4, 8) == pytest.approx(0.04)
        finally:
            batcher.close()

    asyncio.run(whole())


def test_who_asks_again_too_soon_gets_less_of_the_queue() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        for users in (1, 2):
            batcher.pace.took(users, 0.05 * users)
        waits = [asyncio.create_task(batcher.ask([question], 30.0)) for question in range(6)]
        await asyncio.sleep(0)
        batcher.admit(1, 1.0)  # .35 s ahead: less than .4 of a second
        with pytest.raises(Refusal, match=r"a queue of about 0\.35 s"):
            batcher.admit(1, 1.0, hasty=True)
        gate.open.set()
        await asyncio.gather(*waits)

    batched(work, is_open=False)


def test_who_asks_again_too_soon_is_answered_after_others() -> None:
    async def work(batcher: Batcher[int, int], gate: Gate, seen: Seen) -> None:
        first = asyncio.create_task(batcher.ask([1], 30.0))
        await entered(gate)
        hasty = [asyncio.create_task(batcher.ask([question], 30.0, hasty=True)) for question in (10, 11)]
        others = [asyncio.create_task(batcher.ask([question], 30.0)) for question in (2, 3)]
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, *hasty, *others)
        assert gate.asked == [[1], [2, 3, 10], [11]] and batcher.waiting == 0

    batched(work, is_open=False, most=3)
