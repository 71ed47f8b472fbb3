"""Group commit: one batch of drafts in flight a site; what arrives meanwhile forms the next.

How it fails. A batch is submitted again, byte for byte, until its fate is known: a lost answer (broken connection,
timeout, failover) is settled by the append function recognising its own drafts. A draft that Postgres cannot store is
bisected out and fails alone. Guards (a log that is shorter or different, clocks apart) fail the whole batch with a
reason and nothing written. Waiters never wait for ever: after a bound they are told 503, and a retry with the same id
finds whatever landed. Nobody is acknowledged before the process has rebuilt the committed bytes.

It knows nothing of events or policies; drafts come ready and signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple, TypeVar

import asyncpg

from ledger import config
from ledger.core import ed25519
from ledger.core.entry import Kind, core_bytes, key_hash
from ledger.core.errors import BadSignature, InputRefused, LedgerError, Unavailable
from ledger.store import errors as sql
from ledger.store.append import (
    Appended,
    ControlDraft,
    EventDraft,
    Head,
    Outcome,
    TipMismatch,
    append_events,
    append_one,
)

log = logging.getLogger(__name__)

Draft = EventDraft | ControlDraft
Signed = TypeVar("Signed", EventDraft, ControlDraft)
AppendEvents = Callable[
    [asyncpg.Connection, int, int, Head, bytes, Sequence[EventDraft], float], Awaitable[tuple[list[Appended], Head]]
]
"""As `append_events`: connection, site id, process time, head, signer, drafts, timeout."""


class Lane(Enum):
    """Single events go first; of a full batch, bulk has a small share, so that it is slow then but never stands."""

    SINGLE = "single"
    BULK = "bulk"


@dataclass(frozen=True)
class Signer:
    """An active ingest key of one log; `log_id` is L of every core after genesis."""

    log_id: bytes
    key: ed25519.SigningKey

    @cached_property
    def key_hash(self) -> bytes:
        return key_hash(self.key.public)

    def sign(self, kind: int, commit: bytes, public: bytes = b"") -> bytes:
        return self.key.sign(core_bytes(self.log_id, kind, commit, public))


class Stats(NamedTuple):
    """Counters since the start, for metrics; `waiting` is a gauge."""

    batches: int
    appended: int
    resubmitted: int
    waiting: int


class _Waiting(NamedTuple):
    draft: Draft
    answer: asyncio.Future[Appended]


_NOT_REACHED = "The ledger's database does not answer; try again, with the same event id."
_LATE = "The ledger did not settle this event in time; send it again with the same id to learn its fate."
_STOPPING = "This server is stopping; send the event again, with the same id."
_DIFFERENT_BYTES = "The bytes to be stored are not the ones expected; nothing was told. An operator has to look."
_FULL = "More events arrive than can be written; try again, with the same event id."
_GUARDS = {
    sql.DATA_KEY_CLOSED: (
        "data-key-closed",
        "The data key of this event seals no more, and the server has not seen the newer one yet. Try again.",
    ),
    sql.DIFFERENT_LOG: (
        "log-behind",
        "The database holds a shorter or another log than this server has seen (restored from an older copy, or failed "
        "over with losses). Nothing is appended until an operator has settled it with `consent-ledger recover`.",
    ),
    sql.CLOCKS_DIFFER: (
        "clocks-differ",
        "The clocks of this server and its database differ by more than 5 s. An operator has to set them right.",
    ),
    sql.ENTRY_AHEAD: (
        "clock-behind",
        "The last entry of the log lies more than 60 s ahead of the database's clock. An operator has to set it right.",
    ),
    sql.NO_LOG: ("no-log", "The site has no log in this database."),
}


class Sequencer:
    """The appending side of one site in one process."""

    def __init__(
        self,
        site_id: int,
        pool: asyncpg.Pool,
        signer: Signer,
        renew_signer: Callable[[], Awaitable[Signer | None]],
        head: Head = Head(0, b""),  # noqa: B008 - immutable
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        append: AppendEvents = append_events,
    ) -> None:
        """`append` is how a batch of events goes to the database, in one round trip."""
        self.signer = signer  # may be replaced at any time: drafts of another are signed again
        self._tried = signer  # of the last attempt
        self.head = head
        self.trouble: str | None = None  # the slug of the last failure while it lasts, for readiness
        self._site_id = site_id
        self._pool = pool
        self._renew_signer = renew_signer
        self._wall_ms = wall_ms
        self._append_events = append
        self._lanes: dict[Lane, deque[_Waiting]] = {Lane.SINGLE: deque(), Lane.BULK: deque()}
        self._bounds = {Lane.SINGLE: config.SINGLE_LANE_MAX_DRAFTS, Lane.BULK: config.BULK_LANE_MAX_DRAFTS}
        self._control: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = False
        self._probing = False
        self._distrusting = False  # the database chained other bytes: until a restart nothing is built upon them
        self._batches = self._appended = self._resubmitted = 0
        self._task = asyncio.create_task(self._run(), name=f"sequencer {site_id}")

    @property
    def pool(self) -> asyncpg.Pool:
        """Its connections, for who has to read what is to be appended about."""
        return self._pool

    @property
    def stats(self) -> Stats:
        waiting = len(self._control) + sum(len(lane) for lane in self._lanes.values())
        return Stats(self._batches, self._appended, self._resubmitted, waiting)

    async def submit(self, draft: EventDraft, lane: Lane = Lane.SINGLE) -> Appended:
        """Append one event. `Unavailable` when the server stops, or the event's fate is not known in time."""
        return await (await self.enter(draft, lane))

    async def enter(self, draft: EventDraft, lane: Lane = Lane.SINGLE) -> asyncio.Future[Appended]:
        """Give one event its place in the log's order; its fate is to be awaited.

        A full lane refuses a single event at once, and lets bulk wait for room: its body is read no faster than that.
        """
        queue = self._lanes[lane]
        if len(queue) >= self._bounds[lane]:
            if lane is Lane.SINGLE:
                raise Unavailable("overloaded", _FULL)
            await self._wait_for_room(queue)
        return self._queue(queue, draft)

    async def _wait_for_room(self, queue: deque[_Waiting]) -> None:
        try:
            async with asyncio.timeout(config.WAITER_TIMEOUT_SECONDS):
                while len(queue) >= self._bounds[Lane.BULK]:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError as error:
            raise Unavailable("overloaded", _FULL) from error

    async def submit_control(self, draft: ControlDraft) -> Appended:
        """Append one entry of another kind; it travels alone. `Unavailable` as in `submit`."""
        if len(self._control) >= config.CONTROL_LANE_MAX_DRAFTS:
            raise Unavailable("overloaded", _FULL)
        return await self._queue(self._control, draft)

    def _queue(self, queue: deque[_Waiting], draft: Draft) -> asyncio.Future[Appended]:
        if self._stopping:
            raise Unavailable("stopping", _STOPPING)
        if self._distrusting:
            raise Unavailable("bytes-differ", _DIFFERENT_BYTES, retry_after=30)
        answer: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        queue.append(_Waiting(draft, answer))
        self._arrived.set()
        return answer

    def probe(self) -> None:
        """Let an append of nothing tell whether trouble is over. Without it, a server that gets no traffic because it
        is not ready would never notice."""
        if self.trouble is not None and not self._stopping and not self._distrusting:
            self._probing = True
            self._arrived.set()

    async def stop(self) -> None:
        """Take no more, write what waits if the database lets us, and answer every waiter."""
        self._stopping = True
        self._arrived.set()
        _, pending = await asyncio.wait([self._task], timeout=config.SHUTDOWN_DRAIN_SECONDS)
        if pending:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._fail(self._take_all(), Unavailable("stopping", _STOPPING))

    # --- the one owner of the queues -------------------------------------------------------------------------------

    async def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            while True:
                batch = self._take()
                if batch or self._probing:
                    self._probing = False
                    await self._settle(batch)
                elif self._stopping:
                    return
                else:
                    self._arrived.clear()
                    await self._arrived.wait()
        except asyncio.CancelledError:
            self._fail(batch, Unavailable("stopping", _STOPPING))
            raise

    def _take(self) -> list[_Waiting]:
        if self._control:
            return [self._control.popleft()]
        batch: list[_Waiting] = []
        reserved = min(len(self._lanes[Lane.BULK]), config.APPEND_BULK_MIN_DRAFTS)
        for lane, bound in ((Lane.SINGLE, config.APPEND_MAX_DRAFTS - reserved), (Lane.BULK, config.APPEND_MAX_DRAFTS)):
            queue = self._lanes[lane]
            while queue and len(batch) < bound:
                waiting = queue.popleft()
                if not waiting.answer.done():  # its client may have gone
                    batch.append(waiting)
        self._room.set()
        return batch

    def _take_all(self) -> list[_Waiting]:
        queues = (self._control, *self._lanes.values())
        everything = [waiting for queue in queues for waiting in queue]
        for queue in queues:
            queue.clear()
        self._room.set()
        return everything

    async def _settle(self, batch: list[_Waiting]) -> None:
        """Bring one batch to a definite end: every waiter is answered when this returns."""
        deadline = time.monotonic() + config.WAITER_TIMEOUT_SECONDS
        attempt = 0
        while True:
            try:
                await self._append(batch)
                self.trouble = None
                return
            except Exception as error:
                if await self._resolve(batch, error, attempt):
                    return
                log.warning("an append got no answer (%s); submitting the same drafts again", type(error).__name__)
            self.trouble = "database-unavailable"
            attempt += 1
            late = time.monotonic() > deadline
            if late or attempt >= config.SETTLE_PATIENT_ATTEMPTS:  # what waits behind was never sent, and need not wait
                self._fail(self._take_all(), Unavailable(self.trouble, _NOT_REACHED, retry_after=2))
            if late or self._stopping:
                self._fail(batch, Unavailable(self.trouble, _LATE))
                return
            pauses = config.SETTLE_BACKOFF_SECONDS
            await asyncio.sleep(pauses[min(attempt, len(pauses)) - 1])
            self._resubmitted += 1

    async def _append(self, batch: list[_Waiting]) -> None:
        """One attempt. Drafts with equal keys go as one; the others share its fate."""
        first = batch[0].draft if batch else None
        timeout = config.APPEND_TIMEOUT_SECONDS
        if isinstance(first, ControlDraft):
            self._tried = self.signer
            draft = first
            if draft.kind not in (Kind.GENESIS, Kind.KEY):  # what the root signs is checked by who holds that key
                draft = _own(draft, self._tried, draft.kind, draft.public)
            async with self._connection() as connection:
                result, head = await append_one(connection, self._site_id, self._wall_ms(), self.head, draft, timeout)
            results = {_key(first): result}
        else:
            unique: dict[bytes, EventDraft] = {}
            for waiting in batch:
                unique.setdefault(_key(waiting.draft), waiting.draft)  # type: ignore[arg-type]
            signer = self._tried = self.signer
            drafts = [_own(draft, signer, Kind.EVENT, b"") for draft in unique.values()]
            async with self._connection() as connection:
                answers, head = await self._append_events(
                    connection, self._site_id, self._wall_ms(), self.head, signer.key_hash, drafts, timeout
                )
            results = dict(zip(unique, answers, strict=True))
        self.head = head
        self._batches += 1
        self._answer(batch, results)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        """One from the pool; after a missing answer it is thrown away at once, not waited for.

        The clock that the guard compares is read once it is there: to wait for one is no difference of clocks.
        """
        async with self._pool.acquire(timeout=config.CONNECT_TIMEOUT_SECONDS) as connection:
            try:
                yield connection
            except asyncpg.PostgresError as error:
                if sql.sqlstate(error) == sql.READ_ONLY:  # it would stay so, and the pool would give it out again
                    connection.terminate()
                raise
            except BaseException:
                connection.terminate()
                raise

    def _answer(self, batch: Sequence[_Waiting], results: dict[bytes, Appended]) -> None:
        owners: dict[bytes, Draft] = {}
        for waiting in batch:
            key = _key(waiting.draft)
            result = results[key]
            owner = owners.setdefault(key, waiting.draft)
            if owner is waiting.draft:
                self._appended += result.outcome == Outcome.APPENDED
            elif isinstance(owner, EventDraft) and result.outcome in (Outcome.APPENDED, Outcome.SAME_COMMITMENT):
                same = waiting.draft.content == owner.content  # type: ignore[union-attr]
                result = result._replace(outcome=Outcome.SAME_CONTENT if same else Outcome.OTHER_CONTENT, entry=None)
            if not waiting.answer.done():
                waiting.answer.set_result(result)

    async def _resolve(self, batch: list[_Waiting], error: Exception, attempt: int) -> bool:
        """True if the failure is definite and every waiter was answered; False to submit the same drafts again."""
        state = sql.sqlstate(error)
        if state in _GUARDS:
            self.trouble, detail = _GUARDS[state]
            log.error("appending is refused (%s): %s", self.trouble, error)
            self._fail(batch, Unavailable(self.trouble, detail, retry_after=30))
        elif state == sql.SIGNER_INACTIVE:
            return await self._resign(batch)
        elif sql.is_data_error(error) or state in (sql.AGAINST_RULES, sql.LOG_EXISTS):
            await self._bisect(batch, error)
        elif isinstance(error, TipMismatch | BadSignature):
            self.trouble = "bytes-differ"
            self._distrusting = self._distrusting or isinstance(error, TipMismatch)
            log.critical("not acknowledged: %s", error)
            self._fail(batch, Unavailable(self.trouble, _DIFFERENT_BYTES, retry_after=30))
        elif sql.is_transient(error) or sql.is_unprepared(error):
            never_sent = isinstance(error, ConnectionRefusedError | asyncpg.CannotConnectNowError) and attempt == 0
            if not never_sent:
                return False
            self.trouble = "database-unavailable"
            self._fail(batch, Unavailable(self.trouble, _NOT_REACHED, retry_after=2))
        else:
            self.trouble = "internal"
            log.error("an append failed in an unforeseen way: %s (SQLSTATE %s)", type(error).__name__, state or "none")
            self._fail(batch, Unavailable("internal", "The event was not stored; the server's log tells why."))
        return True

    async def _resign(self, batch: list[_Waiting]) -> bool:
        """The key was retired meanwhile: take the one that is active now and submit again."""
        try:
            signer = await self._renew_signer()
        except Exception as error:
            log.error("no active ingest key could be loaded: %s", type(error).__name__)
            signer = None
        draft = batch[0].draft if batch else None
        roots = isinstance(draft, ControlDraft) and draft.kind in (Kind.GENESIS, Kind.KEY)
        # Not `self.signer`: who watches the keys may have put the new one there while the answer was on its way.
        same = signer is None or signer.key.public == self._tried.key.public
        if signer is not None:
            self.signer = signer
        if same or roots:
            self.trouble = "no-signer"
            detail = "This server holds no active ingest key of the site; an operator has to install it."
            self._fail(batch, Unavailable("no-signer", detail, retry_after=30))
            return True
        return False

    async def _bisect(self, batch: list[_Waiting], error: Exception) -> None:
        if len(batch) > 1 and len({_key(waiting.draft) for waiting in batch}) > 1:
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])
            return
        log.warning("one draft cannot be stored: SQLSTATE %s", sql.sqlstate(error))
        self._fail(batch, InputRefused("not-storable", "The database cannot store this; nothing was recorded."))

    def _fail(self, batch: Sequence[_Waiting], error: LedgerError) -> None:
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)


def _own(draft: Signed, signer: Signer, kind: int, public: bytes) -> Signed:
    """The draft under this key, its signature checked: Postgres cannot, and would keep a bad one."""
    if draft.signer != signer.key_hash:
        draft = draft._replace(signer=signer.key_hash, signature=signer.sign(kind, draft.commit, public))
    signer.key.confirm(core_bytes(signer.log_id, kind, draft.commit, public), draft.signature)
    return draft


def _key(draft: Draft) -> bytes:
    return draft.key if isinstance(draft, EventDraft) else draft.signature
