"""Micro-batching: questions that arrive while a batch is being answered form the next batch.

One worker thread answers; the event loop does not wait for it. A question that finds the worker idle and no other client is
answered at once, by the loop itself if that takes less than `_BLINK`, for waking a thread twice would take longer. While several
clients ask, the worker waits at most ``gather`` seconds for as many users as the last batch had. Nothing is answered late: a
question is refused when its deadline comes, or on arrival if the queue is so long that it could not be answered in time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from leanrec.server.pace import Pace
from leanrec.server.problems import Refusal

_BLINK = 0.002
"""Seconds for which an answer may block the loop."""
IN_TIME = 0.7
"""Share of a question's time after which it is refused; the rest is for sending the reply."""
_LIKELY = 0.4
"""Largest expected wait, as a share of a question's time, with which it is admitted. Waits are predicted from calmer moments."""
_HASTY = 0.3
"""The same for clients that ask again sooner than they were told to, which leaves the rest of the queue to others."""
_RISES = 1.05
"""Largest factor by which one slow answer raises the time that a single user is expected to take."""

_Question = TypeVar("_Question")
_Answered = TypeVar("_Answered")


class BatchWatcher(Protocol):
    """Is told of every batch, on the loop's thread."""

    def started(self, users: int, waited: float, waiting: int) -> None:
        """A batch starts.

        Args:
            users: In it.
            waited: Seconds that its first user has waited.
            waiting: Users who still wait.
        """
        ...


@dataclass(slots=True, eq=False)
class _Waiting(Generic[_Question, _Answered]):
    questions: Sequence[_Question]
    future: asyncio.Future[list[_Answered]]
    came: float
    within: float
    hasty: bool

    @property
    def deadline(self) -> float:
        """The time at which it is refused if it has no answer."""
        return self.came + IN_TIME * self.within


class Batcher(Generic[_Question, _Answered]):
    """Answers questions in batches. All methods are called on one event loop.

    Args:
        answer: Maps questions to as many answers, on the worker's thread. An exception among the answers is raised to the client
            that asked; one that is raised by the call is, too, once each request has been tried alone.
        watch: Is told of every batch.
        gather: Longest wait in seconds for others, while several clients ask.
        most: Most users of a batch.
        queue: Most users that wait.
        longest: Seconds that a batch may take; when one takes more, the next ones are smaller.
        clock: Tells seconds; read before and after a batch on the thread that answers it.
    """

    def __init__(
        self,
        answer: Callable[[list[_Question]], list[_Answered | Exception]],
        watch: BatchWatcher,
        gather: float,
        most: int,
        queue: int,
        longest: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._answer, self._watch = answer, watch
        self._gather, self._most, self._queue = gather, most, queue
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(1, "leanrec-answers")
        self._waiting: deque[_Waiting[_Question, _Answered]] = deque()
        self._last_ones: deque[_Waiting[_Question, _Answered]] = deque()
        self._begins: asyncio.Handle | None = None
        self._running, self._last, self._since = 0, 0, 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._longest, self.size = longest, most
        self.waiting, self._hasty, self.pace = 0, 0, Pace()
        self.single = math.inf

    async def ask(self, questions: Sequence[_Question], within: float, hasty: bool = False) -> list[_Answered]:
        """Answer the questions of one request.

        Args:
            questions: One for each user, at least one.
            within: Seconds until the reply must have arrived.
            hasty: As in `admit`.

        Raises:
            Refusal: There is no room in the queue, or no time.
        """
        self.admit(len(questions), within, hasty)
        now = self._loop.time()
        one = _Waiting(questions, self._loop.create_future(), now, within, hasty)
        (self._last_ones if hasty else self._waiting).append(one)
        self.waiting += len(questions)
        self._hasty += len(questions) * hasty
        timer = self._loop.call_at(one.deadline, _expire, one.future, within)
        self._wake()
        try:
            return await one.future
        finally:
            timer.cancel()

    def admit(self, users: int, within: float, hasty: bool = False) -> None:
        """Decide whether a request may join the queue: the one admission of the server, before and after a request is read.

        Args:
            users: How many the request asks for.
            within: Seconds until the reply must have arrived.
            hasty: Whether the client asks again sooner than it was told to. Such requests are answered after all others.

        Raises:
            Refusal: The queue is full, or so long that the reply would come too late.
        """
        if not self.waiting:
            return
        if self.waiting + users > self._queue:
            self._overloaded(f"expected at most {self._queue} users to wait, got more")
        before = self.waiting if hasty else self.waiting - self._hasty
        ahead = self._left() + self.pace.foresees(before + users, self.size)
        if ahead > (_HASTY if hasty else _LIKELY) * within:
            self._overloaded(
                f"expected an answer within {within:.3g} s, got a queue of about {ahead:.3g} s, too long to be sure"
            )

    async def rest(self, within: float) -> None:
        """Wait until the current batch is done, at most for a share of these seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IN_TIME * within):
                await self._idle.wait()

    def close(self) -> None:
        """End the worker's thread; call it when nobody waits."""
        self._worker.shutdown()

    def _left(self) -> float:
        """Expected seconds until the worker is idle."""
        if not self._running:
            return 0.0
        return max(0.0, self._since + self.pace.foresees(self._running, self._running) - self._loop.time())

    def _overloaded(self, detail: str) -> None:
        wait = max(1, math.ceil(self.pace.foresees(self.waiting, self.size)))
        raise Refusal("overloaded", f"{detail}; try again in {wait} s", wait)

    def _wake(self) -> None:
        """Schedule a batch if the worker is idle: once all that has arrived was read, or later if others are expected."""
        if self._running:
            return
        if self._last <= 1 or self.waiting >= min(self._last, self.size) or self._gather <= 0:
            self._begin(self._loop.call_soon(self._start))
        elif self._begins is None:
            self._begin(self._loop.call_later(self._gather, self._start))

    def _begin(self, handle: asyncio.Handle | None) -> None:
        if self._begins is not None:
            self._begins.cancel()
        self._begins = handle

    def _start(self) -> None:
        self._begin(None)
        batch = self._next()
        if not batch:
            return
        now, users = self._loop.time(), sum(len(one.questions) for one in batch)
        self._running, self._since = users, now
        self._watch.started(users, now - batch[0].came, self.waiting)
        if users == 1 >= self._last and self.single < _BLINK:
            self._done(batch, *self._timed(batch))
        else:
            self._idle.clear()
            self._worker.submit(self._work, batch)

    def _next(self) -> list[_Waiting[_Question, _Answered]]:
        """The requests of the next batch. Those that cannot meet their deadline are refused, so that no time is lost on them."""
        batch: list[_Waiting[_Question, _Answered]] = []
        users, now = 0, self._loop.time()
        ready = now + self.pace.foresees(min(self.waiting, self.size), self.size)
        while (queue := self._waiting or self._last_ones) and (
            not batch or users + len(queue[0].questions) <= self.size
        ):
            one = queue.popleft()
            self.waiting -= len(one.questions)
            self._hasty -= len(one.questions) * one.hasty
            if one.deadline < ready and self.waiting:
                _expire(one.future, one.within)
            if not one.future.done():
                batch.append(one)
                users += len(one.questions)
        return batch

    def _work(self, batch: list[_Waiting[_Question, _Answered]]) -> None:
        """Answer on the worker's thread, and hand the results to the loop."""
        self._loop.call_soon_threadsafe(self._done, batch, *self._timed(batch))

    def _timed(self, batch: list[_Waiting[_Question, _Answered]]) -> tuple[list[list[_Answered | Exception]], float]:
        """Answers, and the seconds that they took on the thread that answered.

        The time until the busy loop hears of them is left out. Otherwise a loop full of refusals would make batches look slow, slow
        batches would lead to more refusals, and the server would end up answering almost nobody.
        """
        started = self._clock()
        results = self._answered(batch)
        return results, self._clock() - started

    def _answered(self, batch: list[_Waiting[_Question, _Answered]]) -> list[list[_Answered | Exception]]:
        """If a batch fails, each of its requests is tried alone, so that only the faulty one fails."""
        try:
            started = self._clock()
            found = self._answer([question for one in batch for question in one.questions])
            if len(found) == 1:  # the least of recent times, since other work of the machine slows some down
                self.single = min(self._clock() - started, _RISES * self.single)
            answers = iter(found)
            return [[next(answers) for _ in one.questions] for one in batch]
        except Exception as error:
            return [[error]] if len(batch) == 1 else [self._alone(one) for one in batch]

    def _alone(self, one: _Waiting[_Question, _Answered]) -> list[_Answered | Exception]:
        try:
            return self._answer(list(one.questions))
        except Exception as error:
            return [error]

    def _done(
        self, batch: list[_Waiting[_Question, _Answered]], results: list[list[_Answered | Exception]], took: float
    ) -> None:
        """On the loop: learn from the time the batch took, hand out its answers, start the next one."""
        self._last, self._running = self._running, 0
        self._idle.set()
        self.pace.took(self._last, took)
        if took > self._longest:
            self.size = max(1, int(self._last * self._longest / took))
        elif self._last >= self.size:
            self.size = min(self._most, self.size + max(1, self.size // 4))
        for one, result in zip(batch, results, strict=True):
            if one.future.done():
                continue
            good = [answer for answer in result if not isinstance(answer, Exception)]
            if len(good) == len(result):
                one.future.set_result(good)
            else:
                one.future.set_exception(next(answer for answer in result if isinstance(answer, Exception)))
        if self.waiting:
            self._start()


def _expire(future: asyncio.Future[list[_Answered]], within: float) -> None:
    if not future.done():
        future.set_exception(
            Refusal("deadline", f"expected an answer within {within:.3g} s, got none; ask again later", 1)
        )
