"""OneTrust, Universal Consent and Preference Management: receipts and data subjects' preferences, as CSV or JSON.

Read are the receipt's id, the data subject's identifier, the interaction date, the language, and per purpose its name
or id, its version and the transaction type (or the status, where there is no type). In JSON a receipt holds a list of
purposes, and a list of receipts may lie under `content`; where the purposes carry dates of their own (a subject's
profile), each becomes an event of its own. Test receipts are left out.

CONFIRMED, ACTIVE and OPT_IN are grants; NOT_GIVEN, NO_CONSENT and OPT_OUT denials; WITHDRAWN a withdrawal. NO_CHOICE,
PENDING and EXPIRED are no choice that counts, IMPLICIT is no act of the person: left out. Any other type (a change of
preferences inside a purpose, say) is refused, unless the mapping says under `answers` what it is.

The identifier is mostly an e-mail address: such rows need `--visitor-key`. Of cookie banners it is the `consentId` of
the cookie `OptanonConsent`, which is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ledger.core.errors import RowRefused
from ledger.importing.found import Format, Found, common, has_lapsed
from ledger.importing.mapping import Plan, answer_words
from ledger.importing.row import Cells, Row, as_json, as_text, pick, plain

_NAMES = {
    "id": ("receipt id", "receipt guid", "transaction id"),
    "visitor": (
        "identifier", "data subject identifier", "data subject id", "data subject", "consent id", "data subject guid",
    ),
    "time": ("interaction date", "transaction date", "last transaction date", "consent date", "date"),
    "purpose": ("purpose name", "purpose", "purpose id", "purpose guid"),
    "answer": ("transaction type", "transaction status", "consent status", "purpose status", "status"),
    "purposes": ("purposes",),
    "language": ("language", "consent language"),
    "region": ("country code", "country"),
    "version": ("privacy notice version", "purpose version", "version"),
    "validUntil": ("expiry date", "expiration date", "consent expiry date"),
    "status": ("test", "is test", "test receipt"),
}  # fmt: skip
_ANSWERS = _NAMES["answer"]
_DATES = ("last transaction date", "last interaction date", "transaction date", "consent date")
_PURPOSE_NAMES = ("name", "purpose name", "id", "purpose id", "guid", "purpose guid")
_WORDS = answer_words(
    granted="CONFIRMED ACTIVE OPT_IN OPTED_IN",
    denied="NOT_GIVEN NO_CONSENT OPT_OUT OPTED_OUT HARD_OPT_OUT",
    withdrawn="WITHDRAWN",
    none="NO_CHOICE PENDING EXPIRED IMPLICIT IMPLICIT_CONSENT",
)


def _split(row: Row) -> Iterator[Row]:
    """A profile's purposes are events of their own, each at its own time."""
    cells = Cells(row.value, _NAMES)
    purposes = cells.get("purposes")
    if cells.text("time") or not isinstance(purposes, list) or not purposes:
        yield row
        return
    for part, purpose in enumerate(purposes, 1):
        date = next((date for name in _DATES if (date := as_text(pick(purpose, name)))), "")
        yield Row(row.number, {**row.value, "purposes": [purpose], "interactionDate": date}, part)


def _find(cells: Cells, value: Mapping[str, Any], plan: Plan) -> Found:
    purposes = as_json(cells.get("purposes"))
    if purposes is None:
        found = common(cells, [(cells.need("purpose"), cells.need("answer"))])
    elif isinstance(purposes, list) and purposes and all(isinstance(purpose, dict) for purpose in purposes):
        found = common(cells, [_answer(purpose, plan) for purpose in purposes])
        if not found.version:
            versions = {as_text(pick(purpose, "version")) for purpose in purposes}
            found = found._replace(version=versions.pop() if len(versions) == 1 else "")
    else:
        raise RowRefused("no-purposes", "The receipt holds no list of purposes.")
    is_test = plan.words.get(plain(cells.text("status"))) == "granted"
    return found._replace(set_aside="test") if is_test else found


def _answer(purpose: Mapping[str, Any], plan: Plan) -> tuple[str, str]:
    names = [name for one in _PURPOSE_NAMES if (name := as_text(pick(purpose, one)))]
    if not names:
        raise RowRefused("no-purpose", "A purpose of the receipt has neither name nor id.")
    known = [name for name in names if plain(name) in plan.purposes or plain(name) in plan.ignored]
    word = next((word for one in _ANSWERS if (word := as_text(pick(purpose, one)))), "")
    if not word:
        raise RowRefused("no-answer", "A purpose of the receipt has no transaction type.")
    if has_lapsed(as_text(pick(purpose, "expiry date")), plan) and plan.words.get(plain(word)) == "granted":
        word = "EXPIRED"
    return (known or names)[0], word


FORMAT = Format(
    name="onetrust",
    tables=True,
    json=True,
    names=_NAMES,
    words=_WORDS,
    find=_find,
    wrappers=("content", "receipts", "data"),
    split=_split,
    needed=("visitor", "time", "purpose", "answer"),
)
