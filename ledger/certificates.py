"""Certificates of erasure, made of what the log and the tables beside it hold, and signed by the site's receipt key.

What a certificate says is core/certificate's. It is made anew whenever it is asked for, so that it tells what consumers
have confirmed by then, and none is handed out that would not be verified.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from hashlib import sha256
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from ledger import config
from ledger.consumers import Consumer
from ledger.core.certificate import (
    FORMAT,
    Certificate,
    CertifiedConsumer,
    CertifiedEntry,
    CertifiedKept,
    CertifiedMark,
    ranges,
    sign_certificate,
)
from ledger.core.certificate_check import verify_certificate
from ledger.core.encoding import decode_base64, encode_base64, encode_time
from ledger.core.entry import decode, decode_seqs
from ledger.core.errors import InputRefused, NotFound, Unavailable
from ledger.core.jws import thumbprint
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.erasing import store
from ledger.erasing.orders import DETAILS
from ledger.keys.receipts import ReceiptKeys
from ledger.published import Leaf
from ledger.service import Service
from ledger.site import Site
from ledger.store.ask import ask

log = logging.getLogger(__name__)

_ERASURE = """
select e.is_account, e.level, e.reason, e.evidence, e.act, e.sealed, e.status, e.requested_ms, e.blocked_ms, e.ended_ms,
       (select max(b.until_ms) from ledger.block b
         where b.site_id = e.site_id and b.subject = e.subject and b.state = 'erased'
       ) as blocked_until_ms,
       (select min(s.at) from ledger.scrub s where s.relation = any ('{opening,state,known,unfolded}')
        having bool_and(s.at is not null)) as rewritten_at
  from ledger.erasure e where e.site_id = $1 and e.id = $2
"""

# Each entry with the evidence of all who were erased by it.
_ENTRIES = """
select n.seq, n.events,
       (select array_agg(distinct o.evidence) from ledger.erasure_entry m
          join ledger.erasure o on o.site_id = m.site_id and o.id = m.erasure
         where m.site_id = n.site_id and m.seq = n.seq) as requests
  from ledger.erasure_entry n where n.site_id = $1 and n.erasure = $2 order by n.seq
"""

_ERASED = """
select e.id from ledger.erasure e
 where e.site_id = $1 and e.id > $2 and e.status = 'erased' order by e.id limit $3
"""

_SIGNED_AT = "select c.signed_at from ledger.checkpoint c where c.site_id = $1 and c.size > $2 order by c.size limit 1"


class _Details(Struct):
    """What an order keeps sealed. Where no evidence was sent with it, the two are what the evidence was made of."""

    instruction: str
    salt: str


async def certificate(service: Service, keys: ReceiptKeys, site: Site, erasure_id: str) -> bytes:
    """The signed certificate of an erasure.

    `NotFound` where the site knows no such erasure; `InputRefused` while it is not complete, and for a restriction;
    `Unavailable` where the proof is not to be had now, or this server holds no receipt key.
    """
    key = await keys.signing(site, service.sites.loaded())
    told = await _certificate(service, site, UUID(erasure_id))
    token = sign_certificate(told, key)
    report = verify_certificate(token, [parse_vkey(site.log_vkey, TYPE_ED25519)], [thumbprint(key.public)])
    if not report.verified:
        why = "; ".join(f"{check.name}: {check.detail}" for check in report.failures)
        log.error("site %s: the certificate of erasure %s would not be verified (%s)", site.site, erasure_id, why)
        raise Unavailable("certificate-unsound", f"What is stored does not certify the erasure: {why}.", 60)
    return token


async def certified(service: Service, site: Site) -> AsyncIterator[str]:
    """The ids of the site's erasures that are complete, a page at a time."""
    after = UUID(int=0)
    while True:
        rows = await ask(service.reads.pool, _ERASED, site.site_id, after, config.CERTIFICATES_PAGE)
        for row in rows:
            yield str(row["id"])
        if len(rows) < config.CERTIFICATES_PAGE:
            return
        after = rows[-1]["id"]


async def _certificate(service: Service, site: Site, erasure: UUID) -> Certificate:
    pool = service.reads.pool
    rows = await ask(pool, _ERASURE, site.site_id, erasure)
    if not rows:
        raise NotFound("The site knows no erasure of this id.")
    (row,) = rows
    if row["status"] != "erased":
        raise InputRefused(
            "erasure-not-complete",
            "A certificate is about what was erased: this is still pending, or a restriction.",
        )
    details = msgspec.json.decode(site.vault.open(DETAILS, erasure.bytes, row["sealed"]), type=_Details)
    salt = decode_base64(details.salt)
    derived = sha256(salt + details.instruction.encode()).digest() == row["evidence"]
    entries = await _entries(service, site, await ask(pool, _ENTRIES, site.site_id, erasure))
    last_seq = entries[-1].seq if entries else None
    signed = await ask(pool, _SIGNED_AT, site.site_id, last_seq) if entries else []
    ordered = await store.job(pool, site.site_id, erasure)
    held = await store.held(pool, site.site_id, erasure)
    keep_ms = service.sites.settings.backup_keep_ms if entries else None
    return Certificate(
        format=FORMAT,
        site=site.site,
        origin=site.origin,
        log_id=site.log_id.hex(),
        log_vkey=site.log_vkey,
        erasure=str(erasure),
        subject="account" if row["is_account"] else "visitor",
        level=row["level"],
        reason=row["reason"],
        evidence=row["evidence"].hex(),
        act=row["act"],
        requested_at=encode_time(row["requested_ms"]),
        blocked_at=encode_time(row["blocked_ms"]),
        erased_at=encode_time(row["ended_ms"]),
        issued_at=encode_time(max(time.time_ns() // 1_000_000, row["ended_ms"])),
        published_at=encode_time(int(signed[0]["signed_at"].timestamp() * 1000)) if signed else None,
        events=sum(entry.events for entry in entries),
        entries=entries,
        kept=[
            CertifiedKept(kept["seq"], encode_time(kept["until_ms"]), list(kept["purposes"]))
            for kept in await store.kept(pool, site.site_id, erasure)
        ],
        held=held["count"],
        held_until=None if held["until_ms"] is None else encode_time(held["until_ms"]),
        marks=[
            CertifiedMark(mark["purpose"], encode_time(mark["until_ms"]))
            for mark in await store.marks(pool, site.site_id, erasure)
        ],
        browsers=[str(browser) for browser in ordered.browsers],
        browsers_left=ordered.browsers_left,
        blocked_until=None if row["blocked_until_ms"] is None else encode_time(row["blocked_until_ms"]),
        instruction=details.instruction,
        evidence_salt=details.salt if derived else None,
        rewritten_at=_time_of(row["rewritten_at"], row["ended_ms"]),
        backups_until=None if keep_ms is None else encode_time(row["ended_ms"] + keep_ms),
        consumers=[_consumer(one, last_seq) for one in await service.consumers.all(site)],
    )


async def _entries(service: Service, site: Site, rows: Sequence[asyncpg.Record]) -> list[CertifiedEntry]:
    """The erasure entries with records and proofs; `Unavailable` while no checkpoint covers the last one."""
    found: list[CertifiedEntry] = []
    for start in range(0, len(rows), config.PROOFS_AT_ONCE):
        page = rows[start : start + config.PROOFS_AT_ONCE]
        stored = [await service.reads.receipt_at(site.site_id, row["seq"]) for row in page]
        leaves = [Leaf(one.seq, leaf_hash(one.entry)) for one in stored]
        proofs = await service.published.prove_all(site.site_id, leaves)
        for row, one, proven in zip(page, stored, proofs, strict=True):
            if proven.proof is None:
                detail = "No checkpoint covers the erasure yet; try again in a moment."
                raise Unavailable("checkpoint-pending", detail)
            if one.sealed is None:
                raise Unavailable("certificate-unsound", f"The record of entry {one.seq} is not there: `verify`.", 60)
            entry = decode(one.entry)
            salt, record = site.vault.open_opening(entry.commit, one.sealed)
            found.append(
                CertifiedEntry(
                    seq=one.seq,
                    recorded_at=encode_time(entry.ms),
                    events=row["events"],
                    erased=ranges(decode_seqs(entry.public)),
                    requests=sorted(evidence.hex() for evidence in row["requests"]),
                    entry=encode_base64(one.entry),
                    salt=encode_base64(salt),
                    record=encode_base64(record),
                    proof=proven.proof,
                )
            )
    return found


def _consumer(one: Consumer, last_seq: int | None) -> CertifiedConsumer:
    if one.confirmed_ms is None:
        return CertifiedConsumer(one.name, confirmed=last_seq is None or last_seq <= one.position)
    return CertifiedConsumer(
        one.name,
        f"{one.site}:{one.position}",
        encode_time(one.confirmed_ms),
        confirmed=last_seq is None or last_seq <= one.position,
    )


def _time_of(rewritten_at: datetime | None, ended_ms: int) -> str | None:
    """When the tables were last rewritten, if that was after the erasure."""
    at_ms = 0 if rewritten_at is None else int(rewritten_at.timestamp() * 1000)
    return encode_time(at_ms) if at_ms > ended_ms else None
