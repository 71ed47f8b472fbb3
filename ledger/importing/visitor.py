"""Under which visitor a row is recorded, so that the browser which the old tool knew is recognised again.

An id that is a visitor id already is kept: the page reads it from the old tool's cookie. A longer random key, as some
tools write in base64, becomes its SHA-256, which the page can compute too. Whatever could be guessed or is somebody's
address (a customer number, an e-mail address) becomes a keyed hash that only the holder of the key file can make: the
site's backend, when the person signs in. Such an id itself is stored nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import NamedTuple

from ledger.core.errors import RowRefused

_VISITOR = re.compile(r"[A-Za-z0-9_-]{22,64}")
_RANDOM = re.compile(r"(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])[A-Za-z0-9+/_-]{22,256}={0,2}")
KEY_BYTES = 32


class Visitor(NamedTuple):
    """`how`: `kept`, `hashed` or `keyed`."""

    id: str
    how: str


def visitor_of(raw: str, site: str, key: bytes | None, *, keep: bool = True) -> Visitor:
    """The visitor of another tool's id; `RowRefused` where it takes a key and there is none."""
    if keep and _VISITOR.fullmatch(raw):
        return Visitor(raw, "kept")
    if keep and _RANDOM.fullmatch(raw):
        return Visitor(_text(hashlib.sha256(f"consent-ledger import\n{site}\n{raw}".encode()).digest()), "hashed")
    if key is None:
        raise RowRefused(
            "visitor-key-missing",
            "The row's id could be guessed, or is an address, so only a keyed hash of it may be stored: name a key "
            "file by --visitor-key (it is made if it is not there).",
        )
    name = raw.casefold() if "@" in raw else raw
    return Visitor(_text(hmac.digest(key, f"consent-ledger import\n{site}\n{name}".encode(), "sha256")), "keyed")


def _text(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
