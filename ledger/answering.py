"""Answering questions about visitors: what each may be processed for, what it chose, and the receipt of an event.

The rules are core/decide. Every answer shows each event whose receipt was given before the question was asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from ledger import config
from ledger.core.decide import Evaluator
from ledger.core.encoding import decode_base64, decode_decimal, encode_time
from ledger.core.errors import InputRefused, Malformed, NotFound, Unavailable
from ledger.core.event import ANY_PURPOSE, Event, decode_event, parse_time
from ledger.messages import CheckAnswer, CheckInput, CheckResults, Consent, History, HistoryItem, Receipt
from ledger.own_events import own_events
from ledger.replies import check_answer, forgotten, purpose_decision, stored_receipt
from ledger.site import Site, SiteRegistry, recorded, state_of
from ledger.standing import Standing, acts_of, standing_now, standing_then
from ledger.store.reads import Reads


class ConsentQuestion(NamedTuple):
    """One visitor's decisions: for which purposes (None: all), when, as known when, seen from where.

    `known` is a seq (inclusive) or, with `known_is_time`, a time in ms: what was recorded before it. `explain`: with
    the rules that led to each, in words. An operator at the command line gets an answer about anybody; others are
    refused where the visitor is about to be erased, and a frontend where the visitor is restricted too.
    """

    visitor: str
    purposes: Sequence[str] | None = None
    at_ms: int | None = None
    known: int | None = None
    known_is_time: bool = False
    region: str | None = None
    gpc: bool = False
    min_position: int | None = None
    explain: bool = False
    asked_by: Literal["frontend", "backend", "operator"] = "backend"


class Answers:
    """Answers from the logs of all sites."""

    def __init__(self, sites: SiteRegistry, reads: Reads) -> None:
        self.sites = sites
        self.reads = reads

    async def consent(self, site: Site, question: ConsentQuestion) -> Consent:
        """One visitor's decisions, read after every write that was answered before."""
        visitor = site.hasher.visitor(question.visitor)
        if question.min_position is not None:
            await self._wait_for(site, question.min_position)
        now = await standing_now(self.reads, site, [visitor])
        await self._fresh_policies(site, now.policy_seq)
        known_seq = await self._known_seq(site, question, now.size)
        at_ms = now.now_ms if question.at_ms is None else question.at_ms
        standing = now.standings[0]
        if known_seq is not None or at_ms < now.now_ms:
            last_seq = now.size - 1 if known_seq is None else known_seq
            standing = (await standing_then(self.reads, site, [visitor], at_ms, last_seq))[0]
        _refuse_blocked(standing, question)
        evaluators = {
            purpose: Evaluator(site.policies, purpose, at_ms=at_ms, known_seq=known_seq)
            for purpose in self._purposes(site, question, at_ms, known_seq)
        }
        explanations = await self._explained(site, question, evaluators, standing) if question.explain else {}
        in_force = site.policies.in_force(at_ms, known_seq)
        return Consent(
            site=site.site,
            visitor=question.visitor,
            position=f"{site.site}:{now.size - 1}",
            policy_version=None if in_force is None else in_force.document.policy.version,
            linked=standing.account is not None,
            erased=standing.block == "erased",
            decisions={
                purpose: purpose_decision(
                    evaluator.decide(
                        standing.state,
                        question.region,
                        question.gpc,
                        standing.account,
                        standing.marks,
                        standing.blocked,
                    ),
                    explanations.get(purpose, ()),
                )
                for purpose, evaluator in evaluators.items()
            },
        )

    async def check(self, site: Site, question: CheckInput) -> CheckResults:
        """Decisions for many visitors at one moment."""
        asked = [(v, None) if isinstance(v, str) else (v.visitor, v.region) for v in question.visitors]
        regions: dict[str, str | None] = {}
        for n, (visitor, region) in enumerate(asked):
            if regions.setdefault(visitor, region) != region:
                raise InputRefused(
                    "invalid-check", "A visitor stands here twice, in two regions: ask for one.", f"/visitors/{n}"
                )
        if ANY_PURPOSE in question.purposes:
            raise InputRefused(
                "invalid-check",
                'The purpose "*" is only denied, never asked for: name the purposes that the answer is to be about.',
                f"/purposes/{question.purposes.index(ANY_PURPOSE)}",
            )
        asked_ms = None if question.at is None else parse_time(question.at, "/at")
        hashes = [site.hasher.visitor(visitor) for visitor in regions]
        now = await standing_now(self.reads, site, hashes)
        await self._fresh_policies(site, now.policy_seq)
        at_ms = now.now_ms if asked_ms is None else asked_ms
        standings = now.standings
        if at_ms < now.now_ms:
            standings = await standing_then(self.reads, site, hashes, at_ms, now.size - 1)
        evaluators = {purpose: Evaluator(site.policies, purpose, at_ms=at_ms) for purpose in question.purposes}
        results: dict[str, dict[str, CheckAnswer]] = {}
        for n, ((visitor, region), standing) in enumerate(zip(regions.items(), standings, strict=True)):
            if n % config.CHECK_SLICE_VISITORS == 0:
                await asyncio.sleep(0)  # other requests go on while a large check is decided
            seen_from = region or question.region
            results[visitor] = {
                purpose: check_answer(
                    evaluator.decide(
                        standing.state, seen_from, False, standing.account, standing.marks, standing.blocked
                    )
                )
                for purpose, evaluator in evaluators.items()
            }
        return CheckResults(position=f"{site.site}:{now.size - 1}", results=results)

    async def history(self, site: Site, visitor: str, cursor: str | None, limit: int) -> History:
        """A page of the events of a visitor, those among them that it made for an account too; the cursor is the last
        seq of the page before.
        """
        try:
            after = -1 if cursor is None else decode_decimal(cursor)
        except Malformed as error:
            raise InputRefused("invalid-cursor", "Use the `next` of the page before as cursor.") from error
        subject = site.hasher.visitor(visitor)
        row = (await self.reads.visitors(site.site_id, [subject]))[0]
        if row.block is not None and row.block.state != "restricted":
            raise forgotten()
        # Nothing beyond this moment: a visitor that is linked a moment later may have an event for its account below
        # one that this page ended with.
        last_seq = row.size - 1
        if state_of(site.vault, row).link is None:
            page = (await self.reads.histories(site.site_id, [subject], [after], last_seq, limit + 1))[0]
            rows = [recorded(site.vault, row) for row in page]
        else:
            rows = await own_events(self.reads, site, visitor, after, last_seq, limit + 1)
        items = [
            HistoryItem(seq=row.seq, recorded_at=encode_time(row.recorded_ms), event=row.event) for row in rows[:limit]
        ]
        return History(
            site=site.site,
            visitor=visitor,
            events=items,
            next=str(items[-1].seq) if len(rows) > limit else None,
        )

    async def receipt(self, site: Site, event_id: str) -> Receipt:
        """The receipt of an event; `NotFound` or `Erased` otherwise."""
        row = await self.reads.receipt(site.site_id, site.hasher.event_id(event_id))
        if row is None:
            raise NotFound("The site's log has no event of this id.")
        receipt = stored_receipt(site, row)
        await self.refuse_forgotten(site, decode_event(decode_base64(receipt.payload)))
        return receipt

    async def refuse_forgotten(self, site: Site, event: Event) -> None:
        """Tell nothing more of an event whose visitor, or account, is about to be erased."""
        subjects = [site.hasher.visitor(event.visitor)]
        if event.account is not None:
            subjects.append(bytes.fromhex(event.account))
        blocks = await self.reads.blocks(site.site_id, subjects)
        if any(block.state == "pending" for block in blocks.values()):
            raise forgotten()

    async def _explained(
        self, site: Site, question: ConsentQuestion, evaluators: Mapping[str, Evaluator], standing: Standing
    ) -> dict[str, tuple[str, ...]]:
        """Purpose -> how the rules came to its decision."""
        events = [recorded(site.vault, row) for row in await self.reads.events_at(site.site_id, acts_of(standing))]
        return {
            purpose: evaluator.explain(
                standing.state,
                question.region,
                question.gpc,
                account=standing.account,
                marks=standing.marks,
                events=events,
                blocked=standing.blocked,
            )
            for purpose, evaluator in evaluators.items()
        }

    def _purposes(self, site: Site, question: ConsentQuestion, at_ms: int, known_seq: int | None) -> Sequence[str]:
        if question.purposes is not None:
            return question.purposes
        in_force = site.policies.in_force(at_ms, known_seq)
        return [] if in_force is None else list(in_force.document.purposes)

    async def _known_seq(self, site: Site, question: ConsentQuestion, size: int) -> int | None:
        if question.known is None:
            return None
        if question.known_is_time:
            return await self.reads.last_seq_before(site.site_id, question.known)
        if question.known >= size:
            raise InputRefused("invalid-query", f"knownAt lies beyond the log, whose last seq is {size - 1}.")
        return question.known

    async def _fresh_policies(self, site: Site, policy_seq: int) -> None:
        if site.policies.last_seq < policy_seq:
            await self.sites.refresh_policies(site)

    async def _wait_for(self, site: Site, position: int) -> None:
        deadline = time.monotonic() + config.MIN_POSITION_WAIT_SECONDS
        while (await self.reads.head(site.site_id)).size <= position:
            if time.monotonic() > deadline:
                raise Unavailable("position-not-reached", f"The log has not reached {site.site}:{position} yet.")
            await asyncio.sleep(0.05)


def _refuse_blocked(standing: Standing, question: ConsentQuestion) -> None:
    if question.asked_by == "operator":
        return
    if standing.block == "pending":
        raise forgotten()
    if standing.block == "restricted" and question.asked_by == "frontend":
        raise InputRefused(
            "visitor-restricted",
            "The use of what is on record of this visitor is restricted, until that is lifted. Events are still "
            "recorded, and every optional purpose is denied.",
        )
