"""Ordering erasures, and telling how far they are. Carrying them out is the eraser's part (execution, eraser).

The administrative act comes first; then the order and the block are written in one transaction under the site's lock.
An order that is sent again under its id is the same order, and the same act; with other contents it is refused.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import cast
from uuid import UUID, uuid5

import msgspec

from ledger import config
from ledger.administration import Act, Administration, Who
from ledger.core.admin_act import decode_act
from ledger.core.duration import parse_duration
from ledger.core.encoding import decode_base64, encode_base64, encode_time
from ledger.core.entry import commit_of
from ledger.core.errors import InputRefused, NotFound
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


class Orders:
    """Orders of all sites. `batch_seconds`: how long an order may wait for others to be mixed with; 0: not at all."""

    def __init__(self, reads: Reads, administration: Administration, batch_seconds: float = 0.0) -> None:
        self._pool = reads.pool
        self._administration = administration
        self._batch_seconds = batch_seconds

    async def order(self, site: Site, request: ErasureInput, who: Who) -> ErasureStatus:
        """Block the subject from now on, and have its events erased (or, with the level `restrict`, left alone).

        The administrative act is recorded first. Raises `InputRefused`, as `id-conflict` where another order was sent
        under this id, and `Unavailable`.
        """
        subject, is_account = _subject(site, request)
        hold_for = _hold_for(request)
        erasure = UUID(request.id or new_event_id(time.time_ns() // 1_000_000))
        # The same for the same order, so that one sent again is the same act; nobody else can compute it.
        salt = site.hasher.content(b"erasure\n" + erasure.bytes)
        evidence = request.evidence or sha256(salt + request.instruction.encode()).hexdigest()
        details = {"reason": request.reason, "evidence": evidence, "level": request.level, "erasure": str(erasure)}
        act = who._replace(instruction=request.instruction).act("erasure.ordered", details)
        receipt = await self._administration.record(site.site, act, act_id=str(uuid5(erasure, "erasure.ordered")))
        if not _is_receipt_of(act, receipt):
            raise _other_order()
        told = {"instruction": request.instruction, "salt": encode_base64(salt)}
        outcome = await store.order(
            self._pool,
            site.site_id,
            erasure,
            subject,
            site.hasher.content(b"erasure of\n" + erasure.bytes + subject + (hold_for or "").encode()),
            is_account,
            request.level,
            request.reason,
            site.vault.seal(DETAILS, erasure.bytes, msgspec.json.encode(told)),
            bytes.fromhex(evidence),
            hold_for,
            receipt.position,
            round(self._batch_seconds * 1000),
        )
        if outcome == "taken":
            raise _other_order()
        if outcome == "blocked":
            raise InputRefused(
                "erasure-ordered",
                "This visitor was erased, or is about to be: there is nothing that could be restricted.",
                "/level",
            )
        return await self.status(site, str(erasure))

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
        )

    async def open_held(self, site: Site, erasure_id: str, instruction: str, who: Who) -> list[HeldOpening]:
        """The openings that are held as proof, opened. The act is recorded first; `NotFound` if nothing is held."""
        erasure = UUID(erasure_id)
        await store.job(self._pool, site.site_id, erasure)
        rows = await store.held_rows(self._pool, site.site_id, erasure)
        if not rows:
            raise NotFound("Nothing is held of this erasure, or no more: its term is over.")
        details = {"erasure": str(erasure), "count": str(len(rows))}
        await self._administration.record(site.site, who._replace(instruction=instruction).act("held.opened", details))
        found: list[HeldOpening] = []
        for row in rows:
            opened = site.vault.open(HELD, commit_of(row["entry"]), row["sealed"])
            salt, payload = split_opening(opened)
            found.append(
                HeldOpening(row["seq"], encode_base64(row["entry"]), encode_base64(salt), encode_base64(payload))
            )
        return found


def _is_receipt_of(act: Act, receipt: Receipt) -> bool:
    """Whether it is this act that was recorded, by whomever, and not another one under its id before."""
    recorded = decode_act(decode_base64(receipt.payload))
    return (recorded.instruction, recorded.details, recorded.flagged) == (act.instruction, act.details, act.flagged)


def _other_order() -> InputRefused:
    detail = (
        "Another order was sent under this id: its visitor or account, reason, level, instruction (or the flag on it), "
        "evidence or holdFor was not the same. Send it as it was to be told how far it is, or this one under a new id."
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
