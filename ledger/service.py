"""What the ledger does for its callers, free of HTTP: record, decide, look up, publish.

Each call parses nothing and formats nothing but its own messages; the decisions are core/admission and core/decide,
the writing is the sequencer's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from msgspec import structs

from ledger import config
from ledger.cookies import Cookies
from ledger.core import event as events
from ledger.core.admission import Admission, Clock, Normal, Sender, admit, normalize
from ledger.core.decide import EMPTY_STATE, Evaluator, State, decode_state, fold
from ledger.core.encoding import decode_decimal
from ledger.core.entry import Kind, commitment
from ledger.core.errors import IdConflict, InputRefused, Malformed, NotFound, Unavailable
from ledger.core.policy import encode_document, parse_site_document
from ledger.messages import (
    CheckAnswer,
    CheckInput,
    CheckResults,
    Consent,
    History,
    HistoryItem,
    PolicyPublished,
    Readiness,
    ReadinessCheck,
    Receipt,
)
from ledger.published import Published
from ledger.replies import check_answer, purpose_decision, receipt_of, recorded_at, replay, stored_receipt
from ledger.secrets import api_key_hash, new_event_id, new_salt
from ledger.sequencer import Lane, Sequencer
from ledger.site import Site, SiteRegistry, recorded
from ledger.store.append import Appended, ControlDraft, EventDraft, Outcome
from ledger.store.reads import Reads, VisitorRows, checkpoint_trouble

log = logging.getLogger(__name__)

KeyClass = Literal["publishable", "secret"]


class Principal(NamedTuple):
    """Whose key it is: one site's, of one class, with its scopes."""

    site_id: int
    key_class: KeyClass
    scopes: frozenset[str]


class Recording(NamedTuple):
    """`replayed`: the event was known already; the receipt is the one it got then."""

    receipt: Receipt
    replayed: bool


class Entered(NamedTuple):
    """An event that has its place in the order of the log. With a `refusal` it is the denials of a refused one."""

    event_id: str
    draft: EventDraft
    answer: asyncio.Future[Appended]
    refusal: InputRefused | None


class GrantsRefused(InputRefused):
    """The grants of an event were refused; `recorded` is the receipt of its denials, None if it had none."""

    def __init__(self, refusal: InputRefused, recorded: Receipt | None) -> None:
        super().__init__(refusal.kind, refusal.detail, refusal.pointer)
        self.recorded = recorded


class ConsentQuestion(NamedTuple):
    """One visitor's decisions: for which purposes (None: all), when, as known when, seen from where.

    `known` is a seq (inclusive) or, with `known_is_time`, a time in ms: what was recorded before it.
    """

    visitor: str
    purposes: Sequence[str] | None = None
    at_ms: int | None = None
    known: int | None = None
    known_is_time: bool = False
    region: str | None = None
    gpc: bool = False
    min_position: int | None = None


class Service:
    """The ledger as one process sees it."""

    def __init__(
        self, sites: SiteRegistry, reads: Reads, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self.sites = sites
        self.published = Published(reads.pool)
        self.cookies = Cookies(reads.pool, wall_ms)
        self._reads = reads
        self._wall_ms = wall_ms
        self._keys: dict[bytes, tuple[float, Principal | None]] = {}

    @property
    def reads(self) -> Reads:
        """What renderings of receipts ask beside what is here."""
        return self._reads

    # --- who asks --------------------------------------------------------------------------------------------------

    async def site(self, name: str) -> Site:
        """The site of that name; `NotFound` if this ledger has none."""
        return await self.sites.get(name)

    async def authenticate(self, site: Site, bearer: str) -> Principal | None:
        """Whose key this is; None for an unknown or revoked key or one of another site. Cached for a few seconds."""
        digest = api_key_hash(bearer)
        cached = self._keys.get(digest)
        now = time.monotonic()
        if cached is None or cached[0] < now:
            if len(self._keys) >= config.API_KEY_CACHE_MAX_KEYS:
                self._keys.clear()
            row = await self._reads.api_key(digest)
            principal = None
            if row is not None:
                key_class: KeyClass = "secret" if row.key_class == "secret" else "publishable"
                principal = Principal(row.site_id, key_class, frozenset(row.scopes))
            cached = (now + config.API_KEY_CACHE_SECONDS, principal)
            self._keys[digest] = cached
        principal = cached[1]
        return principal if principal is not None and principal.site_id == site.site_id else None

    # --- recording -------------------------------------------------------------------------------------------------

    async def record(
        self, site: Site, event: events.EventInput, principal: Principal, lane: Lane = Lane.SINGLE
    ) -> Recording:
        """Append one event, or find it appended already.

        Raises `InputRefused` (as `GrantsRefused` where its denials were kept), `IdConflict`, `Erased`, `Unavailable`.
        """
        return await self.finish(site, await self.enter(site, event, principal, lane))

    async def enter(
        self, site: Site, event: events.EventInput, principal: Principal, lane: Lane
    ) -> Entered | Recording:
        """Everything up to the event's place in the log's order, so that who enters events one after another has them
        recorded in that order. A `Recording` if it is known already. Raises as `record` does.
        """
        sequencer = site.sequencer
        if sequencer is None:
            raise self.sites.hindrance(site)
        now_ms = self._wall_ms()
        event_id = event.id or new_event_id(now_ms)
        normal = normalize(event)
        account = None if event.account is None else site.hasher.account(event.account)
        if account is not None:  # its name goes no further, so `recover` can tell the content from the payload
            normal = normal._replace(event=structs.replace(normal.event, account=account))
        content = site.hasher.content(events.encode_content(normal.event))
        admission = await self._admit(site, normal, event_id, principal, now_ms)
        if admission.refusal is not None and event.id is not None:
            # A retry of an event that was recorded gets its receipt, whatever has changed since.
            known = await self._reads.receipt(site.site_id, site.hasher.event_id(event_id))
            if known is not None:
                return Recording(replay(site.site, known, content), True)
        if admission.event is None:
            assert admission.refusal is not None
            raise GrantsRefused(admission.refusal, None)
        draft = self._draft(site, sequencer, admission.event, content)
        answer = await sequencer.enter(draft, lane)
        return Entered(admission.event.id, draft, answer, admission.refusal)

    async def finish(self, site: Site, entered: Entered | Recording) -> Recording:
        """Wait for the fate of an event that was entered. Raises as `record` does."""
        if isinstance(entered, Recording):
            return entered
        draft, appended = entered.draft, await entered.answer
        if appended.outcome == Outcome.APPENDED and appended.entry is not None:
            receipt = receipt_of(site.site, entered.event_id, appended.seq, appended.entry, draft.salt, draft.payload)
            recording = Recording(receipt, False)
        else:
            stored = await self._reads.receipt_at(site.site_id, appended.seq)
            replayed = appended.outcome != Outcome.SAME_COMMITMENT
            recording = Recording(replay(site.site, stored, draft.content), replayed)
        if entered.refusal is not None:
            raise GrantsRefused(entered.refusal, recording.receipt)
        return recording

    async def _admit(self, site: Site, normal: Normal, event_id: str, principal: Principal, now_ms: int) -> Admission:
        event = normal.event
        clock = Clock(now_ms, config.GRANT_MAX_AGE_SECONDS * 1000, config.GRANT_MAX_AHEAD_SECONDS * 1000)
        cited, shown = event.policy_version, event.shown
        if (cited is not None and site.policies.get(cited) is None) or (
            shown is not None and not site.policies.shows(shown)
        ):
            await self.sites.look_for_version(site)
        return admit(
            normal,
            event_id=event_id,
            denials_id=lambda: site.hasher.derived_id(event_id),
            site=site.site,
            policies=site.policies,
            clock=clock,
            sender=Sender(principal.key_class == "secret", event.account if event.type in events.LINKING else None),
        )

    def _draft(self, site: Site, sequencer: Sequencer, event: events.Event, content: bytes) -> EventDraft:
        payload = events.encode_payload(event)
        if len(payload) > events.MAX_PAYLOAD_BYTES:
            raise InputRefused("event-too-large", f"An event has at most {events.MAX_PAYLOAD_BYTES} bytes.")
        salt = new_salt()
        commit = commitment(salt, payload)
        signer = sequencer.signer
        return EventDraft(
            key=site.hasher.event_id(event.id),
            commit=commit,
            signer=signer.key_hash,
            signature=signer.sign(Kind.EVENT, commit),
            salt=salt,
            payload=payload,
            visitor=site.hasher.subject(event),
            content=content,
        )

    # --- deciding --------------------------------------------------------------------------------------------------

    async def consent(self, site: Site, question: ConsentQuestion) -> Consent:
        """One visitor's decisions, read after every write that was answered before."""
        visitor = site.hasher.visitor(question.visitor)
        if question.min_position is not None:
            await self._wait_for(site, question.min_position)
        rows = (await self._reads.visitors(site.site_id, [visitor]))[0]
        await self._fresh_policies(site, rows.policy_seq)
        known_seq = await self._known_seq(site, question, rows.size)
        at_ms = rows.now_ms if question.at_ms is None else question.at_ms
        if known_seq is None and at_ms >= rows.now_ms:
            state = _state(rows)
        else:
            state = await self._past_state(site, visitor, at_ms, rows.size - 1 if known_seq is None else known_seq)
        answers = {
            purpose: Evaluator(site.policies, purpose, at_ms=at_ms, known_seq=known_seq).decide(
                state, question.region, question.gpc
            )
            for purpose in self._purposes(site, question, at_ms, known_seq)
        }
        in_force = site.policies.in_force(at_ms, known_seq)
        return Consent(
            site=site.site,
            visitor=question.visitor,
            position=f"{site.site}:{rows.size - 1}",
            policy_version=None if in_force is None else in_force.document.policy.version,
            decisions={purpose: purpose_decision(answer) for purpose, answer in answers.items()},
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
        hashes = [site.hasher.visitor(visitor) for visitor, _ in asked]
        all_rows = await self._reads.visitors(site.site_id, hashes)
        await self._fresh_policies(site, all_rows[0].policy_seq)
        now_ms = all_rows[0].now_ms
        at_ms = now_ms if question.at is None else events.parse_time(question.at, "/at")
        evaluators = {purpose: Evaluator(site.policies, purpose, at_ms=at_ms) for purpose in question.purposes}
        results: dict[str, dict[str, CheckAnswer]] = {}
        for n, ((visitor, region), digest, rows) in enumerate(zip(asked, hashes, all_rows, strict=True)):
            if n % config.CHECK_SLICE_VISITORS == 0:
                await asyncio.sleep(0)  # other requests go on while a large check is folded
            state = _state(rows) if at_ms >= now_ms else await self._past_state(site, digest, at_ms, rows.size - 1)
            results[visitor] = {
                purpose: check_answer(evaluator.decide(state, region or question.region))
                for purpose, evaluator in evaluators.items()
            }
        return CheckResults(position=f"{site.site}:{all_rows[0].size - 1}", results=results)

    async def history(self, site: Site, visitor: str, cursor: str | None, limit: int) -> History:
        """A page of a visitor's events; the cursor is the last seq of the page before."""
        try:
            after = -1 if cursor is None else decode_decimal(cursor)
        except Malformed as error:
            raise InputRefused("invalid-cursor", "Use the `next` of the page before as cursor.") from error
        rows = await self._reads.history(site.site_id, site.hasher.visitor(visitor), after, limit + 1)
        items = [
            HistoryItem(seq=row.seq, recorded_at=recorded_at(row.entry), event=recorded(row).event)
            for row in rows[:limit]
        ]
        return History(
            site=site.site,
            visitor=visitor,
            events=items,
            next=str(items[-1].seq) if len(rows) > limit else None,
        )

    async def receipt(self, site: Site, event_id: str) -> Receipt:
        """The receipt of an event; `NotFound` or `Erased` otherwise."""
        row = await self._reads.receipt(site.site_id, site.hasher.event_id(event_id))
        if row is None:
            raise NotFound("The site's log has no event of this id.")
        return stored_receipt(site.site, row)

    def _purposes(self, site: Site, question: ConsentQuestion, at_ms: int, known_seq: int | None) -> Sequence[str]:
        if question.purposes is not None:
            return question.purposes
        in_force = site.policies.in_force(at_ms, known_seq)
        return [] if in_force is None else list(in_force.document.purposes)

    async def _known_seq(self, site: Site, question: ConsentQuestion, size: int) -> int | None:
        if question.known is None:
            return None
        if question.known_is_time:
            return await self._reads.last_seq_before(site.site_id, question.known)
        if question.known >= size:
            raise InputRefused("invalid-query", f"knownAt lies beyond the log, whose last seq is {size - 1}.")
        return question.known

    async def _past_state(self, site: Site, visitor: bytes, at_ms: int, known_seq: int) -> State:
        """The visitor's state at a time, from the events up to `known_seq`: the projection knows only now."""
        state, after = EMPTY_STATE, -1
        while True:
            page = await self._reads.history(site.site_id, visitor, after, config.HISTORY_PAGE_MAX_EVENTS)
            seen = [recorded(row) for row in page if row.seq <= known_seq]
            state = fold(state, seen, until_ms=at_ms)
            if len(seen) < config.HISTORY_PAGE_MAX_EVENTS:
                return state
            after = page[-1].seq

    async def _fresh_policies(self, site: Site, policy_seq: int) -> None:
        if site.policies.last_seq < policy_seq:
            await self.sites.refresh_policies(site)

    async def _wait_for(self, site: Site, position: int) -> None:
        deadline = time.monotonic() + config.MIN_POSITION_WAIT_SECONDS
        while (await self._reads.head(site.site_id)).size <= position:
            if time.monotonic() > deadline:
                raise Unavailable("position-not-reached", f"The log has not reached {site.site}:{position} yet.")
            await asyncio.sleep(0.05)

    # --- policies and documents ------------------------------------------------------------------------------------

    async def publish(self, site: Site, document: bytes) -> PolicyPublished:
        """Publish a version, once; the same version again with other content is an `IdConflict`."""
        if site.sequencer is None:
            raise self.sites.hindrance(site)
        parsed = parse_site_document(document)
        if parsed.site != site.site:
            raise InputRefused("wrong-site", f"The document is of {parsed.site}, not of {site.site}.", "/site")
        body = encode_document(parsed)
        version = parsed.policy.version
        await self.sites.refresh_policies(site)
        known = site.policies.get(version)
        if known is None:
            digest: bytes = await self._reads.put_document("application/json", body)
            public = digest + version.encode()
            signer = site.sequencer.signer
            draft = ControlDraft(
                Kind.POLICY, bytes(32), signer.key_hash, signer.sign(Kind.POLICY, bytes(32), public), public
            )
            try:
                await site.sequencer.submit_control(draft)
            except InputRefused:
                log.info("a version was published twice at once")  # the unique version decides; read it below
            await self.sites.refresh_policies(site)
            known = site.policies.get(version)
            if known is None:
                raise Unavailable("internal", "The version was not stored; try again.")
        if known.document != parsed:
            raise IdConflict(f"Version {version} is published with other content; give this one a new version.")
        return PolicyPublished(
            site=site.site,
            version=version,
            document=known.document_hash.hex(),
            seq=known.seq,
            position=f"{site.site}:{known.seq}",
        )

    async def document(self, digest: bytes) -> tuple[str, bytes]:
        """Media type and bytes of a published document; `NotFound` otherwise."""
        document = await self._reads.document(digest)
        if document is None:
            raise NotFound("No document of this hash was published.")
        return document

    async def policy(self, site: Site) -> tuple[str, bytes]:
        """Hash (hex) and bytes of the policy document in force now; `NotFound` before the first."""
        in_force = site.policies.in_force(self._wall_ms())
        if in_force is None:
            raise NotFound("The site has no policy in force.")
        return in_force.document_hash.hex(), encode_document(in_force.document)

    # --- health ----------------------------------------------------------------------------------------------------

    async def readiness(self) -> Readiness:
        """Whether reads and writes can be served now, and why not."""
        checks: dict[str, ReadinessCheck] = {}
        try:
            await asyncio.wait_for(self._reads.ping(), config.READINESS_TIMEOUT_SECONDS)
            checks["database"] = ReadinessCheck(ok=True, detail="answers")
        except Exception as error:
            checks["database"] = ReadinessCheck(ok=False, detail=f"does not answer ({type(error).__name__})")
        able: list[bool] = []
        for site in self.sites.loaded():
            trouble = self.sites.hindrance(site).reason if site.sequencer is None else site.sequencer.trouble
            checks[f"append {site.site}"] = ReadinessCheck(ok=trouble is None, detail=trouble or "ready")
            able.append(trouble is None)
        await self._check_checkpoints(checks)
        # One site's trouble must not take the traffic of the others away; the check tells which it is.
        write = checks["database"].ok and (any(able) or not able)
        return Readiness(read=checks["database"].ok, write=write, checks=checks)

    async def _check_checkpoints(self, checks: dict[str, ReadinessCheck]) -> None:
        """How each site's checkpointer fares. Its trouble stops neither reads nor writes: they only lack evidence."""
        if not checks["database"].ok:
            return
        try:
            rows = await asyncio.wait_for(self._reads.checkpointers(), config.READINESS_TIMEOUT_SECONDS)
        except (Unavailable, TimeoutError):
            return
        for site in self.sites.loaded():
            trouble = checkpoint_trouble(rows.get(site.site_id))
            checks[f"checkpoint {site.site}"] = ReadinessCheck(ok=trouble is None, detail=trouble or "signing")


def _state(rows: VisitorRows) -> State:
    state = EMPTY_STATE if rows.state is None else decode_state(rows.state)
    return fold(state, [recorded(row) for row in rows.events]) if rows.events else state
