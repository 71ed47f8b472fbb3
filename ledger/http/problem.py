"""Refusals as application/problem+json (RFC 9457): one table from our errors to status, stable type and title.

The `type` of a refusal is `urn:consent-ledger:problem:<slug>`; it never changes once it was sent. `detail` is for a
person and may change. Nothing here says what went wrong inside the server: that is an unexpected error without detail.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from aiohttp import hdrs, web

from ledger.core.errors import (
    DocumentInvalid,
    Erased,
    IdConflict,
    InputRefused,
    LedgerError,
    NotFound,
    TooMany,
    Unavailable,
    VersionTaken,
)
from ledger.messages import Problem, Receipt

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:consent-ledger:problem:"


class Kind(NamedTuple):
    """What a slug means to HTTP."""

    status: int
    title: str


KINDS: Mapping[str, Kind] = {
    # The request as such
    "bad-request": Kind(400, "The request is not valid HTTP"),
    "invalid-json": Kind(400, "The body is not valid JSON"),
    "duplicate-member": Kind(400, "A member appears twice"),
    "unknown-parameter": Kind(400, "Unknown query parameter"),
    "invalid-parameter": Kind(400, "Invalid query parameter"),
    "invalid-header": Kind(400, "Invalid request header"),
    "visitor-in-url": Kind(400, "The visitor id is not allowed in a URL"),
    "visitor-missing": Kind(400, "The visitor id is missing"),
    "invalid-cursor": Kind(400, "Invalid cursor"),
    "body-timeout": Kind(408, "The body came too slowly"),
    "body-too-large": Kind(413, "The body is too large"),
    "event-too-large": Kind(413, "The event is too large"),
    "line-too-large": Kind(413, "The line is too large"),
    "too-many-lines": Kind(413, "The batch has too many lines"),
    "unsupported-media-type": Kind(415, "Unsupported content type"),
    "expectation-failed": Kind(417, "Unsupported expectation"),
    # Who is asking
    "key-missing": Kind(401, "An API key is needed"),
    "key-unknown": Kind(401, "Unknown API key"),
    "secret-key-needed": Kind(403, "A secret key is needed"),
    "secret-key-in-browser": Kind(403, "A secret key was sent by a browser"),
    "scope-missing": Kind(403, "The key lacks a scope"),
    "origin-not-allowed": Kind(403, "The page's origin is not allowed"),
    "proof-refused": Kind(403, "The proof is none"),
    "request-token-refused": Kind(403, "The request's token is not valid"),
    # What is asked for
    "not-found": Kind(404, "Not found"),
    "unknown-site": Kind(404, "Unknown site"),
    "method-not-allowed": Kind(405, "Method not allowed"),
    "id-conflict": Kind(409, "The id is taken"),
    "version-taken": Kind(409, "The version is taken"),
    "inventory-changed": Kind(409, "The inventory has changed"),
    "proof-spent": Kind(409, "The proof was used already"),
    "request-changed": Kind(409, "The request has changed"),
    "request-step-refused": Kind(409, "The request is not led on so"),
    "nothing-to-download": Kind(409, "There is nothing to download"),
    "erasure-not-complete": Kind(409, "The erasure is not complete"),
    "erased": Kind(410, "Erased"),
    "visitor-erased": Kind(410, "The visitor was erased"),
    "visitor-restricted": Kind(403, "The visitor's data is restricted"),
    "erasure-ordered": Kind(409, "The visitor was erased"),
    "not-restricted": Kind(409, "Nothing is restricted"),
    "invalid-erasure": Kind(422, "Invalid erasure"),
    "site-closed": Kind(410, "The site is closed"),
    "download-gone": Kind(410, "The link does not work any more"),
    # What it says
    "invalid-event": Kind(422, "Invalid event"),
    "invalid-confirmation": Kind(422, "Invalid confirmation"),
    "unknown-consumer": Kind(422, "Unknown consumer"),
    "not-confirmed": Kind(422, "Not confirmed"),
    "too-many-events": Kind(422, "More events than a page holds"),
    "invalid-download": Kind(422, "Invalid wish for a link"),
    "invalid-check": Kind(422, "Invalid question"),
    "invalid-document": Kind(422, "Invalid site document"),
    "invalid-cookies": Kind(422, "Invalid report or review of cookies"),
    "cookie-name-refused": Kind(422, "A name may not be reported"),
    "invalid-request": Kind(422, "Invalid request of a person"),
    "visitor-unprovable": Kind(422, "The visitor id is not the hash of a key"),
    "wrong-site": Kind(422, "The document is of another site"),
    "invalid-upload": Kind(422, "Invalid document"),
    "other-media-type": Kind(422, "The document is of another type"),
    "document-missing": Kind(422, "A document that is named was not uploaded"),
    "no-consent-in-event": Kind(422, "The event holds no choice"),
    "invalid-query": Kind(422, "The question is about what is not there"),
    "sizes-reversed": Kind(422, "The old size exceeds the new one"),
    "too-many-answers": Kind(422, "Too many answers at once"),
    "policy-version-missing": Kind(422, "The grant cites no policy version"),
    "unknown-policy-version": Kind(422, "Unknown policy version"),
    "policy-not-in-force": Kind(422, "The policy version is not in force yet"),
    "unknown-purpose": Kind(422, "Unknown purpose"),
    "unknown-document": Kind(422, "Unknown document"),
    "document-not-shown": Kind(422, "The accepted document was not shown"),
    "visitor-act-needed": Kind(422, "A grant needs an act of the visitor"),
    "not-linked": Kind(422, "The visitor is not linked to the account"),
    "grant-in-the-future": Kind(422, "The grant is dated in the future"),
    "grant-too-old": Kind(422, "The grant is too old"),
    "too-many-requests": Kind(429, "Too many requests of people"),
    # What we cannot do
    "internal-error": Kind(500, "Unexpected error"),
}
_UNAVAILABLE_TITLE = "Try again later"

_SLUG_OF_STATUS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
    417: "expectation-failed",
}
_DETAIL_OF_STATUS = {
    404: "There is nothing at this address; /openapi.json lists what there is.",
    405: "This address does not take this method; the header Allow lists those it takes.",
    417: "The only expectation that is understood is 100-continue.",
}

INTERNAL = Problem(
    type=TYPE_PREFIX + "internal-error",
    title=KINDS["internal-error"].title,
    status=500,
    detail="The server failed. Repeat the request with the same event id; nothing is recorded twice.",
)

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


def of_error(error: LedgerError) -> Problem | None:
    """The problem that tells a caller of this error, or None where the error is none of the caller's business."""
    if isinstance(error, InputRefused):
        return _refusal(error.kind, error.detail, error.pointer, getattr(error, "recorded", None))
    if isinstance(error, DocumentInvalid):
        return _refusal("invalid-document", str(error), error.pointer)
    if isinstance(error, NotFound):
        return _refusal("not-found", str(error))
    if isinstance(error, IdConflict):
        return _refusal("id-conflict", str(error))
    if isinstance(error, VersionTaken):
        return _refusal("version-taken", str(error))
    if isinstance(error, Erased):
        return _refusal("erased", str(error))
    if isinstance(error, TooMany):
        return _refusal(error.kind, error.detail)
    if isinstance(error, Unavailable):
        return Problem(TYPE_PREFIX + error.reason, _UNAVAILABLE_TITLE, 503, error.detail)
    return None


def of_http(error: web.HTTPException) -> Problem:
    """The problem for an answer that aiohttp gives by itself."""
    slug = _SLUG_OF_STATUS.get(error.status, f"http-{error.status}")
    detail = _DETAIL_OF_STATUS.get(error.status, f"{error.reason}.")
    return Problem(TYPE_PREFIX + slug, KINDS[slug].title if slug in KINDS else error.reason, error.status, detail)


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    """The problem as an HTTP answer."""
    response = web.Response(body=_encode(problem), status=problem.status, headers=headers, content_type=CONTENT_TYPE)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    if problem.status == 401:
        slug = problem.type.removeprefix(TYPE_PREFIX)
        # RFC 6750 section 3: no error code where no credentials came.
        error = "" if slug == "key-missing" else ', error="invalid_token"'
        response.headers[hdrs.WWW_AUTHENTICATE] = f'Bearer realm="consent-ledger"{error}'
    return response


def respond_to(error: Exception, where: str) -> web.Response:
    """The answer to whatever a handler raised. `where` is the route's template, for the log."""
    headers: dict[str, str] = {}
    if isinstance(error, web.HTTPException):
        if allow := error.headers.get(hdrs.ALLOW):
            headers[hdrs.ALLOW] = allow
        return respond(of_http(error), headers)
    if isinstance(error, web.RequestPayloadError):
        error = InputRefused("bad-request", "The body broke off, or is not valid HTTP.")
    told = of_error(error) if isinstance(error, LedgerError) else None
    if isinstance(error, Unavailable | TooMany):
        headers[hdrs.RETRY_AFTER] = str(error.retry_after)
    return respond(told or unexpected(error, where), headers)


def unexpected(error: Exception, where: str) -> Problem:
    """Log where an unexpected error arose, and answer without detail. Its message is not logged: it may quote data."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    path = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    log.error("unexpected %s in %s at %s", type(error).__name__, where, path)
    return INTERNAL


def _refusal(slug: str, detail: str, pointer: str | None = None, recorded: Receipt | None = None) -> Problem:
    kind = KINDS.get(slug) or Kind(422, slug.replace("-", " ").capitalize())
    return Problem(TYPE_PREFIX + slug, kind.title, kind.status, detail, pointer or "", recorded)
