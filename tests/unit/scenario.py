"""How a scenario of decisions is written down: a site's versions, what was recorded, and what the answers are when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from ledger.core.decide import Mark, Outcome, Recorded
from ledger.core.encoding import encode_time
from ledger.core.event import Event
from ledger.core.policy import PolicyHistory, Published, parse_site_document
from tests.devices import stored

LAPTOP, PHONE = "laptop" + "-" * 16, "phone" + "-" * 17
ANNA, BERIK = "a" * 32, "b" * 32
"""Accounts, by their keyed hashes."""
TEXT = {"en": "text"}

# Answers: decision, reason and status (`-` for none).
NOT_ASKED = "denied never_asked Unknown"
DEFAULT = "granted opt_out_default -"
GRANTED = "granted granted Given"
BARRED = "granted withdrawal_barred Given"
REFUSED = "denied refused Refused"
WITHDRAWN = "denied withdrawn Withdrawn"
SIGNAL = "denied gpc Refused"
EXPIRED = "denied expired Expired"
CHANGED = "denied policy_changed Invalidated"
NO_AGE = "denied age_unconfirmed Invalidated"
NO_PURPOSE = "denied unknown_purpose Unknown"
NO_POLICY = "denied no_policy Unknown"


def ms(time: str) -> int:
    """`02-01`, `2025-12-01` or `02-01 12:00:00.000`, of 2026 unless it says otherwise, UTC."""
    day, _, clock = time.partition(" ")
    moment = datetime.fromisoformat(f"{day if len(day) > 5 else f'2026-{day}'}T{clock or '00:00'}").replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def version(number: str, published: str, *, seq: int | None = None, **changes: Any) -> Published:
    """A version of a site, published at seq 1, 2, … by its number. Analytics is opt-in, but opt-out in the US and
    exempt in the United Kingdom; marketing is opt-in everywhere. A grant lasts six months. A refusal keeps the question
    away for six months, in the US for twelve, a withdrawal for twelve, a dismissal for a week.
    """
    policy = {"version": number, "effectiveAt": "2025-01-01", "url": "https://s.example/", "material": False}
    regimes = {"default": "opt-in", "US": "opt-out", "GB": "exempt"}
    purposes: dict[str, Any] = {
        "necessary": {"required": True},
        "analytics": {"regimes": regimes},
        "marketing": {},
    } | changes.pop("purposes", {})
    document = {
        "site": "s.example",
        "controller": {"name": "Example"},
        "languages": ["en"],
        "origins": ["https://s.example"],
        "renewAfter": "P6M",
        "reaskAfter": {"refusal": "P6M", "withdrawal": "P12M", "dismissal": "P7D"},
        "reaskAfterIn": {"US": {"refusal": "P12M", "withdrawal": "P12M", "dismissal": "P7D"}},
        "policy": policy | changes.pop("policy", {}),
        "purposes": {name: {"title": TEXT, "description": TEXT} | members for name, members in purposes.items()},
    }
    parsed = parse_site_document(msgspec.json.encode(document | changes))
    return Published(int(float(number)) if seq is None else seq, ms(published), b"", parsed)


ONE = (version("1", "01-01"),)


def event(
    seq: int,
    recorded: str,
    decisions: str = "",
    *,
    cites: str | None = "1",
    made: str | None = None,
    sent: str | None = None,
    by: str | None = None,
    device: str = LAPTOP,
    region: str | None = "KZ",
    **members: Any,
) -> Recorded:
    """What one browser told: `+analytics -*` grants one purpose and denies all others; `by` is the action, or the type
    of an event without decisions. `made` and `sent` are the browser's own times.
    """
    answers = {word[1:]: "granted" if word[0] == "+" else "denied" for word in decisions.split()}
    if not answers:
        kind, action = by, None
    else:
        action = by or "customize"
        kind = "consent.given" if "granted" in answers.values() else "consent.refused"
        kind = "consent.withdrawn" if action == "withdraw" else kind
    told = {
        "id": str(seq),
        "site": "s.example",
        "type": kind,
        "visitor": device,
        "decisions": answers,
        "action": action,
        "policy_version": cites,
        "region": region,
        "occurred_at": None if made is None else encode_time(ms(made)),
        "sent_at": None if sent is None else encode_time(ms(sent)),
    }
    return stored(seq, ms(recorded), Event(**(told | members)))


class Moment(NamedTuple):
    """A question and its answer: decision, reason and status (`-` for none)."""

    at: str
    answer: str
    until: str | None = None
    ask: bool = False
    notify: bool = False
    conflict: bool = False
    conditional: bool = False
    purpose: str = "analytics"
    region: str | None = "KZ"
    gpc: bool = False
    known: int | None = None
    device: str = LAPTOP

    @property
    def asked(self) -> str:
        """The question in short."""
        parts = [self.at, self.purpose, f"from {self.region}"]
        parts += [self.device.strip("-")] if self.device != LAPTOP else []
        parts += ["under GPC"] if self.gpc else []
        parts += [] if self.known is None else [f"known at {self.known}"]
        return ", ".join(parts)

    def of(self, outcome: Outcome) -> Moment:
        """The same question with the answer that was got."""
        until_ms = outcome.valid_until_ms
        return self._replace(
            answer=f"{outcome.decision} {outcome.reason} {(outcome.status or '-').removeprefix('Consent')}",
            until=None if until_ms is None else encode_time(until_ms),
            ask=outcome.ask,
            notify=outcome.notify,
            conflict=outcome.conflict,
            conditional=outcome.conditional,
        )

    @property
    def expected(self) -> Moment:
        return self._replace(until=None if self.until is None else encode_time(ms(self.until)))


class Scenario(NamedTuple):
    """What was published and recorded, in any order, and what the answers are."""

    name: str
    told: tuple[Recorded, ...]
    moments: tuple[Moment, ...]
    versions: tuple[Published, ...] = ONE
    marks: tuple[Mark, ...] = ()

    @property
    def policies(self) -> PolicyHistory:
        return PolicyHistory(self.versions)

    def of(self, device: str) -> list[Recorded]:
        """What lies under a browser: its links and the choices made for it alone."""
        return [one for one in self.told if one.event.visitor == device and not _for_an_account(one.event)]

    @property
    def accounts(self) -> Mapping[str, list[Recorded]]:
        """What lies under each account."""
        found: dict[str, list[Recorded]] = {ANNA: [], BERIK: []}
        for one in self.told:
            if _for_an_account(one.event) and one.event.account is not None:
                found[one.event.account].append(one)
        return found


def _for_an_account(told: Event) -> bool:
    return told.account is not None and bool(told.decisions)
