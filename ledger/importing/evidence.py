"""A row as evidence: its own text, with what must not be kept taken out of it before it leaves this machine.

Removed are whole cells known by name (addresses of the network, the post and the telephone, browsers, names, tokens),
and in every other cell what is an e-mail or IP address, and the query of a URL. Each becomes `[removed]`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ledger.importing.row import Row, plain

REMOVED = "[removed]"
MAX_CHARACTERS = 8_192
MAX_JSON_BYTES = 11_000
"""As a member of the event, which has a bound of its own."""
CUT = "… [cut]"

_WHOLE = frozenset(
    {
        "ip", "ua", "browser", "anonip", "fullname", "firstname", "lastname", "surname", "address", "dataelements",
        "dsdataelements", "contactfields", "additionalidentifiers", "parentprimaryidentifiers",
    }
)  # fmt: skip
_PARTS = (
    "ipaddr", "anonymizedip", "anonymisedip", "maskedip", "useragent", "browserstring", "email", "phone", "mobile",
    "password", "token", "magiclink",
)  # fmt: skip
_NAMED_THINGS = ("purpose", "topic", "preference", "categor", "consent", "vendor", "domain", "policy")
"""A `name` below one of these is no person's."""
_EMAIL = re.compile(r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~%-]{1,64}(?:@|%40)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}:(?:(?:[0-9A-Fa-f:]*:)?\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]+)(?![\w:])")
_QUERY = re.compile(r"(https?://[^\s?#\"]+)[?#][^\s\"]+", re.IGNORECASE)
_MAY_HOLD = re.compile(r"@|%40|://|\d\.\d|:[^/]*:")
"""Nearly no cell has anything to look for."""


class Evidence(NamedTuple):
    """`removed`: how many places of the row were taken out."""

    text: str
    removed: int


def evidence_of(row: Row, secret: Collection[str] = ()) -> Evidence:
    """The row's text. `secret`: further columns, or paths, that are taken out whole."""
    cleaner = _Cleaner(frozenset(map(plain, secret)))
    if row.pieces:
        names = [*row.header, *[""] * (len(row.pieces) - len(row.header))]
        pieces = [cleaner.cell(name, piece) for name, piece in zip(names, row.pieces, strict=False)]
        text = row.delimiter.join(pieces)
    else:
        text = json.dumps(cleaner.value(row.value, ""), ensure_ascii=False, separators=(",", ":"))
    return Evidence(_within_bounds(text), cleaner.removed)


def _within_bounds(text: str) -> str:
    if len(text) <= MAX_CHARACTERS and len(json.dumps(text, ensure_ascii=False).encode()) <= MAX_JSON_BYTES:
        return text
    kept = text[: MAX_CHARACTERS - len(CUT)]
    while len(json.dumps(kept, ensure_ascii=False).encode()) > MAX_JSON_BYTES - len(CUT.encode()):
        kept = kept[: len(kept) * 9 // 10]
    return kept + CUT


@lru_cache(maxsize=4096)
def _is_personal(name: str, path: str) -> bool:
    name = plain(name)
    if name == "name":
        return not any(part in plain(path) for part in _NAMED_THINGS)
    return name in _WHOLE or any(part in name for part in _PARTS)


class _Cleaner:
    def __init__(self, secret: frozenset[str]) -> None:
        self._secret = secret
        self.removed = 0

    def value(self, value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {key: self._member(f"{path}.{key}" if path else key, key, inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(item, path) for item in value]
        return self._inside(value) if isinstance(value, str) else value

    def _member(self, path: str, name: str, value: Any) -> Any:
        if value not in (None, "", [], {}) and (
            plain(path) in self._secret or plain(name) in self._secret or _is_personal(name, path)
        ):
            self.removed += 1
            return REMOVED
        return self.value(value, path)

    def cell(self, name: str, piece: str) -> str:
        """A cell of a table as it stands there; the quotes stay, for other text may be in it."""
        if piece.strip('" \r') and (plain(name) in self._secret or _is_personal(name, name)):
            self.removed += 1
            return REMOVED
        return self._inside(piece)

    def _inside(self, text: str) -> str:
        if not _MAY_HOLD.search(text):
            return text
        text, queries = _QUERY.subn(rf"\1?{REMOVED}", text)
        text, emails = _EMAIL.subn(REMOVED, text)
        self.removed += queries + emails
        return _IPV4.sub(self._address, _IPV6.sub(self._address, text))

    def _address(self, found: re.Match[str]) -> str:
        try:
            ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        self.removed += 1
        return REMOVED
