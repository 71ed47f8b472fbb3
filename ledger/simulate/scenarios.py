"""What visitors do in a day, each a small story with its expectations; the table at the end says how often.

Times in a story are real: nobody waits for an hour to pass, an event is dated back instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from ledger.core.encoding import decode_base64, decode_time
from ledger.core.event import Event, decode_payload
from ledger.simulate.visit import NOW, Visit, When, slug

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
HANG_UP_MAX_SECONDS = 0.01
UNKNOWN_VERSION = "0.0-never-published"


async def _arrive(visit: Visit) -> None:
    """A page opens: nothing is known, so nothing optional runs and the banner is shown."""
    consent = await visit.look()
    optional = [consent.decisions[purpose] for purpose in visit.view.optional]
    visit.require(all(answer.ask for answer in optional), "a visitor who was never asked is not asked")


async def accept_all(visit: Visit) -> None:
    await _arrive(visit)
    await visit.give(set(visit.view.optional), "accept_all")
    await visit.look()


async def only_necessary(visit: Visit) -> None:
    await _arrive(visit)
    await visit.refuse("only_necessary")
    await visit.look()


async def customised(visit: Visit) -> None:
    await _arrive(visit)
    await visit.give(_some(visit), "customize")
    await visit.look()


async def dismissed(visit: Visit) -> None:
    """Closing the banner is an answer, and it is no."""
    await _arrive(visit)
    await visit.refuse("dismiss")
    await visit.look()


async def left_open(visit: Visit) -> None:
    """Closes the banner, and the site takes that for no answer: nothing is decided, and nothing optional runs."""
    await _arrive(visit)
    await visit.record(visit.event("consent.dismissed", {}, "dismiss"))
    await visit.look()
    if visit.chance.random() < 0.3:
        await visit.give(_some(visit), "settings")
        await visit.look()


async def signed_in(visit: Visit) -> None:
    """Chooses for every browser of an account: another one that signs in has the same answers, until it signs out."""
    account = f"account-of-{visit.visitor}"
    await visit.link(account)
    decisions = visit.choice(_some(visit))
    await visit.record(msgspec.structs.replace(visit.event("consent.given", decisions, "settings"), scope="account"))
    consent = await visit.look()
    visit.require(consent.linked, "a visitor who signed in is not linked")
    other = visit.elsewhere()
    await other.link(account)
    other.expected = dict(visit.expected)
    await other.look()
    await other.link(account, "account.unlinked")
    other.expected = dict(visit.view.untouched)
    consent = await other.look()
    visit.require(not consent.linked, "a visitor who signed out is linked still")


async def with_a_guardian(visit: Visit) -> None:
    """A guardian consents for a child, which the backend vouches for; a page may not say so."""
    event = visit.event("consent.given", visit.answers("granted"), "guardian")
    posted = await visit.client.post(event)
    visit.require(posted.status == 403, f"a guardian's consent by a page got {posted.status}")
    await visit.record(event, backend=True)
    await visit.look()


async def returned(visit: Visit) -> None:
    """Comes back again and again; the answer stays and the banner does not."""
    await accept_all(visit)
    for _ in range(visit.chance.randint(2, 5)):
        consent = await visit.look()
        asked = any(consent.decisions[purpose].ask for purpose in visit.view.optional)
        visit.require(not asked, "a visitor who has answered is asked again")


async def changed_mind(visit: Visit) -> None:
    await visit.give(set(visit.view.optional), "accept_all")
    for _ in range(visit.chance.randint(1, 3)):
        await (visit.give(_some(visit), "settings") if visit.chance.random() < 0.6 else visit.refuse("settings"))
        await visit.look()


async def withdrew(visit: Visit) -> None:
    await accept_all(visit)
    await visit.withdraw()
    await visit.look()
    if visit.chance.random() < 0.2:
        await visit.give(_some(visit), "settings")
        await visit.look()


async def answer_lost(visit: Visit) -> None:
    """The connection goes away; the frontend sends the event again. There is one entry, and always the same receipt."""
    event = visit.event("consent.given", visit.answers("granted"), "accept_all")
    await visit.client.post_and_hang_up(event, visit.chance.random() * HANG_UP_MAX_SECONDS)
    first = await visit.record(event)
    again = await visit.client.post(event)
    visit.require(again.status == 200 and again.replayed, f"an exact repeat got {again.status}")
    visit.require(again.receipt == first, "an exact repeat got another receipt")
    await visit.look()


async def impatient(visit: Visit) -> None:
    """Sends the same event several times at once: one entry, and the same receipt for each."""
    event = visit.event("consent.refused", visit.answers("denied"), "only_necessary")
    answers = await asyncio.gather(*(visit.client.post(event) for _ in range(4)))
    receipts = [answer.receipt for answer in answers]
    visit.require(all(receipt == receipts[0] for receipt in receipts), "posts of one event got different receipts")
    visit.require([answer.status for answer in answers].count(201) <= 1, "one event was recorded twice")
    if receipts[0] is not None:
        visit.keep(event, receipts[0])
    await visit.look()


async def id_reused(visit: Visit) -> None:
    """A faulty frontend sends something else under an id that is taken: it is told, and nothing changes."""
    event = visit.event("consent.refused", visit.answers("denied"), "only_necessary")
    await visit.record(event)
    granted = visit.answers("granted")
    other = msgspec.structs.replace(event, type="consent.given", decisions=granted, action="accept_all")
    posted = await visit.client.post(other)
    visit.require(posted.status == 409, f"other content under a taken id got {posted.status}")
    await visit.look()


async def offline(visit: Visit) -> None:
    """Chose without a network, hours ago; the event counts from then."""
    late = When(ago_ms=visit.chance.randint(MINUTE_MS, 20 * HOUR_MS))
    receipt = await visit.give(set(visit.view.optional), "accept_all", late)
    consent = await visit.look()
    if receipt is None:
        return
    stored = decode_payload(decode_base64(receipt.payload), Event)
    if stored.occurred_at is None or stored.sent_at is None:
        visit.mismatch("a stored event lost its times")
        return
    age_ms = decode_time(stored.sent_at) - decode_time(stored.occurred_at)
    effective_ms = decode_time(receipt.recorded_at) - age_ms
    for purpose in visit.view.optional:
        decided_at = consent.decisions[purpose].decided_at
        visit.require(
            decided_at is not None and decode_time(decided_at) == effective_ms, f"{purpose} was not decided when it was"
        )


async def offline_after_withdrawal(visit: Visit) -> None:
    """A grant from before a withdrawal arrives after it: the withdrawal stands."""
    await visit.withdraw()
    decisions = visit.answers("granted")
    late = When(ago_ms=visit.chance.randint(MINUTE_MS, 20 * HOUR_MS))
    await visit.record(visit.event("consent.given", decisions, "accept_all", late), late, counts=False)
    await visit.look()


async def wrong_clock(visit: Visit) -> None:
    """A clock that is years off is wrong for `occurredAt` and `sentAt` alike, so it does no harm."""
    clock = When(clock_ms=visit.chance.choice((-1, 1)) * visit.chance.randint(1, 4_000) * DAY_MS)
    await visit.give(set(visit.view.optional), "accept_all", clock)
    await visit.look()
    await visit.withdraw(NOW)
    await visit.look()


async def misdated(visit: Visit) -> None:
    """No `sentAt`, and a date out of range: a grant is refused, a refusal is kept and counts from now."""
    dated = When(ago_ms=visit.chance.choice((-1, 1)) * visit.chance.randint(30, 9_000) * DAY_MS, clock_ms=None)
    event = visit.event("consent.given", visit.answers("granted"), "accept_all", dated)
    posted = await visit.client.post(event, None)
    visit.require(
        posted.status == 422 and slug(posted) in ("grant-too-old", "grant-in-the-future"),
        f"a misdated grant got {posted.status} ({slug(posted)})",
    )
    await visit.look()
    await visit.refuse("only_necessary", dated)
    await visit.look()


async def unknown_version_refused(visit: Visit) -> None:
    """A refusal that cites a version nobody published is kept all the same."""
    decisions = visit.answers("denied")
    await visit.record(visit.event("consent.refused", decisions, "only_necessary", version=UNKNOWN_VERSION))
    await visit.look()


async def unknown_version_given(visit: Visit) -> None:
    """A banner that is not up to date: its grants are refused, and its denials are kept."""
    granted = _some(visit)
    decisions = visit.choice(granted)
    event = visit.event("consent.given", decisions, "customize", version=UNKNOWN_VERSION)
    posted = await visit.client.post(event)
    visit.require(posted.status == 422, f"a grant to an unknown version got {posted.status}")
    denials = {purpose: answer for purpose, answer in decisions.items() if answer == "denied"}
    recorded = None if posted.problem is None else posted.problem.recorded
    visit.require((recorded is not None) == bool(denials), "denials beside a refused grant were not kept, or made up")
    if recorded is not None:
        visit.keep(msgspec.structs.replace(event, type="consent.refused", decisions=denials), recorded)
    await visit.look()


async def privacy_signal(visit: Visit) -> None:
    """The browser says no for its owner (Global Privacy Control), after consents that were given without it."""
    await accept_all(visit)
    await visit.look_with_signal()
    await visit.record(visit.event("consent.refused", {"*": "denied"}, "gpc"))
    await visit.look()


def _some(visit: Visit) -> set[str]:
    """At least one of the optional purposes."""
    optional = visit.view.optional
    return set(visit.chance.sample(optional, visit.chance.randint(1, len(optional))))


class Scenario(NamedTuple):
    """`weight`: how many of a hundred visitors live through it."""

    name: str
    weight: int
    play: Callable[[Visit], Awaitable[None]]


SCENARIOS = (
    Scenario("accept all", 22, accept_all),
    Scenario("only necessary", 14, only_necessary),
    Scenario("customised", 10, customised),
    Scenario("dismissed", 3, dismissed),
    Scenario("closed the question", 3, left_open),
    Scenario("signed in", 3, signed_in),
    Scenario("a guardian consented", 1, with_a_guardian),
    Scenario("returned", 10, returned),
    Scenario("changed their mind", 6, changed_mind),
    Scenario("withdrew", 6, withdrew),
    Scenario("answer lost, retried", 5, answer_lost),
    Scenario("sent several times at once", 3, impatient),
    Scenario("id reused for something else", 1, id_reused),
    Scenario("late from offline", 3, offline),
    Scenario("late after a withdrawal", 2, offline_after_withdrawal),
    Scenario("wrong clock", 3, wrong_clock),
    Scenario("misdated", 1, misdated),
    Scenario("refused an unknown version", 1, unknown_version_refused),
    Scenario("granted to an unknown version", 1, unknown_version_given),
    Scenario("privacy signal", 2, privacy_signal),
)
