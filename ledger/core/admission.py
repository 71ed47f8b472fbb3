"""Whether an event is admitted under the site's policies, and what is stored of it (DESIGN sections 8 and 9).

A denial is never refused for an odd clock, version or purpose; a grant has to be right in all three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ledger.core.encoding import decode_time
from ledger.core.errors import InputRefused
from ledger.core.event import ANY_PURPOSE, GRANTED, Event, EventInput, normal_time
from ledger.core.policy import PolicyHistory

DAY_MS = 24 * 3600 * 1000


class Clock(NamedTuple):
    """The process's time and the bounds of a grant's age, all in milliseconds."""

    now_ms: int
    max_age_ms: int
    max_ahead_ms: int


class Admission(NamedTuple):
    """`event` is what to store. With a `refusal` it holds the denials alone, or nothing if there were none."""

    event: Event | None
    refusal: InputRefused | None


class Normal(NamedTuple):
    """An event with its times in the one encoding. `unreadable` tells of a time that is none of the calendar: left out
    of the event, it is held against grants alone, and denials count when they are recorded.
    """

    event: EventInput
    unreadable: InputRefused | None = None


def normalize(event: EventInput) -> Normal:
    """The same event with its times in the one encoding."""
    unreadable: InputRefused | None = None
    times: list[str | None] = []
    for text, pointer in ((event.occurred_at, "/occurredAt"), (event.sent_at, "/sentAt")):
        try:
            times.append(normal_time(text, pointer))
        except InputRefused as refusal:
            unreadable = unreadable or refusal
            times.append(None)
    if times[0] is event.occurred_at and times[1] is event.sent_at:
        return Normal(event)
    return Normal(msgspec.structs.replace(event, occurred_at=times[0], sent_at=times[1]), unreadable)


def admit(
    normal: Normal,
    *,
    event_id: str,
    denials_id: Callable[[], str],
    site: str,
    policies: PolicyHistory,
    clock: Clock,
    trusted: bool,
    shown_published: bool,
) -> Admission:
    """Judge a normalized event. `trusted`: sent with a secret key. `shown_published`: what it cites as shown exists.

    What is wrong with the event as such raises `InputRefused`; what is wrong with its grants comes back as `refusal`,
    so that its denials are still stored, under `denials_id()`.
    """
    event = normal.event
    grants = {purpose for purpose, answer in event.decisions.items() if answer == GRANTED}
    _check_form(event, grants, trusted)
    if not grants:
        return Admission(_stored(event, event_id, site, policies, trusted, shown_published), None)
    refusal = normal.unreadable or _refuse_grants(event, grants, policies, clock, shown_published)
    if refusal is None:
        return Admission(_stored(event, event_id, site, policies, trusted, shown_published), None)
    denials = {purpose: answer for purpose, answer in event.decisions.items() if answer != GRANTED}
    if not denials:
        return Admission(None, refusal)
    kept = msgspec.structs.replace(event, type="consent.refused", decisions=denials)
    return Admission(_stored(kept, denials_id(), site, policies, trusted, shown_published), refusal)


def _check_form(event: EventInput, grants: set[str], trusted: bool) -> None:
    if event.type == "consent.given" and not grants:
        raise InputRefused(
            "invalid-event",
            "consent.given holds at least one granted purpose; send consent.refused or consent.withdrawn for denials.",
            "/decisions",
        )
    if event.type != "consent.given" and grants:
        raise InputRefused(
            "invalid-event", f"{event.type} holds denials only; send the grants as consent.given.", "/decisions"
        )
    if event.action == "import" and not trusted:
        raise InputRefused("secret-key-needed", "Imports need a secret key with the scope events.", "/action")


def _refuse_grants(
    event: EventInput, grants: set[str], policies: PolicyHistory, clock: Clock, shown_published: bool
) -> InputRefused | None:
    if ANY_PURPOSE in grants:
        return InputRefused(
            "invalid-event", 'The purpose "*" may only be denied; name the purposes that are granted.', "/decisions/*"
        )
    if event.policy_version is None:
        return InputRefused(
            "policy-version-missing", "A grant cites the policyVersion it was given to.", "/policyVersion"
        )
    cited = policies.get(event.policy_version)
    if cited is None:
        return InputRefused(
            "unknown-policy-version",
            "The site has not published this policyVersion; GET /v1/sites/{site}/policy shows the one in force.",
            "/policyVersion",
        )
    if max(cited.published_ms, cited.document.effective_ms) > clock.now_ms:
        return InputRefused("policy-not-in-force", "This policyVersion is not in force yet.", "/policyVersion")
    unknown = sorted(purpose for purpose in grants if not cited.document.offers(purpose))
    if unknown:
        known = ", ".join(cited.document.purposes)
        return InputRefused(
            "unknown-purpose",
            f"Version {event.policy_version} of the policy has no such purpose; it has {known}.",
            "/decisions/" + unknown[0].replace("~", "~0").replace("/", "~1"),
        )
    if event.shown is not None and not shown_published:
        return InputRefused("unknown-document", "`shown` is the SHA-256 of no published document.", "/shown")
    return _refuse_clock(event, clock)


def _refuse_clock(event: EventInput, clock: Clock) -> InputRefused | None:
    """A grant's age is measured by the visitor's own two clocks where both were sent, else by ours."""
    if event.occurred_at is None:
        return None
    occurred_ms = decode_time(event.occurred_at)
    imported = event.action == "import"
    sent_ms = clock.now_ms if event.sent_at is None or imported else decode_time(event.sent_at)
    if occurred_ms - sent_ms > clock.max_ahead_ms:
        return InputRefused(
            "grant-in-the-future",
            f"A grant may be dated at most {clock.max_ahead_ms // 60_000} minutes ahead; send occurredAt and sentAt "
            "from one clock.",
            "/occurredAt",
        )
    if sent_ms - occurred_ms > clock.max_age_ms and not imported:
        return InputRefused(
            "grant-too-old",
            f"A grant may be at most {clock.max_age_ms // DAY_MS} days old when it is sent; import older ones with a "
            "secret key and the action import.",
            "/occurredAt",
        )
    return None


def _stored(
    event: EventInput, event_id: str, site: str, policies: PolicyHistory, trusted: bool, shown_published: bool
) -> Event:
    published = event.policy_version is not None and policies.get(event.policy_version) is not None
    return Event(
        id=event_id,
        site=site,
        type=event.type,
        visitor=event.visitor,
        decisions=event.decisions,
        action=event.action,
        policy_version=event.policy_version if published else None,
        cited_policy_version=None if published else event.policy_version,
        language=event.language,
        component=event.component,
        shown=event.shown if shown_published else None,
        cited_shown=None if shown_published else event.shown,
        region=event.region if trusted else None,
        gpc=event.gpc,
        occurred_at=event.occurred_at,
        sent_at=event.sent_at,
    )
