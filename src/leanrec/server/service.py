"""What the paths of a server do, without HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from leanrec.core.errors import LeanrecError
from leanrec.engine.events import Event
from leanrec.engine.sessions import BehindError
from leanrec.server import schemas
from leanrec.server.batcher import IN_TIME, Batcher, BatchWatcher
from leanrec.server.kept import from_texts, to_texts
from leanrec.server.learner import Learner
from leanrec.server.limits import RequestLimits
from leanrec.server.live import Follows, Live, Question, answered, as_asked, open_live
from leanrec.server.metrics import Metrics
from leanrec.server.models import Models
from leanrec.server.problems import Problem, Refusal, refusal
from leanrec.server.seldom import Seldom
from leanrec.server.settings import Settings
from leanrec.server.shadow import Given
from leanrec.server.stores import HistoryStore, MemoryStore, Past
from leanrec.server.tarpit import Tarpit
from leanrec.server.users import Users, left

_BATCHES = 4
"""A batch takes at most the deadline over this number, so that its size alone makes nobody late."""
_SEARCHES = 64
"""Most searches for items that wait; more are refused."""

_log = logging.getLogger("leanrec.server")


class Service(BatchWatcher):
    """One model with its queue and its sessions. All methods but the constructor are called on one event loop.

    Args:
        live: The model that is served first.
        store: Histories of users.
        settings: Limits.
        opener: Opens and tries the model of a reload.
    """

    def __init__(
        self,
        live: Live,
        store: HistoryStore,
        settings: Settings,
        opener: Callable[[Path, Settings], Live] = open_live,
    ) -> None:
        self.store, self.settings = store, settings
        self.limits, self.metrics = RequestLimits(settings), Metrics()
        self.ready = False
        self._searcher, self._searches = ThreadPoolExecutor(1, "leanrec-search"), 0
        self._seldom, self._learner, self._users = Seldom(), Learner(store), Users(store)
        self._batcher: Batcher[Question, schemas.Answer] | None = None
        self.models = Models(live, lambda path: opener(path, settings), self._learner.catch_up, self.metrics)
        if settings.learn:
            self._learner.measured(self.metrics, lambda: self.live)
        for name, about, read in (
            ("queue_users", "Users that wait.", lambda: self._batcher.waiting if self._batcher else 0),
            ("budget", "Mean cost at the usual budget, as load has it, as a share of the full model's.", self._budget),
            ("sessions", "Users whose next event costs one step.", lambda: len(self.live.sessions)),
            ("session_bytes", "Memory of these.", lambda: self.live.sessions.bytes),
            ("session_steps", "Events that cost one step.", lambda: self.live.sessions.steps),
            ("session_recomputed", "Events that cost the whole history.", lambda: self.live.sessions.recomputed),
        ):
            self.metrics.gauge(name, about, read)
        if isinstance(store, MemoryStore):
            self.metrics.gauge("stored_users", "Users with a history.", lambda: len(store))

    async def open(self) -> None:
        """Begin to take requests, on the running loop."""
        own = self.settings
        longest = own.deadline_ms / 1000 / _BATCHES
        self.tarpit = Tarpit(asyncio.get_running_loop())
        self._batcher = Batcher(answered, self, own.gather_ms / 1000, own.batch, own.queue, longest)
        self._seldom.start()
        if own.learn:
            await self._learner.open(self.models.all)
        self.ready = True

    @property
    def live(self) -> Live:
        """The model that answers."""
        return self.models.live

    @property
    def batcher(self) -> Batcher[Question, schemas.Answer]:
        """The queue of a service that is open."""
        assert self._batcher is not None, "the service is not open"
        return self._batcher

    def started(self, users: int, waited: float, waiting: int) -> None:
        self.metrics.batch.observe(users)
        self.metrics.wait.observe(waited)
        if self.live.adaptive is not None:
            self.live.adaptive.waited(waited)

    def check_unread(self, hasty: bool = False) -> None:
        """Ask the queue's admission about a request that has not been read yet; under load reading costs as much as answering.

        Args:
            hasty: As in `Batcher.admit`.

        Raises:
            Refusal: There is no room for it, or no time.
        """
        self.batcher.admit(1, self.limits.seconds(None), hasty)

    def refuse_unread(self, send: Callable[[], None], hasty: bool) -> None:
        """Send the refusal of a request that was not read: at once, or late where the `Tarpit` says so."""
        self.tarpit.refuse(self.limits.seconds(None), send, hasty)

    async def recommend(
        self, body: schemas.Recommend, hasty: bool = False
    ) -> schemas.Answer | Problem | list[schemas.Answer | Problem]:
        """Answer one user, or many with a list, in which a problem stands in the place of a user who has no answer.

        Args:
            body: What is asked.
            hasty: As in `Batcher.admit`.
        """
        live, due = self.live, self._due(body)
        many = body.histories is not None or body.users is not None
        async with self._in_turn(due):
            self.limits.check(body)
            given = await self._given(body, due)
            places = self._places(live, given(live), body, _users(body))
            if not many and isinstance(places[0], Refusal):
                self._offer(live, body, body)
                raise places[0]
        answers = await self._answers(places, due, hasty)
        self._offer(live, body, body)
        return answers if many else answers[0]

    async def events(self, body: schemas.AddEvents) -> schemas.Accepted:
        """Store events, and answer with what may follow.

        A request that is wrong in any way is refused before anything is stored. What goes wrong afterwards is told in the reply, as
        the events are stored by then.
        """
        live, due = self.live, self._due(body)
        async with self._in_turn(due):
            self.limits.check(body)
            (question,) = self._questions(live, [body.items], body)
        texts = to_texts(body.items, live.engine.reads)
        async with self._users.turn(body.user, due):  # events and steps of a user in one order
            noting = None if live.learning is None else live.learning.noting
            events = await self._users.append(body.user, texts, due, noting)
            self.metrics.events.inc(len(texts))
            self.metrics.unknown_events.inc(len(texts) - len(question.asked.ids))
            answer, problem = None, None
            if body.recommend:
                try:
                    answer = await self._follow(question, body, events, due)
                    self._offer(live, body, schemas.Recommend(user=body.user))
                except Refusal as refused:
                    problem = refused.problem()
        return schemas.Accepted(body.user, events, question.asked.unknown, answer, problem)

    async def forget(self, user: str) -> None:
        """Drop all that is known of a user."""
        due = time.monotonic() + self.limits.seconds(None)
        async with self._users.turn(user, due):
            await self._users.forget(user, due)
            await asyncio.to_thread(self.live.sessions.forget, user)  # a step may hold the lock

    async def items(self, query: str, limit: int) -> schemas.Found:
        """Items whose title or key has all words of a query. Searches run one after the other on a thread of their own."""
        live, within = self.live, self.limits.seconds(None)
        if self._searches >= _SEARCHES:
            raise Refusal("overloaded", f"expected at most {_SEARCHES} searches to wait, got more; try again in 1 s", 1)
        self._searches += 1
        try:
            async with asyncio.timeout(IN_TIME * within):
                found = await asyncio.get_running_loop().run_in_executor(self._searcher, live.search.find, query, limit)
        except TimeoutError as error:
            raise Refusal("deadline", f"expected items within {within:.3g} s, got none; try again later", 1) from error
        finally:
            self._searches -= 1
        catalog = live.engine.catalog
        return schemas.Found([schemas.Item(catalog.keys[row], catalog.titles[row]) for row in found])

    def model(self) -> schemas.Model:
        """What is served."""
        live, span = self.live, self.live.engine.budgets
        budgets = None if span is None else schemas.Budgets(*span, live.adaptive.of(None) if live.adaptive else None)
        engine, shadow = live.engine, self.models.shadow
        return schemas.Model(
            live.digest,
            live.path.name,
            engine.num_items,
            engine.runner.max_length,
            sorted(engine.reads),
            live.routes(),
            budgets,
            None if shadow is None else schemas.ShadowModel(shadow.live.digest, shadow.live.path.name, shadow.share),
        )

    async def reload(self, path: Path | None = None) -> None:
        """As `Models.reload`."""
        await self.models.reload(path)

    async def close(self) -> None:
        """End the threads, and close the store."""
        self.ready = False
        if self._batcher is not None:
            self._batcher.close()
        self.models.close()
        self._searcher.shutdown(wait=False, cancel_futures=True)
        await self._learner.close()
        await self.store.close()
        self._seldom.stop()

    def _budget(self) -> float:
        under_load = self.live.adaptive.of(None) if self.live.adaptive else None
        return under_load if under_load is not None else (self.live.engine.budgets or (1.0, 1.0, 1.0))[1]

    def _questions(
        self, live: Live, histories: Sequence[Sequence[str | Event]], body: schemas.RecommendOptions
    ) -> list[Question]:
        return [Question(live, one) for one in as_asked(live, histories, body)]

    def _places(
        self,
        live: Live,
        histories: Sequence[Sequence[str | Event]],
        body: schemas.RecommendOptions,
        users: Sequence[str] | None,
    ) -> list[Question | Refusal]:
        """What is asked for each user, or why there is no answer: the model knows none of the events, and no fallback is wanted."""
        questions = self._questions(live, histories, body)
        return [
            one
            if one.asked.ids or body.unknown == "fallback"
            else _stranger(live, one.asked.unknown, users[row] if users else None)
            for row, one in enumerate(questions)
        ]

    async def _answers(
        self, places: Sequence[Question | Refusal], due: float, hasty: bool
    ) -> list[schemas.Answer | Problem]:
        """Answers in the places of questions, and problems in those of refusals; if all are, once the batch ends."""
        questions = [place for place in places if isinstance(place, Question)]
        answers = iter(await self._ask(questions, due, hasty) if questions else ())
        if not questions:
            await self.batcher.rest(left(due))
        for place in places:
            if isinstance(place, Refusal):
                self.metrics.refused.labels(place.kind).inc()
        return [next(answers) if isinstance(place, Question) else place.problem() for place in places]

    def _due(self, body: schemas.RecommendOptions) -> float:
        """The time, as `time.monotonic` tells it, at which the reply must have arrived."""
        return time.monotonic() + self.limits.seconds(body.deadline_ms)

    @asynccontextmanager
    async def _in_turn(self, due: float) -> AsyncIterator[None]:
        """Delay the refusal of a request that is wrong until the current batch is done, when others get their answers, too.

        Clients that were refused at once would ask several times as often as others and take their time. Such requests are common:
        every item that is newer than the model is unknown to it.
        """
        try:
            yield
        except (LeanrecError, Refusal) as error:
            if not isinstance(error, Refusal) or error.status in (404, 422):
                await self.batcher.rest(left(due))
            raise

    async def _ask(self, questions: Sequence[Question], due: float, hasty: bool = False) -> list[schemas.Answer]:
        started = time.perf_counter()
        try:
            answers = await self.batcher.ask(questions, left(due), hasty)
        except Refusal as refused:
            if refused.kind == "overloaded":
                await self.tarpit.hold(left(due), hasty)
            raise
        took = time.perf_counter() - started
        self.tarpit.answered(len(answers))
        for answer in answers:
            self.metrics.answered(answer, took)
        return answers

    async def _follow(self, question: Question, body: schemas.AddEvents, events: int, due: float) -> schemas.Answer:
        """Answer new events by one step if the memories end where they begin, else by the history in the store."""
        live, before = question.live, events - len(body.items)
        if question.asked.ids and live.sessions.knows(body.user, before):
            follows = Follows(body.user, events, before, body.exclude_seen)
            try:
                return (await self._ask([replace(question, follows=follows)], due))[0]
            except BehindError:
                pass  # the memories were dropped meanwhile
        past = await self._users.past(body.user, due)
        (whole,) = self._places(live, [_events(live, past)], body, [body.user])
        if isinstance(whole, Refusal):
            self._offer(live, body, schemas.Recommend(user=body.user))
            raise whole
        asked = replace(whole.asked, unknown=question.asked.unknown)
        follows = Follows(body.user, past.events, None, body.exclude_seen) if asked.ids else None
        return (await self._ask([Question(live, asked, follows)], due))[0]

    def _offer(self, live: Live, body: schemas.RecommendOptions, whose: schemas.Recommend) -> None:
        """Let the shadow, if there is one, have what a model was asked, and of whose histories."""
        if self.models.shadow is not None:
            seconds = self.limits.seconds(None)
            self.models.shadow.offer(live, body, lambda: self._given(whose, time.monotonic() + seconds))

    async def _given(self, body: schemas.Recommend, due: float) -> Given:
        users = _users(body)
        if users is None:
            histories = body.histories if body.histories is not None else [body.history or []]
            return lambda live: histories
        pasts = await asyncio.gather(*(self._users.past(user, due) for user in users))
        return lambda live: [_events(live, past) for past in pasts]


def _events(live: Live, past: Past) -> Sequence[str | Event]:
    return from_texts(past.items, live.engine.keys.ids, live.engine.reads)


def _users(body: schemas.Recommend) -> list[str] | None:
    """Who is asked for by name; None where histories are given."""
    return [body.user] if body.user is not None else body.users


def _stranger(live: Live, unknown: list[str], user: str | None) -> Refusal:
    """What is said of a user of whose events the model knows none."""
    if user is None or unknown:
        return refusal(live.engine.keys.stranger(unknown, suggest=False))
    wanted = f" that have their {' and '.join(sorted(live.engine.reads))}" if live.engine.reads else ""
    return Refusal(
        "unknown-user", f"expected a user with events{wanted}, got {user!r:.60}; send some to /v1/events first"
    )
