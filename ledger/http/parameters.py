"""Query parameters and the headers of our own, each by its name; one that is not known here is refused.

A misspelt parameter that were ignored would answer another question than the one that was asked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

import msgspec
from aiohttp import web
from multidict import MultiMapping

from ledger.core import forms
from ledger.core.encoding import decode_decimal
from ledger.core.errors import InputRefused, Malformed
from ledger.core.event import (
    ANY_PURPOSE,
    MAX_PURPOSES,
    AnyTime,
    EventId,
    PurposeId,
    VisitorId,
    matches,
    parse_time,
)

Word = TypeVar("Word", bound=str)

VISITOR = "Consent-Visitor"
MIN_POSITION = "Consent-Min-Position"
PREFER = "Prefer"
GPC = "Sec-GPC"


def query(request: web.Request, once: Collection[str] = (), many: Collection[str] = ()) -> MultiMapping[str]:
    """The query parameters, none but the named ones, those in `once` at most once."""
    parameters = request.query
    for name in parameters:
        if name == "visitor":
            raise InputRefused(
                "visitor-in-url",
                f"URLs end up in logs and histories: send the visitor id in the header {VISITOR}, never in the URL.",
            )
        if name not in once and name not in many:
            known = ", ".join((*once, *many)) or "none"
            raise InputRefused("unknown-parameter", f"{name[:64]!r} is not known here; known parameters: {known}.")
        if name in once and len(parameters.getall(name)) > 1:
            raise InputRefused("invalid-parameter", f"Send {name} once.")
    return parameters


def visitor(request: web.Request) -> str:
    """The visitor that the header names."""
    sent = request.headers.get(VISITOR)
    if sent is None:
        raise InputRefused("visitor-missing", f"Send the visitor id in the header {VISITOR}.")
    if not matches(VisitorId, sent):
        raise InputRefused("invalid-header", f"{VISITOR} is {forms.VISITOR.expected}.")
    return sent


def identifier(request: web.Request, of_what: str) -> str:
    """The id that the path names, of an event, an erasure or a request."""
    named = request.match_info["id"]
    if not matches(EventId, named):
        raise InputRefused("not-found", f"{of_what} is named by its id, a UUID in lower case.")
    return named


def purposes(parameters: MultiMapping[str]) -> list[str] | None:
    """The purposes asked for, each once; None asks for all of the policy."""
    asked = list(dict.fromkeys(parameters.getall("purpose", ())))
    if len(asked) > MAX_PURPOSES:
        raise InputRefused("invalid-parameter", f"Ask for at most {MAX_PURPOSES} purposes at once.")
    for purpose in asked:
        if purpose == ANY_PURPOSE or not matches(PurposeId, purpose):
            raise InputRefused("invalid-parameter", f"purpose={purpose[:64]!r} is no purpose id.")
    return asked or None


def time(parameters: MultiMapping[str], name: str) -> int | None:
    """A time in milliseconds since 1970."""
    text = parameters.get(name)
    if text is None:
        return None
    try:
        return parse_time(msgspec.convert(text, AnyTime), "")
    except (msgspec.ValidationError, InputRefused) as error:
        raise InputRefused(
            "invalid-parameter", f"{name} is a time like 2026-11-21T03:00:00Z (the + of an offset is written %2B)."
        ) from error


def seq_or_time(parameters: MultiMapping[str], name: str) -> tuple[int | None, bool]:
    """A seq and False, or a time in milliseconds and True."""
    text = parameters.get(name)
    if text is None:
        return None, False
    try:
        return decode_decimal(text), False
    except Malformed:
        pass
    try:
        return time(parameters, name), True
    except InputRefused as error:
        raise InputRefused(error.kind, f"{error.detail} Or it is the seq of an entry, like 42.") from error


def _formed(parameters: MultiMapping[str], name: str, form: forms.Form) -> str | None:
    """A text of this form, or None where it is left out."""
    text = parameters.get(name)
    if text is not None and not form.fits(text):
        raise InputRefused("invalid-parameter", f"{name} is {form.expected}.")
    return text


def version(parameters: MultiMapping[str], name: str) -> str | None:
    """A version of the policy."""
    return _formed(parameters, name, forms.VERSION)


def region(parameters: MultiMapping[str]) -> str | None:
    """An ISO 3166-1 or -2 code."""
    return _formed(parameters, "region", forms.REGION)


def gpc(request: web.Request, parameters: MultiMapping[str]) -> bool:
    """Global Privacy Control, by parameter or by the browser's own header. No signal says nothing."""
    return flag(parameters, "gpc") or request.headers.get(GPC) == "1"


def word(parameters: MultiMapping[str], name: str, words: Sequence[Word]) -> Word | None:
    """One of the words, or None where it is left out."""
    text = parameters.get(name)
    found = next((one for one in words if one == text), None)
    if found is None and text is not None:
        raise InputRefused("invalid-parameter", f"{name} is {' or '.join(words)}, or left out.")
    return found


def language(parameters: MultiMapping[str]) -> str | None:
    """A tag of BCP 47."""
    return _formed(parameters, "language", forms.LANGUAGE)


def flag(parameters: MultiMapping[str], name: str) -> bool:
    """A parameter that is 1 or not there."""
    text = parameters.get(name)
    if text not in (None, "1"):
        raise InputRefused("invalid-parameter", f"{name} is 1, or left out.")
    return text == "1"


def min_position(request: web.Request, site: str) -> int | None:
    """The seq that the answer has to show at least."""
    text = request.headers.get(MIN_POSITION)
    if text is None:
        return None
    name, _, seq = text.rpartition(":")
    try:
        if name == site:
            return decode_decimal(seq)
    except Malformed:
        pass
    raise InputRefused("invalid-header", f"{MIN_POSITION} is the position of a receipt, like {site}:42.")


def page(parameters: MultiMapping[str], default: int, maximum: int) -> int:
    """How many items a page may have."""
    text = parameters.get("limit")
    if text is None:
        return default
    try:
        if 1 <= (limit := decode_decimal(text)) <= maximum:
            return limit
    except Malformed:
        pass
    raise InputRefused("invalid-parameter", f"limit is a number from 1 to {maximum}.")


def prefers_minimal(request: web.Request) -> bool:
    """`Prefer: return=minimal` (RFC 7240)."""
    prefer = request.headers.get(PREFER)
    return prefer is not None and "return=minimal" in prefer.replace(" ", "").lower().split(",")
