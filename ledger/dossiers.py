"""Gathers what a record of consent is made of: the stored event, its policy, the answers after it, what was shown.

Every answer is the service's own, so that a record never says anything else than `consent` would. What becomes of it
is the renderings' part (ledger/records).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from ledger import config
from ledger.core.encoding import decode_base64, decode_time
from ledger.core.errors import DocumentInvalid, NotFound
from ledger.core.event import decode_event
from ledger.core.fold import Recorded
from ledger.core.notice import read_notice
from ledger.messages import Receipt
from ledger.records.dossier import After, Dossier, Moment, Shown
from ledger.service import ConsentQuestion, Service
from ledger.site import Site, recorded


class _Found(NamedTuple):
    """One event of a visitor's history, and whether it was made in the visitor's own browser."""

    recorded: Recorded
    own: bool


async def gather(service: Service, site: Site, receipt: Receipt, base_url: str, *, whole: bool) -> Dossier:
    """The dossier of a receipt; `whole`: with what was shown and the visitor's history, which people want to see.

    Raises `Unavailable` as reads do.
    """
    event = decode_event(decode_base64(receipt.payload))
    recorded_ms = decode_time(receipt.recorded_at)
    cited = None if event.policy_version is None else site.policies.get(event.policy_version)
    if event.policy_version is not None and cited is None:
        await service.sites.refresh_policies(site)
        cited = site.policies.get(event.policy_version)
    in_force = site.policies.in_force(recorded_ms, receipt.seq)
    policy = cited or in_force
    dossier = Dossier(
        receipt=receipt,
        event=event,
        recorded_ms=recorded_ms,
        document=None if policy is None else policy.document,
        document_sha256="" if policy is None else policy.document_hash.hex(),
        cited=cited is not None,
        in_force=None if in_force is None else in_force.document.version,
        after=await _after(service, site, event.visitor, recorded_ms, receipt.seq, event.region),
        log_vkey=site.log_vkey,
        base_url=base_url,
        generated_ms=time.time_ns() // 1_000_000,
    )
    if not whole:
        return dossier
    found = await _history(service, site, event.visitor, Recorded(receipt.seq, recorded_ms, event))
    shown = found[-config.RECORD_TIMELINE_MAX_EVENTS :]
    there = {one.recorded.seq for one in found}
    named = {seq for one in found for seq in one.recorded.event.lapsed.values()}
    return dossier._replace(
        notice=(notice := await _shown(service, event.shown)),
        pictures=await _pictures(service, notice, event.language),
        timeline=tuple([await _moment(service, site, event.visitor, one) for one in shown]),
        left_out=len(found) - len(shown),
        erased=tuple(sorted(named - there)),
    )


async def _after(service: Service, site: Site, visitor: str, at_ms: int, seq: int, region: str | None) -> After:
    question = ConsentQuestion(visitor=visitor, at_ms=at_ms, known=seq, region=region)
    return (await service.consent(site, question)).decisions


async def _moment(service: Service, site: Site, visitor: str, found: _Found) -> Moment:
    seq, at_ms, event = found.recorded
    after = await _after(service, site, visitor, at_ms, seq, event.region)
    return Moment(seq, at_ms, event, found.own, after)


async def _history(service: Service, site: Site, visitor: str, this: Recorded) -> list[_Found]:
    """The visitor's events and those of every account that it was ever linked to, in the log's order.

    What was chosen for an account after the link to it ended is no more this browser's affair.
    """
    own = {one.seq: one for one in await _events(service, site, site.hasher.visitor(visitor))}
    own[this.seq] = this  # a choice for an account lies with the account
    found = {seq: _Found(one, True) for seq, one in own.items()}
    for account, ended_seq in _links(own.values()).items():
        for one in await _events(service, site, bytes.fromhex(account)):
            if ended_seq is None or one.seq < ended_seq or one.event.visitor == visitor:
                found[one.seq] = _Found(one, one.event.visitor == visitor)
    return [found[seq] for seq in sorted(found)]


def _links(own: Iterable[Recorded]) -> dict[str, int | None]:
    """Account (keyed hash) -> the entry that ended the link to it for the last time; None while it lasts. A link to
    another account ends the one before."""
    links: dict[str, int | None] = {}
    for one in sorted(own, key=lambda one: one.seq):
        account = one.event.account
        if account is None:
            continue
        if one.event.type == "account.linked":
            links |= {other: one.seq for other, ended_seq in links.items() if ended_seq is None}
            links[account] = None
        elif one.event.type != "account.unlinked":
            links.setdefault(account, None)  # chosen for it, so it was linked
        elif links.get(account) is None:
            links[account] = one.seq
    return links


async def _events(service: Service, site: Site, subject: bytes) -> list[Recorded]:
    """Every living event of a subject (keyed hash)."""
    events: list[Recorded] = []
    while True:
        after = events[-1].seq if events else -1
        page = await service.reads.history(site.site_id, subject, after, config.HISTORY_PAGE_MAX_EVENTS)
        events += [recorded(row) for row in page]
        if len(page) < config.HISTORY_PAGE_MAX_EVENTS:
            return events


async def _pictures(service: Service, notice: Shown | None, language: str | None) -> tuple[Shown, ...]:
    """The pictures that a notice artefact names, of the visitor's language, as far as a page may hold them."""
    if notice is None or notice.media_type != "application/json":
        return ()
    try:
        screenshots = read_notice(notice.body).screenshots
    except DocumentInvalid:
        return ()  # a document of another kind
    pictures: list[Shown] = []
    for screenshot in screenshots:
        if screenshot.language in (None, language):
            picture = await _shown(service, screenshot.document)
            size = sum(len(one.body) for one in pictures)
            if picture is not None and size + len(picture.body) <= config.RECORD_PICTURES_MAX_BYTES:
                pictures.append(picture)
    return tuple(pictures)


async def _shown(service: Service, sha256: str | None) -> Shown | None:
    if sha256 is None:
        return None
    try:
        media_type, body = await service.document(bytes.fromhex(sha256))
    except NotFound:
        return None
    return Shown(sha256, media_type, body)
