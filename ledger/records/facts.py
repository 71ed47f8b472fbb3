"""What every rendering says of a dossier, free of any format: which purposes, answered how, for how long, who receives.

Where the policy says nothing, the answer is None and a rendering has to say so: nothing is made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeVar

from ledger.core.document import Cookie, LegalBasis, Purpose, Recipient, SiteDocument, Texts
from ledger.core.encoding import encode_time
from ledger.core.errors import InputRefused
from ledger.core.event import ANY_PURPOSE, DENIED, GRANTED, Answer, Event
from ledger.core.fold import Recorded, effective_ms
from ledger.core.regions import COUNTRIES, DEFAULT, GROUPS
from ledger.messages import PurposeDecision
from ledger.records.dossier import Dossier

State = Literal[
    "ConsentGiven",
    "ConsentRefused",
    "ConsentWithdrawn",
    "ConsentExpired",
    "ConsentInvalidated",
    "ConsentRequestDeferred",
]
"""What an event means for a purpose, in W3C DPV's words."""

Value = TypeVar("Value")

DECIDING = ("consent.given", "consent.refused", "consent.withdrawn")
LAPSING = ("consent.expired", "consent.invalidated")


class Answered(NamedTuple):
    """A purpose that the event is about. `terms` is None where the policy does not know it; `after` is the ledger's
    answer right after the event, where it was asked for."""

    purpose: str
    state: State
    terms: Purpose | None
    after: PurposeDecision | None

    @property
    def granted(self) -> bool:
        return self.state == "ConsentGiven"


def answers(dossier: Dossier) -> tuple[Answered, ...]:
    """The event's purposes, in the policy's order. `"*"` stands for every optional purpose that it does not name."""
    event, document = dossier.event, dossier.document
    named = dict(event.decisions)
    star = named.pop(ANY_PURPOSE, None)
    if event.type in LAPSING:
        stated: dict[str, Answer] = dict.fromkeys(event.lapsed, DENIED)
    elif event.type == "consent.dismissed":
        stated = dict.fromkeys(_optional(document), DENIED)
    else:
        stated = dict(named) if star is None else {**dict.fromkeys(_optional(document), star), **named}
    order = _order(document)
    found = sorted(stated, key=lambda purpose: (order.get(purpose, len(order)), purpose))
    return tuple(
        Answered(
            purpose,
            _state(dossier, stated[purpose], dossier.after.get(purpose)),
            None if document is None else document.purposes.get(purpose),
            dossier.after.get(purpose),
        )
        for purpose in found
    )


def recorded_answers(dossier: Dossier) -> tuple[Answered, ...]:
    """As `answers`; `InputRefused` for an event that holds no choice and ends none."""
    if dossier.event.type not in (*DECIDING, *LAPSING, "consent.dismissed"):
        raise InputRefused(
            "no-consent-in-event",
            f"An event {dossier.event.type} holds no choice, so there is no consent record of it; its receipt, without "
            "`format` or with format=html, is there.",
        )
    return answers(dossier)


def _state(dossier: Dossier, answer: Answer, after: PurposeDecision | None) -> State:
    event = dossier.event
    if event.type == "consent.expired":
        return "ConsentExpired"
    if event.type == "consent.invalidated":
        return "ConsentInvalidated"
    if event.type == "consent.dismissed":
        return "ConsentRequestDeferred"
    if answer == GRANTED:
        return "ConsentGiven"
    if (
        after is not None
        and after.seq == dossier.receipt.seq
        and after.status in ("ConsentRefused", "ConsentWithdrawn")
    ):
        return "ConsentRefused" if after.status == "ConsentRefused" else "ConsentWithdrawn"
    return "ConsentWithdrawn" if event.type == "consent.withdrawn" else "ConsentRefused"


def _optional(document: SiteDocument | None) -> list[str]:
    return [] if document is None else [purpose for purpose in document.purposes if document.asks(purpose)]


def _order(document: SiteDocument | None) -> dict[str, int]:
    if document is None:
        return {}
    return {purpose: place for place, purpose in enumerate(document.purposes)}


def event_time(dossier: Dossier, answered: Answered | None = None) -> str:
    """When the event counts, in the one encoding: by the visitor's clock only as far as it can be believed."""
    if dossier.event.type in LAPSING:
        return dossier.event.occurred_at or dossier.receipt.recorded_at
    answer = GRANTED if answered is not None and answered.granted else DENIED
    recorded = Recorded(dossier.receipt.seq, dossier.recorded_ms, dossier.event)
    return encode_time(effective_ms(recorded, answer))


def concerned(found: Iterable[Answered]) -> tuple[Answered, ...]:
    """The purposes that facts about data and recipients are told of: those granted, or all where none was."""
    everything = tuple(found)
    return tuple(answered for answered in everything if answered.granted) or everything


def recipients(found: Iterable[Answered]) -> tuple[Recipient, ...]:
    """Each recipient of these purposes once."""
    named = (recipient for answered in found if answered.terms is not None for recipient in answered.terms.recipients)
    return tuple(dict.fromkeys(named))


def cookies(found: Iterable[Answered]) -> tuple[tuple[str, Cookie], ...]:
    """Every declared cookie of these purposes with the purpose."""
    return tuple(
        (answered.purpose, cookie)
        for answered in found
        if answered.terms is not None
        for cookie in answered.terms.cookies
    )


def has_third_parties(found: Iterable[Answered]) -> bool:
    """Whether anybody beside the controller receives data, as far as the policy says: a recipient, or a third party's
    cookie (Kazakhstan, Law 94-V, article 8)."""
    of_interest = tuple(found)
    return bool(recipients(of_interest)) or any(cookie.party == "third" for _, cookie in cookies(of_interest))


def home_of(document: SiteDocument) -> str | None:
    """The controller's country. A BIN is Kazakhstan's."""
    return document.controller.country or ("KZ" if document.controller.bin else None)


def crosses_border(document: SiteDocument, found: Iterable[Answered]) -> bool | None:
    """Whether data leaves the controller's country, as far as the policy says; None where it does not say."""
    of_interest = tuple(found)
    home = home_of(document)
    regions = [recipient.region for recipient in recipients(of_interest)]
    regions += [a.terms.destination for a in of_interest if a.terms is not None and a.terms.kind == "transfer"]
    if any(region is not None and region.partition("-")[0] != home for region in regions):
        return True if home is not None else None
    third_party_cookies = any(cookie.party == "third" for _, cookie in cookies(of_interest))
    return None if None in regions or (third_party_cookies and not regions) else False


def is_published(found: Iterable[Answered]) -> bool:
    """Whether data is made public for one of these purposes."""
    return any(answered.terms is not None and answered.terms.publication for answered in found)


def legal_basis(terms: Purpose | None, region: str | None) -> LegalBasis:
    """On what a purpose rests for a visitor from there; consent where the policy names nothing else."""
    if terms is None:
        return "consent"
    return by_region(terms.legal_basis, region) or "consent"


def by_region(table: Mapping[str, Value], region: str | None) -> Value | None:
    """The most specific entry for a region: subdivision, country, group, default."""
    if region is not None:
        country = region.partition("-")[0]
        groups = (group for group, members in GROUPS.items() if country in members)
        for key in (region, country, *groups):
            if key in table:
                return table[key]
    return table.get(DEFAULT)


def minimum_age(table: Mapping[str, int], region: str | None) -> int | None:
    """How old a person has to be, in years. Where the place is unknown, or the table leaves it open, the strictest."""
    found = None if region is None else by_region(table, region)
    return max(table.values(), default=None) if found is None else found


def text_in(texts: Texts, language: str, languages: Iterable[str] = ()) -> str:
    """A text in a language, or the nearest that there is."""
    base = language.partition("-")[0]
    kin = (tag for tag in texts if tag.partition("-")[0] == base)
    return next(
        (texts[tag] for tag in (language, base, *kin, *languages) if tag in texts), next(iter(texts.values()), "")
    )


def language_of(dossier: Dossier, asked: str | None = None) -> str:
    """In which language a person reads the record: the one asked for, else the event's, else the site's first."""
    document = dossier.document
    return asked or dossier.event.language or (document.languages[0] if document and document.languages else "en")


def jurisdictions(dossier: Dossier) -> tuple[str, ...]:
    """Places whose law may apply: where the visitor was, where the controller is."""
    home = None if dossier.document is None else home_of(dossier.document)
    return tuple(dict.fromkeys(place for place in (dossier.event.region, home) if place))


def is_country(region: str) -> bool:
    return region.partition("-")[0] in COUNTRIES or region in GROUPS


def document_url(dossier: Dossier) -> str:
    """Where the policy document can be read, byte for byte."""
    return f"{dossier.base_url}/documents/{dossier.document_sha256}"


def checkpoint_of(proof: str) -> str:
    """The checkpoint at the end of a proof's text (c2sp.org/tlog-proof)."""
    return proof.partition("\n\n")[2]


def is_about_account(event: Event) -> bool:
    """Whether the choice was made for every browser of an account."""
    return event.account is not None and event.type in DECIDING
