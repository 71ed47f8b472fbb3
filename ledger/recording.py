"""Recording an event: admitted under the site's policies, filed under its subject, appended once.

What is admitted is core/admission, the writing is the sequencer's. An event of a visitor costs no question to the
database beyond its own append; only a choice for an account and the end of a link ask first to which the visitor is
linked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, NamedTuple

from msgspec import structs

from ledger import config
from ledger.core import event as events
from ledger.core.admission import Admission, Clock, Normal, Sender, admit, normalize
from ledger.core.entry import Kind, commitment
from ledger.core.errors import InputRefused
from ledger.messages import Receipt
from ledger.replies import forgotten, receipt_of, replay
from ledger.secrets import new_event_id, new_salt
from ledger.sequencer import Lane, Sequencer
from ledger.site import Site, SiteRegistry, state_of
from ledger.store.append import Appended, EventDraft, Outcome
from ledger.store.reads import Reads

KeyClass = Literal["publishable", "secret"]


class Principal(NamedTuple):
    """Whose key it is: one site's, of one class, with its scopes. `name`: what acts by it are told under."""

    site_id: int
    key_class: KeyClass
    scopes: frozenset[str]
    name: str = ""


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


class Recorder:
    """Appends events to the logs of all sites. `wall_ms` is this process's clock."""

    def __init__(self, sites: SiteRegistry, reads: Reads, wall_ms: Callable[[], int]) -> None:
        self.sites = sites
        self.reads = reads
        self._wall_ms = wall_ms
        self._linking: dict[tuple[int, bytes], asyncio.Future[Appended]] = {}

    async def record(
        self,
        site: Site,
        event: events.EventInput,
        principal: Principal,
        lane: Lane = Lane.SINGLE,
        region: str | None = None,
    ) -> Recording:
        """Append one event, or find it appended already. `region`: whence it came, as the server found it.

        Raises `InputRefused` (as `GrantsRefused` where its denials were kept), `IdConflict`, `Erased`, `Unavailable`.
        """
        return await self.finish(site, await self.enter(site, event, principal, lane, region))

    async def enter(
        self, site: Site, event: events.EventInput, principal: Principal, lane: Lane, region: str | None = None
    ) -> Entered | Recording:
        """Everything up to the event's place in the log's order, so that who enters events one after another has them
        recorded in that order. A `Recording` if it is known already. Raises as `record` does.
        """
        if site.closed:
            detail = "The site is closed on its controller's instruction: nothing is recorded for it any more."
            raise InputRefused("site-closed", detail)
        sequencer = site.sequencer
        if sequencer is None:
            raise self.sites.hindrance(site)
        now_ms = self._wall_ms()
        event_id = event.id or new_event_id(now_ms)
        normal = normalize(event)
        if event.account is not None:  # its name goes no further, so `recover` can tell the content from the payload
            account = site.hasher.account(event.account)
            normal = normal._replace(event=structs.replace(normal.event, account=account))
        content = site.hasher.content(events.encode_content(normal.event))
        asks = event.scope == "account" or event.type == "account.unlinked"
        linked = await self._linked(site, event.visitor) if asks else None
        sender = Sender(principal.key_class == "secret", linked, region)
        admission = await self._admit(site, normal, event_id, sender, now_ms)
        if admission.refusal is not None and event.id is not None:
            # A retry of an event that was recorded gets its receipt, whatever has changed since.
            known = await self.reads.receipt(site.site_id, site.hasher.event_id(event_id))
            if known is not None:
                subjects = [site.hasher.visitor(event.visitor), *([bytes.fromhex(linked)] if linked else [])]
                blocks = await self.reads.blocks(site.site_id, subjects)
                if any(block.state != "restricted" for block in blocks.values()):
                    raise forgotten()
                return Recording(replay(site, known, content), True)
        if admission.event is None:
            assert admission.refusal is not None
            raise GrantsRefused(admission.refusal, None)
        draft = draft_of(site, sequencer, admission.event, site.hasher.subject(admission.event), content)
        answer = await sequencer.enter(draft, lane)
        if event.type in events.LINKING:
            self._remember(site, draft.visitor, answer)
        return Entered(admission.event.id, draft, answer, admission.refusal)

    async def finish(self, site: Site, entered: Entered | Recording) -> Recording:
        """Wait for the fate of an event that was entered. Raises as `record` does."""
        if isinstance(entered, Recording):
            return entered
        draft, appended = entered.draft, await entered.answer
        if appended.outcome == Outcome.APPENDED and appended.entry is not None:
            receipt = receipt_of(site.site, entered.event_id, appended.seq, appended.entry, draft.salt, draft.payload)
            recording = Recording(receipt, False)
        elif appended.outcome == Outcome.FORGOTTEN:
            raise forgotten()
        else:
            stored = await self.reads.receipt_at(site.site_id, appended.seq)
            replayed = appended.outcome != Outcome.SAME_COMMITMENT
            recording = Recording(replay(site, stored, draft.content), replayed)
        if entered.refusal is not None:
            raise GrantsRefused(entered.refusal, recording.receipt)
        return recording

    async def _linked(self, site: Site, visitor: str) -> str | None:
        """The account (keyed hash) that a visitor is linked to, by all that was entered before."""
        subject = site.hasher.visitor(visitor)
        under_way = self._linking.get((site.site_id, subject))
        if under_way is not None:
            await asyncio.wait([under_way])  # a line before this one in the same batch
        return state_of(site.vault, (await self.reads.visitors(site.site_id, [subject]))[0]).account

    def _remember(self, site: Site, visitor: bytes, answer: asyncio.Future[Appended]) -> None:
        """The newest link or unlinking of a visitor that is still on its way."""
        key = (site.site_id, visitor)
        self._linking[key] = answer

        def forget(done: asyncio.Future[Appended]) -> None:
            if self._linking.get(key) is done:
                del self._linking[key]

        answer.add_done_callback(forget)

    async def _admit(self, site: Site, normal: Normal, event_id: str, sender: Sender, now_ms: int) -> Admission:
        event = normal.event
        clock = Clock(now_ms, config.GRANT_MAX_AGE_SECONDS * 1000, config.GRANT_MAX_AHEAD_SECONDS * 1000)
        cited, shown = event.policy_version, event.shown
        unknown = cited is not None and site.policies.get(cited) is None
        if unknown or (shown is not None and not site.policies.shows(shown)):
            await self.sites.look_for_version(site)
        return admit(
            normal,
            event_id=event_id,
            denials_id=lambda: site.hasher.derived_id(event_id),
            site=site.site,
            policies=site.policies,
            clock=clock,
            sender=sender,
        )


def draft_of(
    site: Site, sequencer: Sequencer, event: events.Event, subject: bytes, content: bytes | None = None
) -> EventDraft:
    """The event ready to be appended under `subject`: encoded, salted, sealed, and signed by the sequencer's key.

    `content` is the keyed hash of what a client sent, None for an event of the ledger's own. `InputRefused`: too large.
    """
    payload = events.encode_payload(event)
    if len(payload) > events.MAX_PAYLOAD_BYTES:
        raise InputRefused("event-too-large", f"An event has at most {events.MAX_PAYLOAD_BYTES} bytes.")
    own = site.hasher.content(payload) if content is None else content
    return sealed_draft(site, sequencer, event.id, payload, subject, own, site.hasher.actor(event))


def sealed_draft(
    site: Site,
    sequencer: Sequencer,
    event_id: str,
    payload: bytes,
    subject: bytes,
    content: bytes,
    actor: bytes | None = None,
) -> EventDraft:
    """A payload ready to be appended: salted, sealed, and signed; what the rest is `EventDraft` says."""
    salt = new_salt()
    commit = commitment(salt, payload)
    signer = sequencer.signer
    return EventDraft(
        key=site.hasher.event_id(event_id),
        commit=commit,
        signer=signer.key_hash,
        signature=signer.sign(Kind.EVENT, commit),
        sealed=site.vault.seal_opening(commit, salt, payload),
        visitor=subject,
        content=content,
        salt=salt,
        payload=payload,
        actor=actor,
    )
