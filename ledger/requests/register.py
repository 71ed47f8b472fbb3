"""The register of requests: how each stands, and the steps that lead it on.

Each step is recorded in the administrative log first, under an id of the step's own, so one that is tried again after
a crash is the same act. Then it is carried out (an erasure is ordered under the request's own id), and at last the
register says so: what was not finished is finished by taking the step again. What may be done is
core/subject_request; how a visitor proves to be one is requests/visitors.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import asyncpg

from ledger import config
from ledger.administration import Administration, Who
from ledger.core.admin_act import ActWord, Role
from ledger.core.deadlines import Due, Period, Term, due, may_hold_gdpr, parse_offset, parse_period
from ledger.core.duration import DAY_MS
from ledger.core.encoding import encode_time
from ledger.core.errors import InputRefused, NotFound, Unavailable
from ledger.core.event import parse_time
from ledger.core.regions import is_region
from ledger.core.subject_request import (
    ANSWERS,
    Details,
    Kind,
    Outcome,
    Party,
    State,
    Step,
    Taken,
    encode_details,
    evidence_of,
    take,
)
from ledger.erasing.messages import ErasureInput
from ledger.erasing.orders import Orders
from ledger.requests.messages import RequestList, RequestRegistration, RequestStatus, RequestStepInput
from ledger.requests.telling import DETAILS, INSTRUCTION, binding, details_of, told
from ledger.site import Site
from ledger.store import requests as store
from ledger.store.requests import Entry, RequestRow

SALT_BYTES = 32
_ACTS: Mapping[Step, ActWord] = {
    "receive": "request.registered",
    "prove": "request.registered",
    "identify": "request.registered",
    "forward": "request.forwarded",
    "extend": "request.extended",
    "instruct": "request.instructed",
    "answer": "request.answered",
    "refuse": "request.answered",
}
_PARTIES: Mapping[Role, Party] = {"visitor": "visitor", "ledger": "ledger"}
_FORWARD, _ANSWER = RequestStepInput("forward"), RequestStepInput("answer")

VISITOR = Who("visitor", "visitor")
LEDGER = Who("ledger", "ledger")
"""Neither has an address: no visitor's is kept anywhere."""


def _party(who: Who) -> Party:
    return _PARTIES.get(who.role, "operator")


class Requests:
    """The registers of this ledger's sites. Every call raises `Unavailable` if what it needs does not answer."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        administration: Administration,
        orders: Orders,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.pool = pool
        self.wall_ms = wall_ms
        self._administration = administration
        self._orders = orders

    # --- steps -------------------------------------------------------------------------------------------------------

    async def register(self, site: Site, asked: RequestRegistration, who: Who) -> tuple[RequestStatus, bool]:
        """Enter a request that came otherwise; whether it was entered now. `InputRefused`: its id is another's."""
        if asked.visitor is not None and asked.account is not None:
            raise InputRefused("invalid-request", "Name a visitor or an account, not both.", "/account")
        if asked.identified and asked.visitor is None and asked.account is None:
            detail = "Whoever was identified is a visitor or an account of the site: name which."
            raise InputRefused("invalid-request", detail, "/identified")
        now = self.wall_ms()
        received = now if asked.received_at is None else parse_time(asked.received_at, "/receivedAt")
        if received > now:
            raise InputRefused("invalid-request", "A request was not received in the future.", "/receivedAt")
        if received < now - config.REQUEST_RECEIVED_MAX_DAYS * DAY_MS:
            detail = f"A request is entered within {config.REQUEST_RECEIVED_MAX_DAYS} days of the day it was received."
            raise InputRefused("invalid-request", detail, "/receivedAt")
        if asked.region is not None and not is_region(asked.region):
            detail = f"{asked.region} is no country of ISO 3166: leave it out, and the strictest deadline counts."
            raise InputRefused("invalid-request", detail, "/region")
        request_id = asked.id or new_request_id()
        known = None if asked.id is None else await store.one(self.pool, site.site_id, request_id)
        if known is not None:
            if _differs(details_of(site, known), asked, received):
                detail = "Another request was registered under this id. Send it as it was, or this one under a new id."
                raise InputRefused("id-conflict", detail, "/id")
            return await self.status(site, request_id), False
        details = Details(
            site=site.site,
            id=request_id,
            kind=asked.kind,
            received_at=encode_time(received),
            salt=os.urandom(SALT_BYTES).hex(),
            visitor=asked.visitor,
            account=asked.account,
            contact=asked.contact,
            region=asked.region,
        )
        step: Step = "identify" if asked.identified else "receive"
        entered = await self.enter(site, details, step, who, received)
        return await self.status(site, entered), entered == request_id

    async def enter(self, site: Site, details: Details, step: Step, who: Who, received_ms: int) -> str:
        """Enter a request with its first step; its id, or that of one of the same person and kind that waits already.

        `InputRefused` if one of this id is there, `Unavailable` if too many wait.
        """
        if await store.waiting(self.pool, site.site_id) >= config.REQUESTS_OPEN_MAX:
            raise _full()  # before the act: minting visitor ids must not fill the administrative log either
        state: State = "received" if step == "receive" else "proven"
        encoded = encode_details(details)
        evidence = evidence_of(encoded)
        due = terms_of(site, details.region, received_ms, self.wall_ms())
        about = {"kind": details.kind, "state": state, "evidence": evidence.hex(), "until": encode_time(due.due_ms)}
        if details.region is not None:
            about["region"] = details.region
        act = await self._act(site, details.id, 1, step, who, None, about)
        entry = Entry(
            id=details.id,
            kind=details.kind,
            state=state,
            step=step,
            party=_party(who),
            subject=_subject(site, details),
            details=site.vault.seal(DETAILS, binding(details.id), encoded),
            evidence=evidence,
            received_ms=received_ms,
            due_ms=due.due_ms,
            extendable_to_ms=due.extendable_to_ms,
            challenged_ms=received_ms if step == "prove" else 0,
        )
        outcome, other = await store.register(self.pool, site.site_id, entry, act, config.REQUESTS_OPEN_MAX)
        if outcome == "full":
            raise _full()
        if outcome == "known":
            raise InputRefused("request-changed", "A request of this id was entered meanwhile: look again.", "/id")
        return details.id if other is None else other

    async def take(self, site: Site, request_id: str, asked: RequestStepInput, who: Who) -> RequestStatus:
        """Lead a request on. An instructed erasure is ordered; the rest is the person's own to fetch or to do."""
        await self._lead_on(site, await self.row(site, request_id), asked, who)
        return await self.status(site, request_id)

    async def forward(self, site: Site, row: RequestRow) -> None:
        """By the ledger itself: the controller's webhook is told."""
        await self._lead_on(site, row, _FORWARD, LEDGER)

    async def answer(self, site: Site, row: RequestRow) -> None:
        """By the ledger itself: what was instructed is done. That somebody else said so meanwhile is as good."""
        try:
            await self._lead_on(site, row, _ANSWER, LEDGER)
        except InputRefused as error:
            if error.kind != "request-changed":
                raise

    async def settle_erasure(self, site: Site, row: RequestRow) -> bool:
        """Answer a request whose erasure is done; whether it is."""
        if await self._erased(site, row) is None:
            return False
        await self.answer(site, row)
        return True

    async def _outcome(self, site: Site, row: RequestRow, taken: Taken) -> str | None:
        """What the act says came of the step."""
        if taken.step != "answer":
            return taken.reason
        if row.kind != "erasure":
            return ANSWERS[row.kind]
        if (outcome := await self._erased(site, row)) is None:
            detail = "The erasure is not done yet: the request is answered by itself once it is."
            raise InputRefused("request-step-refused", detail, "/step")
        return outcome

    async def _erased(self, site: Site, row: RequestRow) -> Outcome | None:
        """What came of a request to be erased; None while nothing has."""
        try:
            status = await self._orders.status(site, row.id)
        except NotFound:
            return "erased" if row.details is None else None  # the person was forgotten for another reason
        if status.state not in ("erased", "restricted"):
            return None
        browsers = [await self._orders.status(site, browser) for browser in status.browsers]
        return None if any(browser.state == "pending" for browser in browsers) else status.state

    async def _lead_on(self, site: Site, row: RequestRow, asked: RequestStepInput, who: Who) -> None:
        taken = take(row.state, asked.step, _party(who), reason=asked.reason, instruction=asked.instruction)
        if asked.level != "erase" and (asked.step, row.kind) != ("instruct", "erasure"):
            raise InputRefused("invalid-request", "level goes with the instruction to erase.", "/level")
        if taken.step == "identify" and row.subject is None:
            detail = "It names neither a visitor nor an account: refuse it, and register it anew with who was found."
            raise InputRefused("request-step-refused", detail, "/step")
        until = None if asked.until is None else parse_time(asked.until, "/until")
        if taken.step == "extend":
            until = row.dates.extended(until, self.wall_ms())
        elif until is not None:
            raise InputRefused("invalid-request", "until goes with the step extend.", "/until")
        outcome = await self._outcome(site, row, taken)
        about = {"kind": row.kind, "state": taken.state, "evidence": row.evidence.hex()}
        about |= {"until": encode_time(until or row.due_ms)} | ({} if outcome is None else {"outcome": outcome})
        act = await self._act(site, row.id, row.steps + 1, taken.step, who, taken.instruction, about)
        sealed = None
        if taken.instruction is not None and taken.step != "extend":
            sealed = site.vault.seal(INSTRUCTION, binding(row.id), taken.instruction.encode("ascii"))
            if taken.step == "instruct" and row.kind == "erasure":
                await self._order(site, row, asked, taken.instruction, who)
        if not await store.advance(self.pool, site.site_id, row, taken, act, sealed, until):
            raise InputRefused("request-changed", "Another step was taken meanwhile: look again.", "/step")

    async def _order(self, site: Site, row: RequestRow, asked: RequestStepInput, instruction: str, who: Who) -> None:
        """Under the request's own id, so that it is ordered once."""
        details = details_of(site, row)
        if details is None:
            return  # whoever asked was forgotten meanwhile
        order = ErasureInput(
            reason="subject_request",
            instruction=instruction,
            visitor=details.visitor,
            account=details.account,
            level=asked.level,
            evidence=row.evidence.hex(),
            id=row.id,
            with_browsers=details.account is not None and asked.level != "restrict",  # whoever asks means themself
        )
        await self._orders.order(site, order, who)

    async def _act(
        self,
        site: Site,
        request_id: str,
        n: int,
        step: Step,
        who: Who,
        instruction: str | None,
        about: Mapping[str, str],
    ) -> str:
        """Record the act of a step; its position. The same step tried again is the same act."""
        cited = who if instruction is None else who._replace(instruction=instruction)
        named = "\n".join([request_id, str(n), step, *map(str, cited), *about.values()])
        act = cited.act(_ACTS[step], {"request": request_id, **about})
        act_id = site.hasher.derived_id(named)
        return (await self._administration.record(site.site, act, act_id=act_id)).position

    async def record_download(self, site: Site, request_id: str, download_id: str) -> None:
        """Put on record that a visitor gets a link, before it is made."""
        details = {"kind": "person", "target": "download", "download": download_id, "request": request_id}
        await self._administration.record(site.site, VISITOR.act("export.made", details))

    # --- reading -----------------------------------------------------------------------------------------------------

    async def row(self, site: Site, request_id: str) -> RequestRow:
        """`NotFound` if the site has no request of this id."""
        row = await store.one(self.pool, site.site_id, request_id)
        if row is None:
            raise NotFound("The site has no request of this id.")
        return row

    async def status(self, site: Site, request_id: str, *, to_visitor: bool = False) -> RequestStatus:
        """A request as it stands, with its steps. `to_visitor` leaves out what only operators are told."""
        row = await self.row(site, request_id)
        steps = await store.steps(self.pool, site.site_id, request_id)
        return told(site, row, steps, self.wall_ms(), to_visitor=to_visitor)

    async def page(
        self,
        site: Site,
        *,
        state: State | None = None,
        kind: Kind | None = None,
        overdue: bool = False,
        cursor: str | None = None,
        limit: int = config.REQUEST_PAGE_DEFAULT,
    ) -> RequestList:
        """Requests, the newest first, without their steps."""
        after = None if cursor is None else _after(cursor)
        rows = await store.page(
            self.pool, site.site_id, state=state, kind=kind, overdue=overdue, after=after, limit=limit + 1
        )
        last = rows[limit - 1] if len(rows) > limit else None
        now = self.wall_ms()
        return RequestList(
            site.site,
            [told(site, row, (), now, to_visitor=False) for row in rows[:limit]],
            None if last is None else f"{last.received_ms}.{last.id}",
        )

    # --- forgetting --------------------------------------------------------------------------------------------------

    async def forget(self, site: Site, subjects: Sequence[bytes]) -> int:
        """Forget who asked, of these subjects (keyed hashes); how many requests it was. Called with their erasure."""
        return await store.forget(self.pool, site.site_id, subjects)

    async def forget_ended(self, site: Site) -> int:
        """Forget who asked, of requests that ended so long ago that nobody can hold us to account for them; of a site
        that is closed all that have ended."""
        kept_ms = 0 if site.closed else config.REQUEST_DETAILS_SECONDS * 1000
        return await store.forget(self.pool, site.site_id, None, self.wall_ms() - kept_ms)


def terms_of(site: Site, region: str | None, received_ms: int, now_ms: int) -> Due:
    """When the answer to a request is due, by the policy in force; the strictest where something is not known. Where it
    says nothing of a place in which the GDPR may hold, its article 12(3) does."""
    extension = _EXTENSION if may_hold_gdpr(region) else None
    otherwise = tuple(Term(within, extension) for within in _OTHERWISE)
    in_force = site.policies.in_force(now_ms)
    if in_force is None:
        return due({}, region, received_ms, otherwise=otherwise)
    document = in_force.document
    return due(
        {key: Term(within, document.answer_extension.get(key)) for key, within in document.answer_within.items()},
        region,
        received_ms,
        otherwise=otherwise,
        offset_minutes=parse_offset(document.utc_offset) or 0,
        to_working_day=document.answer_on_working_day,
    )


def _differs(known: Details | None, asked: RequestRegistration, received_ms: int) -> bool:
    """Whether another request was registered; of one that was forgotten nobody knows."""
    if known is None:
        return False
    mine = (asked.kind, asked.visitor, asked.account, asked.contact, asked.region)
    moved = asked.received_at is not None and known.received_at != encode_time(received_ms)
    return moved or mine != (known.kind, known.visitor, known.account, known.contact, known.region)


def _full() -> Unavailable:
    detail = f"{config.REQUESTS_OPEN_MAX:,} requests of this site wait for their answer; try again later."
    return Unavailable("register-full", detail, 3600)


def new_request_id() -> str:
    """A random UUID (v4): it tells nothing, not even when."""
    return str(UUID(bytes=os.urandom(16), version=4))


def _period(text: str) -> Period:
    period = parse_period(text)
    assert period is not None
    return period


_OTHERWISE = tuple(map(_period, config.REQUEST_ANSWER_WITHIN))
_EXTENSION = _period(config.REQUEST_EXTENSION)


def _subject(site: Site, details: Details) -> bytes | None:
    if details.account is not None:
        return bytes.fromhex(site.hasher.account(details.account))
    return None if details.visitor is None else site.hasher.visitor(details.visitor)


def _after(cursor: str) -> tuple[int, str]:
    received, _, request_id = cursor.partition(".")
    try:
        if received.isascii() and received.isdigit() and len(received) <= 15 and str(UUID(request_id)) == request_id:
            return int(received), request_id
    except ValueError:
        pass
    raise InputRefused("invalid-cursor", "Send the cursor as a page gave it.")
