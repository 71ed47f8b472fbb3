"""Ordering erasures, and telling how far they are. Carrying them out is the eraser's part (execution, eraser).

The administrative act comes first; then the order and the block are written in one transaction under the site's lock.
An order that is sent again under its id is the same order, and the same act; with other contents it is refused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple, cast
from uuid import UUID, uuid5

import asyncpg
import msgspec

from ledger import config
from ledger.administration import Act, Administration, Who
from ledger.core.admin_act import decode_act
from ledger.core.duration import parse_duration
from ledger.core.encoding import decode_base64, encode_base64, encode_time
from ledger.core.entry import commit_of
from ledger.core.errors import InputRefused, NotFound, Unavailable
from ledger.core.sealing import split_opening
from ledger.erasing import store
from ledger.erasing.messages import (
    ErasureEntry,
    ErasureInput,
    ErasureKept,
    ErasureLift,
    ErasureMark,
    ErasureStatus,
    HeldOpening,
    Level,
    Reason,
    State,
)
from ledger.messages import Receipt
from ledger.secrets import new_event_id
from ledger.site import Site
from ledger.store.reads import Reads

DETAILS = "erasure.sealed"
HELD = "held.sealed"
"""The columns that are sealed here; an order's details are bound to its id, held proof to the entry's commitment."""


class _One(NamedTuple):
    """An order that is being made, about one subject (keyed hash)."""

    id: UUID
    subject: bytes
    is_account: bool
    request: ErasureInput
    hold_for: str | None
    who: Who


class Orders:
    """Orders of all sites. `batch_seconds`: how long an order may wait for others to be mixed with; 0: not at all."""

    def __init__(self, reads: Reads, administration: Administration, batch_seconds: float = 0.0) -> None:
        self._reads = reads
        self._pool = reads.pool
        self._administration = administration
        self._batch_seconds = batch_seconds

    async def order(self, site: Site, request: ErasureInput, who: Who) -> ErasureStatus:
        """Block the subject from now on, and have its events erased (or, with the level `restrict`, left alone).

        The administrative act is recorded first. Raises `InputRefused`, as `id-conflict` where another order was sent
        under this id, and `Unavailable`.
        """
        subject, is_account = _subject(site, request)
        if request.with_browsers and (not is_account or request.level == "restrict"):
            detail = "withBrowsers goes with an account, and with no restriction: restrict each browser by itself."
            raise InputRefused("invalid-erasure", detail, "/withBrowsers")
        erasure = UUID(request.id or new_event_id(time.time_ns() // 1_000_000))
        one = _One(erasure, subject, is_account, request, _hold_for(request), who)
        if await store.find_job(self._pool, site.site_id, erasure) is None:
            await self._check_nothing_goes(site, one)
        if await self._make(site, one) == "browsers":
            await self._with_browsers(site, one)
        return await self.status(site, str(erasure))

    async def _with_browsers(self, site: Site, one: _One) -> None:
        """Order the browsers first: the order of their account destroys what tells which ones they are."""
        covered: set[bytes] = set()
        for _ in range(config.ERASURE_ATTEMPTS):
            found = await store.related(self._pool, site.site_id, one.subject)
            blocks = await self._reads.blocks(site.site_id, found)
            for subject in found:
                if subject not in covered and (subject not in blocks or blocks[subject].state != "restricted"):
                    name = site.hasher.content(b"browser of\n" + one.id.bytes + subject)  # nobody else can compute it
                    browser = one._replace(id=UUID(bytes=name, version=5), subject=subject, is_account=False)
                    await self._make(site, browser, account_order=one.id)
            covered.update(found)
            if await self._make(site, one, browsers=sorted(covered)) != "browsers":
                return
        raise Unavailable("erasure-unsettled", "Browsers are being linked to this account: send it again.", 5)

    async def _check_nothing_goes(self, site: Site, one: _One) -> None:
        """Before the act, which nobody takes back."""
        if one.request.level == "restrict":
            blocks = await self._reads.blocks(site.site_id, [one.subject])
            if any(block.state != "restricted" for block in blocks.values()):
                raise _already_erased()

    async def _make(
        self, site: Site, one: _One, *, account_order: UUID | None = None, browsers: Sequence[bytes] | None = None
    ) -> str:
        """The act, then the order: `ordered`, `known`, or `browsers` where some of those are to be ordered before."""
        request, erasure = one.request, one.id
        # The same for the same order, so that one sent again is the same act; nobody else can compute it.
        salt = site.hasher.content(b"erasure\n" + erasure.bytes)
        evidence = request.evidence or sha256(salt + request.instruction.encode()).hexdigest()
        details = {"reason": request.reason, "evidence": evidence, "level": request.level, "erasure": str(erasure)}
        act = one.who._replace(instruction=request.instruction).act("erasure.ordered", details)
        receipt = await self._administration.record(site.site, act, act_id=str(uuid5(erasure, "erasure.ordered")))
        if not _is_receipt_of(act, receipt):
            raise _other_order()
        told = {"instruction": request.instruction, "salt": encode_base64(salt)}
        wide = request.with_browsers and one.is_account
        named = (one.hold_for or "").encode() + (b" with browsers" if wide else b"")
        outcome = await store.order(
            self._pool,
            site.site_id,
            erasure,
            one.subject,
            site.hasher.content(b"erasure of\n" + erasure.bytes + one.subject + named),
            one.is_account,
            request.level,
            request.reason,
            site.vault.seal(DETAILS, erasure.bytes, msgspec.json.encode(told)),
            bytes.fromhex(evidence),
            one.hold_for,
            receipt.position,
            round(self._batch_seconds * 1000),
            account_order,
            (browsers or []) if wide else None,
        )
        if outcome == "taken":
            raise _other_order()
        if outcome == "blocked":
            raise _already_erased()
        return outcome

    async def lift(self, site: Site, erasure_id: str, request: ErasureLift, who: Who) -> ErasureStatus:
        """End a restriction. `NotFound`, or `InputRefused` where there is none to end, or another instruction did."""
        erasure = UUID(erasure_id)
        row = await store.job(self._pool, site.site_id, erasure)
        if row.status not in ("restricted", "lifted"):
            raise InputRefused("not-restricted", "This is no restriction that still stands: nothing can be lifted.")
        details = {"erasure": str(erasure), "level": row.level}
        if request.evidence is not None:
            details["evidence"] = request.evidence
        act = who._replace(instruction=request.instruction).act("erasure.lifted", details)
        receipt = await self._administration.record(site.site, act, act_id=str(uuid5(erasure, "erasure.lifted")))
        if not _is_receipt_of(act, receipt):
            detail = "It is lifted by another instruction already, or on other evidence: the administrative log has it."
            raise InputRefused("not-restricted", detail)
        await store.lift(self._pool, site.site_id, erasure)
        return await self.status(site, erasure_id)

    async def status(self, site: Site, erasure_id: str) -> ErasureStatus:
        """How far an order is; `NotFound` if the site has none of that id."""
        erasure = UUID(erasure_id)
        row = await store.job(self._pool, site.site_id, erasure)
        entries = await store.entries(self._pool, site.site_id, erasure)
        kept = await store.kept(self._pool, site.site_id, erasure)
        marks = await store.marks(self._pool, site.site_id, erasure)
        held = await store.held(self._pool, site.site_id, erasure)
        return ErasureStatus(
            site=site.site,
            id=str(erasure),
            level=cast(Level, row.level),
            reason=cast(Reason, row.reason),
            state=cast(State, row.status),
            requested_at=encode_time(row.requested_ms),
            due_at=encode_time(row.due_ms),
            evidence=row.evidence.hex(),
            act=row.act,
            ended_at=_time(row.ended_ms),
            events=row.events,
            entries=[
                ErasureEntry(each["seq"], f"{site.site}:{each['seq']}", encode_time(each["ms"]), each["events"])
                for each in entries
            ],
            kept=[ErasureKept(each["seq"], encode_time(each["until_ms"]), each["purposes"]) for each in kept],
            held=held["count"],
            held_until=_time(held["until_ms"]),
            marks=[ErasureMark(each["purpose"], encode_time(each["until_ms"])) for each in marks],
            blocked_until=_time(row.blocked_until_ms),
            restricted=row.awaits,
            browsers=[str(browser) for browser in row.browsers],
            browsers_left=row.browsers_left,
        )

    async def open_held(self, site: Site, erasure_id: str, instruction: str, who: Who) -> list[HeldOpening]:
        """The openings that are held of the person, opened. The act is recorded first; `NotFound` if there is none."""
        rows = await self._held_of(site, UUID(erasure_id))
        details = {"erasure": erasure_id, "count": str(len(rows))}
        await self._administration.record(site.site, who._replace(instruction=instruction).act("held.opened", details))
        found: list[HeldOpening] = []
        for row in rows:
            opened = site.vault.open(HELD, commit_of(row["entry"]), row["sealed"])
            salt, payload = split_opening(opened)
            found.append(
                HeldOpening(row["seq"], encode_base64(row["entry"]), encode_base64(salt), encode_base64(payload))
            )
        return found

    async def release_held(self, site: Site, erasure_id: str, request: ErasureLift, who: Who) -> ErasureStatus:
        """Destroy what is held of the person before its term, with its key: a further order never does, for it says
        nothing of the claim for which it is held. The act is recorded first; `NotFound` if nothing is held."""
        rows = await self._held_of(site, UUID(erasure_id))
        details = {"erasure": erasure_id, "count": str(len(rows))}
        if request.evidence is not None:
            details["evidence"] = request.evidence
        act = who._replace(instruction=request.instruction).act("held.released", details)
        await self._administration.record(site.site, act)
        await store.release(self._pool, site.site_id, [row["seq"] for row in rows])
        return await self.status(site, erasure_id)

    async def _held_of(self, site: Site, erasure: UUID) -> list[asyncpg.Record]:
        await store.job(self._pool, site.site_id, erasure)
        rows = await store.held_rows(self._pool, site.site_id, erasure)
        if not rows:
            raise NotFound("Nothing is held of whom it was about, or no more: it was let go, or its term is over.")
        return rows


def _already_erased() -> InputRefused:
    detail = "This visitor was erased, or is about to be: there is nothing that could be restricted."
    return InputRefused("erasure-ordered", detail, "/level")


def _is_receipt_of(act: Act, receipt: Receipt) -> bool:
    """Whether it is this act that was recorded, by whomever, and not another one under its id before."""
    recorded = decode_act(decode_base64(receipt.payload))
    return (recorded.instruction, recorded.details, recorded.flagged) == (act.instruction, act.details, act.flagged)


def _other_order() -> InputRefused:
    detail = (
        "Another order was sent under this id: its visitor or account, reason, level, instruction (or the flag on it), "
        "evidence, holdFor or withBrowsers was not the same. Send it as it was to be told how far it is, or this one "
        "under a new id."
    )
    return InputRefused("id-conflict", detail, "/id")


def _subject(site: Site, request: ErasureInput) -> tuple[bytes, bool]:
    if (request.visitor is None) == (request.account is None):
        raise InputRefused("invalid-erasure", "An erasure is about one visitor or about one account.", "/visitor")
    if request.account is not None:
        return bytes.fromhex(site.hasher.account(request.account)), True
    assert request.visitor is not None
    return site.hasher.visitor(request.visitor), False


def _hold_for(request: ErasureInput) -> str | None:
    """For how long proof is held, as it was written; None where none is."""
    if request.level != "hold":
        if request.hold_for is not None:
            raise InputRefused("invalid-erasure", "holdFor belongs to the level hold.", "/holdFor")
        return None
    text = request.hold_for or config.ERASURE_HOLD_FOR
    term = parse_duration(text)
    limit = parse_duration(f"P{config.ERASURE_HOLD_MAX_YEARS}Y")
    if term is None or limit is None or term.after(0) > limit.after(0):
        most = config.ERASURE_HOLD_MAX_YEARS
        raise InputRefused("invalid-erasure", f"holdFor is a period like P3Y, of {most} years at most.", "/holdFor")
    return text


def _time(ms: int | None) -> str | None:
    return None if ms is None else encode_time(ms)
