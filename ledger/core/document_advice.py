"""What a site document says that may be read, but that its author should think over. None of it is legal advice.

The document is used as it stands all the same: what cannot be used is core/document_reader's to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledger.core.document import Cookie, Purpose, ReaskAfter, SiteDocument
from ledger.core.duration import DAY_MS, Duration
from ledger.core.place import Path, readable
from ledger.core.regions import COUNTRIES, GROUPS, regime_in

REASK_IN_EUROPE_MIN_DAYS = 180
"""Six months: the French regulator's (CNIL) good practice, which others in the Union follow."""
MONTH_DAYS = 30
"""Good enough to tell periods of months from one another."""
_OPT_IN_COUNTRIES = GROUPS["EEA"] | GROUPS["UK"]
_KAZAKHSTAN = "KZ"


class Advice(NamedTuple):
    """One thing to think over. `path` is the place, like `purposes.analytics.cookies[2]`."""

    path: str
    text: str


def advise(document: SiteDocument) -> tuple[Advice, ...]:
    """Everything to think over, in the document's order; each place at most once for one reason."""
    found = (*_residency(document), *_reask(document), *_records(document))
    for name in document.order:
        if document.offers(name):
            found += tuple(_purpose(document, name, document.purposes[name]))
    return tuple(dict.fromkeys(Advice(readable(path), text) for path, text in found))


def approximate_days(period: Duration) -> float:
    """About how long a period is."""
    return period.months * MONTH_DAYS + period.fixed_ms / DAY_MS


_Found = Iterator[tuple[Path, str]]


def _residency(document: SiteDocument) -> _Found:
    for country in document.residency:
        if not document.stored_in:
            yield ("storedIn",), f"does not say where the ledger's database lies; {country} wants it in the country"
        elif country not in document.stored_in:
            stored = ", ".join(document.stored_in)
            yield (
                ("storedIn",),
                f"the ledger's database lies in {stored}, but {country} wants it kept in the country, with copies "
                f"abroad at most: keep it there, or have counsel confirm that the law does not reach this site",
            )
    if document.controller.country == _KAZAKHSTAN and _KAZAKHSTAN not in document.residency:
        yield (
            ("residency",),
            "the controller is in Kazakhstan, whose law (94-V, article 12) wants the database kept in the country; "
            "name KZ here",
        )


def _reask(document: SiteDocument) -> _Found:
    """A question that comes back too soon after a refusal, where European law holds."""
    for name, purpose in document.purposes.items():
        if not document.asks(name):
            continue
        for country in sorted(GROUPS["EEA"]):
            path, intervals = _reask_in(document, name, purpose, country)
            period = intervals.refusal
            if period is not None and approximate_days(period) < REASK_IN_EUROPE_MIN_DAYS:
                yield (
                    (*path, "refusal"),
                    f"asks again {period} after a refusal, in the European Union too, where at least six months are "
                    "expected",
                )
                break


def _records(document: SiteDocument) -> _Found:
    """Records that go while they count, or never."""
    for name in document.order:
        if not document.asks(name):
            continue
        purpose, lasts = document.purposes[name], document.renewal_of(name)
        accepted = purpose.retention if purpose.kind == "acceptance" else None
        kept = accepted or purpose.record_retention or document.record_retention
        path: Path = ("purposes", name, "retention" if accepted else "recordRetention")
        if accepted is None and purpose.record_retention is None:
            path = ("recordRetention",)
        if kept is None:
            continue
        if accepted or document.record_retention_counted == "act":
            if approximate_days(kept) < approximate_days(lasts):
                yield path, f"the record of a grant goes {kept} after the act, though the grant lasts {lasts}"
        elif (purpose.reask_after or document.reask_after).refusal is None:
            yield (
                path,
                "counts from when an answer stopped to count, and a refusal counts for good: name reaskAfter.refusal, "
                "or count from the act (recordRetentionCounted)",
            )


def _reask_in(document: SiteDocument, name: str, purpose: Purpose, country: str) -> tuple[Path, ReaskAfter]:
    """Which intervals hold for a country, and where they stand: of several groups the longest."""
    if purpose.reask_after is not None:
        return ("purposes", name, "reaskAfter"), purpose.reask_after
    table = document.reask_after_in
    keys = [country] if country in table else [key for key in table if country in GROUPS.get(key, ())]
    if not keys:
        return ("reaskAfter",), document.reask_after
    longest = max(keys, key=lambda key: _length(table[key].refusal))
    return ("reaskAfterIn", longest), table[longest]


def _length(period: Duration | None) -> float:
    return float("inf") if period is None else approximate_days(period)


def _purpose(document: SiteDocument, name: str, purpose: Purpose) -> _Found:
    place: Path = ("purposes", name)
    if not purpose.recipients and any(cookie.party == "third" for cookie in purpose.cookies):
        yield (*place, "recipients"), "third parties set cookies here, but none is named as a recipient"
    if purpose.required:
        return
    consent = document.renewal_of(name)
    for index, cookie in enumerate(purpose.cookies):
        if (lives := _outlives(cookie, consent)) is not None:
            path = (*place, "cookies", index)
            if cookie.clear_on_withdrawal:
                yield path, f"lives {lives}, the consent {consent}: have it deleted when the consent lapses, too"
            else:
                yield path, f"lives {lives}, the consent {consent}, and nothing deletes it with the consent"
    if purpose.kind == "consent":
        yield from _opt_out(document, name)


def _outlives(cookie: Cookie, consent: Duration) -> str | None:
    """How long the cookie lives, where that is longer than the consent for it."""
    if cookie.duration == "persistent":
        return "for as long as nobody deletes it"
    if isinstance(cookie.duration, Duration) and approximate_days(cookie.duration) > approximate_days(consent):
        return str(cookie.duration)
    return None


def _opt_out(document: SiteDocument, name: str) -> _Found:
    """Processing that begins without a question where the law wants consent first."""
    table = document.regimes_of(name)
    countries = {country for country in _OPT_IN_COUNTRIES if regime_in(table, country) == "opt-out"}
    if not countries:
        return
    own = document.purposes[name].regimes
    path: Path = ("purposes", name, "regimes") if own or not document.regimes else ("regimes",)
    yield (
        path,
        f"{name} begins without consent (opt-out) in {', '.join(_shortest(countries))}, where consent comes first",
    )


def _shortest(countries: Iterable[str]) -> list[str]:
    """Countries told by the groups that they fill, the widest first."""
    left, names = set(countries) & COUNTRIES, []
    for group in sorted(GROUPS, key=lambda key: -len(GROUPS[key])):
        if left >= GROUPS[group]:
            names.append(group)
            left -= GROUPS[group]
    return names + sorted(left)
