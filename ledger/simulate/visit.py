"""One visitor: what they do, what the ledger must therefore answer, and whether it does.

The expectations are the rules of core/rules for acts in their natural order, written down a second time and apart from
the server's fold. A visitor's acts are a few milliseconds apart, since a tie of milliseconds goes to the denial.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ledger.core import event as events
from ledger.core.encoding import decode_base64, decode_time, encode_base64, encode_time
from ledger.core.entry import Kind, commitment, decode
from ledger.core.errors import Malformed
from ledger.core.event import Action, Answer, EventInput
from ledger.core.merkle import leaf_hash
from ledger.messages import Consent, Receipt
from ledger.secrets import new_event_id
from ledger.simulate.client import Client, Posted, now_ms
from ledger.simulate.tally import Tally

BETWEEN_ACTS_SECONDS = 0.004
VISITOR_BYTES = 16
LANGUAGES = ("ru", "en", "kk", None)


class Expected(NamedTuple):
    """The answer for one purpose."""

    decision: str
    reason: str


GRANTED = Expected("granted", "granted")
REFUSED = Expected("denied", "refused")
WITHDRAWN = Expected("denied", "withdrawn")
BY_SIGNAL = Expected("denied", "gpc")


class When(NamedTuple):
    """`ago_ms` before now, by a clock `clock_ms` ahead of the true one; None leaves `occurredAt` or `sentAt` out."""

    ago_ms: int | None = 0
    clock_ms: int | None = 0


NOW = When()


class SiteView(NamedTuple):
    """What a visitor who was never seen is told: the policy version, and each purpose's answer."""

    site: str
    version: str
    untouched: Mapping[str, Expected]

    @property
    def optional(self) -> tuple[str, ...]:
        """The purposes that a visitor can decide on."""
        return tuple(purpose for purpose, answer in self.untouched.items() if answer.reason != "not_required")


def view_site(consent: Consent) -> SiteView:
    """The site, from the answer about a visitor who was never seen."""
    return SiteView(consent.site, consent.policy_version or "", answers_of(consent))


class Visit:
    """A visitor at a site. `recorded` are the ids of their events in the log, in order."""

    def __init__(self, scenario: str, client: Client, view: SiteView, tally: Tally, chance: random.Random) -> None:
        self.scenario = scenario
        self.client = client
        self.view = view
        self.chance = chance
        self.visitor = secrets.token_urlsafe(VISITOR_BYTES)
        self.expected = dict(view.untouched)
        self.recorded: list[str] = []
        self._tally = tally
        self._granted_once: set[str] = set()
        self._language = chance.choice(LANGUAGES)

    # --- acts ------------------------------------------------------------------------------------------------------

    async def give(self, granted: set[str], action: Action = "customize", when: When = NOW) -> Receipt | None:
        """Grant these purposes and deny the other optional ones."""
        return await self.record(self.event("consent.given", self.choice(granted), action, when), when)

    async def refuse(self, action: Action = "only_necessary", when: When = NOW) -> Receipt | None:
        """Deny every optional purpose by name."""
        return await self.record(self.event("consent.refused", self.answers("denied"), action, when), when)

    async def withdraw(self, when: When = NOW) -> Receipt | None:
        """Deny everything, present and future."""
        return await self.record(self.event("consent.withdrawn", {"*": "denied"}, "withdraw", when), when)

    def answers(self, answer: Answer) -> dict[str, Answer]:
        """The same answer for every optional purpose."""
        return dict.fromkeys(self.view.optional, answer)

    def choice(self, granted: set[str]) -> dict[str, Answer]:
        """Yes to these, no to the other optional purposes."""
        return {purpose: "granted" if purpose in granted else "denied" for purpose in self.view.optional}

    def event(
        self,
        kind: events.InputType,
        decisions: dict[str, Answer],
        action: Action | None,
        when: When = NOW,
        version: str | None = None,
    ) -> EventInput:
        """An event of this visitor, citing the policy in force unless told otherwise."""
        at_ms = now_ms()
        occurred_ms = None if when.ago_ms is None else at_ms - when.ago_ms + (when.clock_ms or 0)
        return EventInput(
            id=new_event_id(at_ms),
            type=kind,
            visitor=self.visitor,
            decisions=decisions,
            action=action,
            policy_version=version or self.view.version,
            language=self._language,
            occurred_at=None if occurred_ms is None else encode_time(occurred_ms),
            gpc=action == "gpc",
        )

    async def link(self, account: str, kind: events.InputType = "account.linked") -> None:
        """The site's backend tells that the visitor has signed in to an account, or out of it."""
        event = self.event(kind, {}, None)
        await self.record(msgspec.structs.replace(event, account=account, gpc=False), backend=True)

    def elsewhere(self) -> Visit:
        """The same person in another browser, where nothing was chosen yet."""
        return Visit(self.scenario, self.client, self.view, self._tally, self.chance)

    async def record(
        self, event: EventInput, when: When = NOW, *, counts: bool = True, backend: bool = False
    ) -> Receipt | None:
        """Post an event that has to be taken. `counts`: its decisions are the ones in force from now on."""
        posted = await self.client.post(event, when.clock_ms, backend=backend)
        if posted.receipt is None:
            self.mismatch(f"a good {event.type} got {posted.status} ({slug(posted)})")
            return None
        self.keep(event, posted.receipt, counts=counts)
        await asyncio.sleep(BETWEEN_ACTS_SECONDS)
        return posted.receipt

    def keep(self, event: EventInput, receipt: Receipt, *, counts: bool = True) -> None:
        """Take note of an event that is in the log, and check its receipt."""
        fault = receipt_fault(self.view.site, event, receipt)
        if fault is not None:
            self.mismatch(f"a receipt is wrong: {fault}")
        self.recorded.append(receipt.id)
        self._tally.recorded += 1
        for purpose, answer in event.decisions.items():
            if answer == "granted":
                self._granted_once.add(purpose)
                if self.expected[purpose] == REFUSED:
                    self.expected[purpose] = WITHDRAWN  # there turns out to be an earlier grant
        if counts:
            self._decide(event.decisions)

    def _decide(self, decisions: Mapping[str, Answer]) -> None:
        everything = self.answers("denied") if "*" in decisions else {}
        for purpose, answer in {**everything, **decisions}.items():
            if purpose in self.view.optional:
                denied = WITHDRAWN if purpose in self._granted_once else REFUSED
                self.expected[purpose] = GRANTED if answer == "granted" else denied

    # --- checks ----------------------------------------------------------------------------------------------------

    async def look(self) -> Consent:
        """Read the visitor's own decisions, which have to be the expected ones."""
        consent = await self.client.consent(self.visitor)
        self.compare("consent", answers_of(consent))
        return consent

    async def look_with_signal(self) -> None:
        """The same from a browser that sends Global Privacy Control: it withholds what was granted without it."""
        consent = await self.client.consent(self.visitor, gpc=True)
        held_back = {p: BY_SIGNAL if answer == GRANTED else answer for p, answer in self.expected.items()}
        self._compare("consent under gpc", answers_of(consent), held_back)

    def compare(self, source: str, answers: Mapping[str, Expected]) -> None:
        self._compare(source, answers, self.expected)

    def _compare(self, source: str, answers: Mapping[str, Expected], expected: Mapping[str, Expected]) -> None:
        for purpose, answer in expected.items():
            got = answers.get(purpose)
            if got != answer:
                told = "nothing" if got is None else f"{got.decision}, {got.reason}"
                self.mismatch(f"{source} says {told} of {purpose}, not {answer.decision}, {answer.reason}")

    def require(self, condition: bool, text: str) -> None:
        """A promise of the ledger; `text` says what it would mean if it were broken."""
        if not condition:
            self.mismatch(text)

    def mismatch(self, text: str) -> None:
        self._tally.mismatch(f"{self.scenario}: {text}")


def slug(posted: Posted) -> str:
    return "no problem" if posted.problem is None else posted.problem.type.rpartition(":")[2]


def answers_of(consent: Consent) -> dict[str, Expected]:
    """What was answered, purpose by purpose."""
    return {purpose: Expected(answer.decision, answer.reason) for purpose, answer in consent.decisions.items()}


def receipt_fault(site: str, event: EventInput, receipt: Receipt) -> str | None:
    """Why a receipt does not prove that this event is in the log; None if it does (SPEC.md, "Receipts")."""
    try:
        data = decode_base64(receipt.entry)
        entry = decode(data)
        salt, payload = decode_base64(receipt.salt), decode_base64(receipt.payload)
        stored = events.decode_payload(payload, events.Event)
        recorded_ms = decode_time(receipt.recorded_at)
    except Malformed as error:
        return str(error)
    if encode_base64(leaf_hash(data)) != receipt.leaf_hash:
        return "the leaf hash is not the entry's"
    if (entry.kind, entry.seq, entry.ms) != (Kind.EVENT, receipt.seq, recorded_ms):
        return "kind, seq or time are not the entry's"
    if receipt.position != f"{site}:{receipt.seq}" or receipt.site != site or stored.site != site:
        return "the position is of another site"
    if commitment(salt, payload) != entry.commit:
        return "salt and payload do not open the commitment"
    if (stored.id, stored.visitor, stored.type) != (receipt.id, event.visitor, event.type):
        return "the payload is another event's"
    return None if stored.decisions == event.decisions else "the payload holds other decisions"
