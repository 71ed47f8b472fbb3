"""Gathers what a record of consent is made of: the stored event, its policy, the answers after it, what was shown.

A record never says anything else than `consent` would; the answers along a history are computed here, as the service
computes them. What becomes of it all is the renderings' part (ledger/records).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import NamedTuple

from ledger import config
from ledger.core.decide import Evaluator, Mark
from ledger.core.encoding import decode_base64, decode_time
from ledger.core.errors import DocumentInvalid, NotFound
from ledger.core.event import Event, decode_event
from ledger.core.fold import EMPTY_STATE, Recorded, State, fold
from ledger.core.notice import read_notice
from ledger.core.policy import PolicyHistory
from ledger.messages import Receipt
from ledger.records.dossier import After, Dossier, Moment, Shown
from ledger.replies import purpose_decision
from ledger.service import ConsentQuestion, Service
from ledger.site import Site, recorded


class _Rows(NamedTuple):
    """A visitor's history as it is stored: under the visitor itself, and under each account (keyed hash) that it ever
    had to do with; `marks`, by account (the visitor's own under ""), stand in for what was erased of it."""

    visitor: str
    own: list[Recorded]
    of_accounts: dict[str, list[Recorded]]
    marks: dict[str, tuple[Mark, ...]]


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
    rows = await _rows(service, site, event)
    shown = _shown_seqs(rows, event)
    newest = frozenset(shown[-config.RECORD_TIMELINE_MAX_EVENTS :])
    there = {one.seq for one in (*rows.own, *(one for found in rows.of_accounts.values() for one in found))}
    named = {seq for one in rows.own for seq in one.event.lapsed.values()}
    notice = await _shown(service, event.shown)
    return dossier._replace(
        notice=notice,
        pictures=await _pictures(service, notice, event.language),
        timeline=await asyncio.to_thread(_timeline, site.policies, rows, newest),
        left_out=len(shown) - len(newest),
        erased=tuple(sorted(named - there)),
    )


async def _after(service: Service, site: Site, visitor: str, at_ms: int, seq: int, region: str | None) -> After:
    question = ConsentQuestion(visitor=visitor, at_ms=at_ms, known=seq, region=region)
    return (await service.consent(site, question)).decisions


# --- the visitor's history --------------------------------------------------------------------------------------------


async def _rows(service: Service, site: Site, event: Event) -> _Rows:
    subject = site.hasher.visitor(event.visitor)
    own = await _events(service, site, subject)
    accounts = {one.event.account for one in own} | {event.account}
    found = {account: await _events(service, site, bytes.fromhex(account)) for account in accounts if account}
    marks = await service.reads.marks(site.site_id, [subject, *map(bytes.fromhex, found)])
    return _Rows(event.visitor, own, found, {"" if of == subject else of.hex(): held for of, held in marks.items()})


def _shown_seqs(rows: _Rows, event: Event) -> list[int]:
    """Which events belong to the visitor's history, in the log's order: its own, and those of other browsers for an
    account. What was chosen for an account after the link to it ended is no more this browser's affair.
    """
    seqs = {one.seq for one in rows.own}
    links = _links(rows.own)
    for account, found in rows.of_accounts.items():
        ended_seq = links.get(account)
        seqs |= {one.seq for one in found if ended_seq is None or one.seq < ended_seq or _is_own(rows, one)}
    return sorted(seqs)


def _is_own(rows: _Rows, one: Recorded) -> bool:
    return one.event.visitor == rows.visitor


def _timeline(policies: PolicyHistory, rows: _Rows, seqs: frozenset[int]) -> tuple[Moment, ...]:
    """The events of these seqs, each with the answers right after it: what `consent` says with `at` its time and
    `knownAt` its seq, but folded once along the way instead of anew for each."""
    everything = [(one, "") for one in rows.own]
    everything += [(one, account) for account, found in rows.of_accounts.items() for one in found]
    states: dict[str, State] = {}
    known: dict[int, PolicyHistory] = {}
    moments: list[Moment] = []
    for one, account in sorted(everything, key=lambda row: row[0].seq):
        states[account] = fold(states.get(account, EMPTY_STATE), [one])
        if one.seq in seqs:
            then = policies.known(one.seq)
            then = known.setdefault(then.last_seq, then)  # what a history computed once serves every event under it
            state = states.get("", EMPTY_STATE)
            linked = None if state.account is None else states.get(state.account, EMPTY_STATE)
            marks = (*rows.marks.get("", ()), *rows.marks.get(state.account or "", ()))
            after = _decisions(then, state, linked, one, marks)
            moments.append(Moment(one.seq, one.recorded_ms, one.event, _is_own(rows, one), after))
    return tuple(moments)


def _decisions(
    policies: PolicyHistory, state: State, account: State | None, one: Recorded, marks: tuple[Mark, ...]
) -> After:
    in_force = policies.in_force(one.recorded_ms)
    purposes = [] if in_force is None else list(in_force.document.purposes)
    return {
        purpose: purpose_decision(
            Evaluator(policies, purpose, at_ms=one.recorded_ms, known_seq=one.seq).decide(
                state, one.event.region, account=account, marks=marks
            )
        )
        for purpose in purposes
    }


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
        events += [recorded(site.vault, row) for row in page]
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
