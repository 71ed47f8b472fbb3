"""The lapser: tells of grants that lapsed, as events of the ledger's own, for those who read the stream and do not ask.

Each row of the projection says when it is to be looked at. A row that is due is read with every event of its subject;
what has lapsed is decided from those alone (core/lapse), appended by the way every event takes, and only then the row
is given its next moment. So whatever ends us, the next one looks again and finds what is told: an event is appended
only if nothing was recorded under its subject since it was looked at, so it is never told twice, never told behind a
later act, and never told of somebody who was forgotten. After a version is published one pass over all rows, in
batches, says anew when each is due; how far it came is kept.

It decides nothing: answers are the same whether it runs, lags, or is not there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.appending import open_sites
from ledger.config import Settings
from ledger.core.decide import State, decode_state, fold
from ledger.core.errors import LedgerError, Unavailable
from ledger.core.event import Event
from ledger.core.lapse import Lapse, Lapses, Told, decode_told, fold_told, lapse_event
from ledger.core.policy import PolicyHistory
from ledger.recording import draft_of
from ledger.sequencer import Lane
from ledger.site import Site, SiteRegistry, recorded
from ledger.store.append import Appended, Condition, EventDraft, Head, Outcome, append_lapses
from ledger.store.errors import is_passing
from ledger.store.lapses import DueRows, Page, SiteDue, StateRow
from ledger.store.reads import EventRow, Reads

log = logging.getLogger(__name__)


class Lag(NamedTuple):
    """One site as of the last round: for how long its oldest lapse has waited, and whether a pass is under way."""

    seconds: float
    passing: bool


class _Look(NamedTuple):
    """A row as it is by all of its subject's events, and what is to be told of it."""

    row: StateRow
    state: State
    told: Told
    untold: list[Lapse]


class Lapser:
    """Tells of the lapses of all sites; one at a time over all replicas is enough, two do no harm."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._rows = DueRows(pool)
        self._reads = Reads(pool)
        self._kept: dict[int, tuple[PolicyHistory, Lapses]] = {}
        self._said: dict[str, str] = {}
        self._conditions: dict[bytes, Condition] = {}
        self.told: Counter[tuple[str, str]] = Counter()
        """Events appended here, by site and type."""
        self.batches = 0
        self.worked_seconds = 0.0
        self.lags: dict[str, Lag] = {}

    async def run(self) -> None:
        """Until cancelled. A database that goes away is waited for."""
        async with open_sites(self._settings, Reads(self._pool), append=self._append) as sites:
            while True:
                rest_seconds = await self._work(sites)
                await asyncio.sleep(rest_seconds)

    async def _work(self, sites: SiteRegistry) -> float:
        """One round, of which nothing but the end of the process is to end us; how long to rest after it."""
        began = time.monotonic()
        try:
            waiting_ms = await self.round(sites)
        except Exception as error:
            if not is_passing(error):
                log.exception("the lapser failed; it tries again")
            return config.LAPSE_IDLE_SECONDS
        idle = config.LAPSE_IDLE_SECONDS if waiting_ms is None else waiting_ms / 1000
        rest = config.LAPSE_REST_FACTOR * (time.monotonic() - began)
        return max(rest, min(idle, config.LAPSE_IDLE_SECONDS), config.LAPSE_PAUSE_SECONDS)

    async def round(self, sites: SiteRegistry) -> int | None:
        """One batch of every site; in how many milliseconds the next row is due (0: now), None if none is to come.

        What is wrong with one site is told once, and does not keep the others waiting.
        """
        dues = await self._rows.sites()
        known = {site.site: site for site in sites.loaded()}
        if any(due.site not in known for due in dues):
            await sites.load(max_age_seconds=config.SITE_REFRESH_SECONDS)
            known = {site.site: site for site in sites.loaded()}
        waiting: list[int] = []
        for due in dues:
            site = known.get(due.site)
            if site is None:  # whoever tried to load it has said why
                continue
            try:
                more = await self._round_of(due, site, sites)
            except Unavailable as error:
                self._say(due.site, f"lapses of {due.site} cannot be told just now: {error.detail}")
                continue
            self._said.pop(due.site, None)
            if more:
                waiting.append(0)
            elif due.oldest_ms is not None and due.oldest_ms > due.now_ms:
                waiting.append(due.oldest_ms - due.now_ms)
        return min(waiting, default=None)

    def _say(self, site: str, why: str) -> None:
        if self._said.get(site) != why:
            self._said[site] = why
            log.warning("%s", why)

    async def _round_of(self, due: SiteDue, site: Site, sites: SiteRegistry) -> bool:
        """A step of the pass, if there is one to make, and a batch of what is due; whether there may be more now."""
        passing = due.due_policy < due.policy_seq
        late_ms = 0 if due.oldest_ms is None else max(0, due.now_ms - due.oldest_ms)
        self.lags[due.site] = Lag(late_ms / 1000, passing)
        telling = due.oldest_ms is not None and due.oldest_ms <= due.now_ms and site.sequencer is not None
        began = time.monotonic()
        if passing:
            await self._pass_on(due, site, sites)
        if telling:
            await self._tell(due, site, sites)
        if passing or telling:
            self.batches += 1
            self.worked_seconds += time.monotonic() - began
        return passing or telling

    async def _lapses(self, site: Site, sites: SiteRegistry, policy_seq: int) -> Lapses:
        """What lapses under the site's policies up to `policy_seq` at least."""
        if site.policies.last_seq < policy_seq:
            await sites.refresh_policies(site)
        kept = self._kept.get(site.site_id)
        if kept is None or kept[0] is not site.policies:
            kept = self._kept[site.site_id] = site.policies, Lapses(site.policies)
        return kept[1]

    # --- the pass that follows a published version -----------------------------------------------------------------

    async def _pass_on(self, due: SiteDue, site: Site, sites: SiteRegistry) -> None:
        """Say of the next rows when they are due, by what they hold: the projector adds what came after it."""
        begun = due.due_target == due.policy_seq and due.due_after is not None
        after = due.due_after if begun and due.due_after is not None else b""
        page = await self._rows.after(due.site_id, due.version, after, config.LAPSE_PASS_ROWS)
        lapses = await self._lapses(site, sites, page.policy_seq)
        moments: list[int | None] = []
        for row in page.rows:
            try:
                moments.append(lapses.due_ms(decode_state(row.body), decode_told(row.told), page.now_ms))
            except LedgerError:  # a row that cannot be read; who reads the visitor's state will say so
                moments.append(None)
        await self._rows.pass_due(
            due.site_id,
            due.version,
            due.policy_seq,
            after,
            page.rows,
            moments,
            last=len(page.rows) < config.LAPSE_PASS_ROWS,
        )

    # --- what is due -----------------------------------------------------------------------------------------------

    async def _tell(self, due: SiteDue, site: Site, sites: SiteRegistry) -> None:
        """Look at the rows that are due longest, append what is to be told of them, and say when they are due next."""
        page = await self._rows.due(due.site_id, due.version, config.LAPSE_BATCH_ROWS)
        lapses = await self._lapses(site, sites, page.policy_seq)
        policy_seq = site.policies.last_seq
        rows: list[StateRow] = []
        moments: list[int | None] = []
        looks: list[_Look] = []
        for row in page.rows:
            try:
                looks.append(_look(site, row, lapses, page.now_ms))
            except LedgerError as error:
                log.error("a row of the state of %s cannot be read, and is left for later: %s", site.site, error)
                rows.append(row)
                moments.append(page.now_ms + config.LAPSE_POSTPONE_SECONDS * 1000)
        outcomes = await self._append_all(site, looks, page)
        failure: Unavailable | None = None
        for look, outcome in zip(looks, outcomes, strict=True):
            if isinstance(outcome, Unavailable):
                failure = outcome
            elif isinstance(outcome, LedgerError):
                log.error("a lapse of %s cannot be recorded, and is left for later: %s", site.site, outcome)
                rows.append(look.row)
                moments.append(page.now_ms + config.LAPSE_POSTPONE_SECONDS * 1000)
            elif outcome:
                told = dict(look.told)
                for lapse in look.untold:
                    told.update(lapse.grants)
                rows.append(look.row)
                moments.append(lapses.due_ms(look.state, told, page.now_ms))
        await self._rows.write_due(due.site_id, due.version, policy_seq, rows, moments)
        if failure is not None:
            raise failure

    async def _append_all(self, site: Site, looks: Sequence[_Look], page: Page) -> list[bool | LedgerError]:
        """Of each look, whether all that is to be told of it is in the log now, or why not.

        False: something was recorded or erased meanwhile, and the row is to be looked at again.
        """
        sequencer = site.sequencer
        assert sequencer is not None
        named = {seq for look in looks for lapse in look.untold for _, seq in lapse.grants}
        rows = await self._reads.events_at(site.site_id, sorted(named)) if named else []
        grants = {row.seq: row for row in rows}
        outcomes: list[bool | LedgerError] = [True] * len(looks)
        entered: list[tuple[int, Event, bytes, asyncio.Future[Appended]]] = []
        for n, look in enumerate(looks):
            if n % config.LAPSE_SLICE_ROWS == 0:
                await asyncio.sleep(0)  # the other parts of the worker go on
            try:
                for event in _events(site, look, grants):
                    draft = draft_of(site, sequencer, event, look.row.subject)
                    self._conditions[draft.key] = Condition(page.size, tuple(sorted(set(event.lapsed.values()))))
                    entered.append((n, event, draft.key, await sequencer.enter(draft, Lane.BULK)))
            except LedgerError as error:
                outcomes[n] = error
        answers = await asyncio.gather(*(answer for *_, answer in entered), return_exceptions=True)
        for (n, event, key, _), answer in zip(entered, answers, strict=True):
            self._conditions.pop(key, None)
            if isinstance(answer, LedgerError):
                outcomes[n] = answer
            elif isinstance(answer, BaseException):
                raise answer
            elif answer.outcome in (Outcome.OVERTAKEN, Outcome.FORGOTTEN):
                outcomes[n] = False if outcomes[n] is True else outcomes[n]
            elif answer.outcome == Outcome.APPENDED:
                self.told[site.site, event.type] += 1
        return outcomes

    async def _append(
        self,
        connection: asyncpg.Connection,
        site_id: int,
        process_ms: int,
        head: Head,
        signer: bytes,
        drafts: Sequence[EventDraft],
        timeout_seconds: float,
    ) -> tuple[list[Appended], Head]:
        """How our sequencers append: each draft under its condition."""
        conditions = [self._conditions[draft.key] for draft in drafts]
        return await append_lapses(connection, site_id, process_ms, head, signer, drafts, timeout_seconds, conditions)


def _look(site: Site, row: StateRow, lapses: Lapses, now_ms: int) -> _Look:
    events = [recorded(site.vault, event) for event in row.events]
    state, told = fold(decode_state(row.body), events), fold_told(decode_told(row.told), events)
    return _Look(row, state, told, lapses.untold(state, told, now_ms))


def _events(site: Site, look: _Look, stored: Mapping[int, EventRow]) -> Iterator[Event]:
    """The events to be appended for a look: of an account's row one for each visitor whose grants ended.

    A grant that is not there any more was erased, and is not told of.
    """
    for lapse in look.untold:
        grants = {seq: recorded(site.vault, stored[seq]).event for _, seq in lapse.grants if seq in stored}
        for visitor in sorted({grant.visitor for grant in grants.values()}):
            of_visitor = tuple(
                (purpose, seq) for purpose, seq in lapse.grants if seq in grants and grants[seq].visitor == visitor
            )
            name = "\n".join(
                (look.row.subject.hex(), lapse.type, str(lapse.at_ms), *(f"{p} {s}" for p, s in of_visitor))
            )
            grant = grants[of_visitor[0][1]]
            yield lapse_event(site.policies, lapse._replace(grants=of_visitor), grant, site.hasher.lapse_id(name))
