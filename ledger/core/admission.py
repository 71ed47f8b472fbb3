"""Whether an event is admitted under the site's policies, and what is stored of it.

A denial is never refused for an odd clock, version, purpose, scope or account; a grant has to be right in all of them,
and so has a link to an account. What an event decides is core/decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ledger.core.duration import DAY_MS
from ledger.core.encoding import decode_time
from ledger.core.errors import InputRefused
from ledger.core.event import ANY_PURPOSE, GRANTED, LINKING, Event, EventInput, InputType, normal_time
from ledger.core.policy import PolicyHistory


class Clock(NamedTuple):
    """The process's time and the bounds of a grant's age, all in milliseconds."""

    now_ms: int
    max_age_ms: int
    max_ahead_ms: int


class Sender(NamedTuple):
    """What the service knows of who sent an event, beside what the event says.

    `trusted`: with a secret key. `linked`: the account (keyed hash) that the visitor is linked to, None if to none;
    only choices of the scope `account` and the ends of links ask for it. `region`: as the server found it, for an event
    whose own is not believed.
    """

    trusted: bool
    linked: str | None = None
    region: str | None = None


class Admission(NamedTuple):
    """`event` is what to store. With a `refusal` it holds the denials alone, or nothing if there were none."""

    event: Event | None
    refusal: InputRefused | None


class Normal(NamedTuple):
    """An event with its times in the one encoding. `unreadable` tells of a time that is none of the calendar: left out
    of the event, it is held against grants and links alone, and denials count when they are recorded.
    """

    event: EventInput
    unreadable: InputRefused | None = None


_EVERY_TYPE = frozenset(
    {"type", "visitor", "id", "policy_version", "language", "component", "shown", "region", "occurred_at", "sent_at"}
)
_SIGNALS = frozenset({"gpc", "tc_string", "gpp_string", "conditional"})
_CHOICE = _EVERY_TYPE | _SIGNALS | {"decisions", "action", "scope", "account", "original"}
_LINK = _EVERY_TYPE | {"account"}
_CARRIES: dict[InputType, frozenset[str]] = {
    "consent.given": _CHOICE,
    "consent.refused": _CHOICE,
    "consent.withdrawn": _CHOICE,
    "consent.dismissed": _EVERY_TYPE | _SIGNALS | {"action", "original"},
    "notice.seen": _EVERY_TYPE | _SIGNALS,
    "account.linked": _LINK,
    "account.unlinked": _LINK,
}
"""The members that an event of a type may have beside their defaults."""
_MEMBERS = [(field.name, field.encode_name, field.default) for field in msgspec.structs.fields(EventInput)]

_ACTED_FOR = {
    "api": "a program",
    "gpc": "a signal",
}
"""Actions that are no act of a visitor."""


def normalize(event: EventInput) -> Normal:
    """The same event with its times in the one encoding, and with the action that its type has by itself."""
    if event.type == "consent.dismissed" and event.action is None:
        event = msgspec.structs.replace(event, action="dismiss")
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
    sender: Sender,
) -> Admission:
    """Judge a normalized event, whose account is named by its keyed hash.

    What is wrong with the event as such raises `InputRefused`; what is wrong with its grants comes back as `refusal`,
    so that its denials are still stored, under `denials_id()`.
    """
    event = normal.event
    grants = {purpose for purpose, answer in event.decisions.items() if answer == GRANTED}
    _check_members(event)
    _check_type(event, grants, sender)

    def stored(event: EventInput, event_id: str) -> Event:
        return _stored(event, event_id, site, policies, sender)

    if event.type in LINKING:
        refusal = _refuse_link(normal, clock) if event.type == "account.linked" else _refuse_end(event, sender)
        return Admission(None, refusal) if refusal else Admission(stored(event, event_id), None)
    if not grants:
        return Admission(stored(event, event_id), None)
    refusal = normal.unreadable or _refuse_grants(event, grants, policies, clock, sender)
    if refusal is None:
        return Admission(stored(event, event_id), None)
    denials = {purpose: answer for purpose, answer in event.decisions.items() if answer != GRANTED}
    if not denials:
        return Admission(None, refusal)
    kept = msgspec.structs.replace(event, type="consent.refused", decisions=denials)
    return Admission(stored(kept, denials_id()), refusal)


def _check_members(event: EventInput) -> None:
    """Nothing that a type does not have: what is silently left out of the record would be taken for recorded."""
    carries = _CARRIES[event.type]
    if carries is _CHOICE:
        return
    for name, encoded, default in _MEMBERS:
        if name not in carries and getattr(event, name) not in (default, {}):
            raise InputRefused("invalid-event", f"{event.type} has no {encoded}; leave it out.", f"/{encoded}")


def _check_type(event: EventInput, grants: set[str], sender: Sender) -> None:
    kind = event.type
    if kind in LINKING:
        if event.account is None:
            raise InputRefused("invalid-event", f"{kind} names the account, as your backend knows it.", "/account")
        if not sender.trusted:
            raise InputRefused(
                "secret-key-needed",
                f"{kind} needs a secret key with the scope events: send it from the backend that signs the visitor in.",
                "/type",
            )
        return
    if event.action == "import" and not sender.trusted:
        raise InputRefused("secret-key-needed", "Imports need a secret key with the scope events.", "/action")
    if event.original is not None and event.action != "import":
        raise InputRefused("invalid-event", "original belongs to the action import alone.", "/original")
    if kind == "notice.seen":
        return
    if kind == "consent.dismissed":
        if event.action not in ("dismiss", "import"):
            raise InputRefused("invalid-event", "consent.dismissed has the action dismiss; leave it out.", "/action")
        return
    if kind == "consent.given" and not grants:
        raise InputRefused(
            "invalid-event",
            "consent.given holds at least one granted purpose; send consent.refused or consent.withdrawn for denials.",
            "/decisions",
        )
    if not event.decisions:
        raise InputRefused("invalid-event", f"{kind} names at least one purpose.", "/decisions")
    if kind != "consent.given" and grants:
        raise InputRefused(
            "invalid-event", f"{kind} holds denials only; send the grants as consent.given.", "/decisions"
        )
    if event.action is None:
        raise InputRefused("invalid-event", f"{kind} has an action: what the visitor did.", "/action")


def _refuse_grants(
    event: EventInput,
    grants: set[str],
    policies: PolicyHistory,
    clock: Clock,
    sender: Sender,
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
        known = ", ".join(filter(cited.document.offers, cited.document.purposes))
        return InputRefused(
            "unknown-purpose",
            f"Version {event.policy_version} of the policy has no such purpose; it has {known}.",
            _decision(unknown[0]),
        )
    if event.shown is not None and not policies.shows(event.shown):
        return InputRefused(
            "unknown-document",
            "`shown` is the SHA-256 of nothing published: it is a version of the site's policy, a notice that one "
            "names, or what an acceptance is about.",
            "/shown",
        )
    for purpose in sorted(grants):
        terms = cited.document.purposes[purpose]
        if terms.kind == "acceptance" and event.shown != terms.document:
            return InputRefused(
                "document-not-shown",
                f"A grant of {purpose} accepts a document: show it, and cite it as `shown`, {terms.document}.",
                "/shown",
            )
    return _refuse_actor(event, sender) or _refuse_clock(event, clock)


def _refuse_actor(event: EventInput, sender: Sender) -> InputRefused | None:
    """Whether a grant is somebody's act at all, and of somebody whose word can be taken for it."""
    if event.action == "dismiss":
        return InputRefused(
            "visitor-act-needed",
            "Closing a question grants nothing: send consent.dismissed, or name the control that the visitor used.",
            "/action",
        )
    if event.action in _ACTED_FOR and not sender.trusted:
        return InputRefused(
            "visitor-act-needed",
            f"A grant is a visitor's act, and {_ACTED_FOR[event.action]}'s is none: name what the visitor did "
            "(accept_all, customize, settings …). A page load that repeats an earlier choice sends notice.seen.",
            "/action",
        )
    if event.action == "guardian" and not sender.trusted:
        return InputRefused(
            "secret-key-needed",
            "A guardian's grant needs a secret key with the scope events: send it from the backend that confirmed who "
            "the guardian is.",
            "/action",
        )
    if event.account is not None:
        return InputRefused(
            "invalid-event",
            "A choice names no account: link the visitor with account.linked, and send the choice with the scope "
            "account.",
            "/account",
        )
    if event.scope == "account" and sender.linked is None:
        return InputRefused(
            "not-linked",
            "The visitor is linked to no account: send account.linked with a secret key first, or the scope device.",
            "/scope",
        )
    return None


def _refuse_link(normal: Normal, clock: Clock) -> InputRefused | None:
    return normal.unreadable or _refuse_clock(normal.event, clock)


def _refuse_end(event: EventInput, sender: Sender) -> InputRefused | None:
    """The end of a link that another one has ended already would end that other one."""
    if sender.linked in (None, event.account):
        return None
    return InputRefused(
        "not-linked",
        "The visitor is linked to another account by now, which ended the link to this one: there is nothing to end.",
        "/account",
    )


def _refuse_clock(event: EventInput, clock: Clock) -> InputRefused | None:
    """The age of a grant or link is measured by the visitor's own two clocks where both were sent, else by ours."""
    imported = event.action == "import"
    if event.occurred_at is None and imported:
        return InputRefused(
            "invalid-event",
            "An imported grant counts from when it was given: send that as occurredAt, or it would begin anew today.",
            "/occurredAt",
        )
    if event.occurred_at is None:
        return None
    occurred_ms = decode_time(event.occurred_at)
    sent_ms = clock.now_ms if event.sent_at is None or imported else decode_time(event.sent_at)
    what = "A link" if event.type == "account.linked" else "A grant"
    if occurred_ms - sent_ms > clock.max_ahead_ms:
        return InputRefused(
            "grant-in-the-future",
            f"{what} may be dated at most {clock.max_ahead_ms // 60_000} minutes ahead; send occurredAt and sentAt "
            "from one clock.",
            "/occurredAt",
        )
    if sent_ms - occurred_ms > clock.max_age_ms and not imported:
        advice = "import older ones with a secret key and the action import"
        if event.type == "account.linked":
            advice = "leave occurredAt out to link from now on"
        return InputRefused(
            "grant-too-old",
            f"{what} may be at most {clock.max_age_ms // DAY_MS} days old when it is sent; {advice}.",
            "/occurredAt",
        )
    return None


def _stored(event: EventInput, event_id: str, site: str, policies: PolicyHistory, sender: Sender) -> Event:
    published = event.policy_version is not None and policies.get(event.policy_version) is not None
    shown = event.shown is not None and policies.shows(event.shown)
    return Event(
        id=event_id,
        site=site,
        type=event.type,
        visitor=event.visitor,
        decisions=event.decisions,
        action=event.action,
        authentication="secret" if sender.trusted else "publishable",
        policy_version=event.policy_version if published else None,
        cited_policy_version=None if published else event.policy_version,
        language=event.language,
        component=event.component,
        shown=event.shown if shown else None,
        cited_shown=None if shown else event.shown,
        region=event.region if sender.trusted else sender.region,
        gpc=event.gpc,
        tc_string=event.tc_string,
        gpp_string=event.gpp_string,
        conditional=event.conditional,
        account=event.account if event.type in LINKING else sender.linked if event.scope == "account" else None,
        original=event.original,
        occurred_at=event.occurred_at,
        sent_at=event.sent_at,
    )


def _decision(purpose: str) -> str:
    return "/decisions/" + purpose.replace("~", "~0").replace("/", "~1")
