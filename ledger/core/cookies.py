"""The cookie inventory: names that were seen on a site's pages against those that its policy declares; when it is due.

Names only. A name that a policy declares is kept as it is declared; of every other one whatever looks like an
identifier becomes a `*`, so that nobody can be told by a name that was kept. What is declared is core/document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

from ledger.core.document import Cookie, SiteDocument
from ledger.core.duration import Duration
from ledger.core.encoding import encode_json
from ledger.core.policy import PolicyHistory

NAME_MAX_CHARACTERS = 128

_NAME = re.compile(r"[!-~]+")
_VALUE_SIGNS = frozenset('=;,"\\')
"""What separates names from values and from one another in the header Cookie (RFC 6265 section 4.1.1)."""
_ADDRESS = re.compile(r"@|%40", re.IGNORECASE)

_SEPARATED = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # a UUID
    r"|[0-9]{1,3}(?:\.[0-9]{1,3}){3}"  # an IPv4 address
    r"|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{1,4}"  # an IPv6 address, as far as one can tell
    r"|\+?[0-9](?:[-. /:()]?[0-9]){5,}"  # a telephone number, a date, a number in groups
    r")(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z0-9]+")
_HEX_WITH_DIGIT = re.compile(r"(?=[0-9a-f]*[0-9])[0-9a-f]{6,}|[0-9a-f]{8,}", re.IGNORECASE)
_CHANGE = re.compile(r"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")
_STARS = re.compile(r"\*(?:[-_.:]?\*)+")
_CASE_CHANGE = re.compile(r"[a-z](?=[A-Z])|[A-Z](?=[a-z])")
_MIXED_MIN_CHARACTERS = 12
WORD_MAX_CHARACTERS = 32


class Observed(NamedTuple):
    """A name, as it is kept, that was seen on `days` days (UTC, like `2026-11-21`)."""

    storage: str
    name: str
    first_seen: str
    last_seen: str
    days: int


class Declared(NamedTuple):
    """A declared cookie of a purpose and what was seen of it; None: nothing, or it has no name to be seen by."""

    purpose: str
    cookie: Cookie
    seen: Observed | None


class Comparison(NamedTuple):
    """Both sides of the inventory: declared in the document's order, undeclared by storage and name."""

    declared: tuple[Declared, ...]
    undeclared: tuple[Observed, ...]

    def digest(self, version: str) -> bytes:
        """SHA-256 of what a reviewer judges: not when or how often a name was seen, which changes daily."""
        declared = [
            {
                **{"purpose": purpose, "storage": cookie.storage, "seen": seen is not None},
                **({"name": cookie.name} if cookie.name else {}),
                **({"pattern": cookie.pattern} if cookie.pattern else {}),
            }
            for purpose, cookie, seen in self.declared
        ]
        undeclared = [{"storage": o.storage, "name": o.name, "firstSeen": o.first_seen} for o in self.undeclared]
        return sha256(encode_json({"policyVersion": version, "declared": declared, "undeclared": undeclared})).digest()


def refuse_name(name: str) -> str | None:
    """Why a name may not be reported, without quoting it; None if it may."""
    if not 1 <= len(name) <= NAME_MAX_CHARACTERS:
        return f"A name has 1 to {NAME_MAX_CHARACTERS} characters."
    if _VALUE_SIGNS & set(name):
        return 'Send names alone, never values: no = ; , " or backslash.'
    if _NAME.fullmatch(name) is None:
        return "A name is written in visible ASCII characters, without spaces."
    if _ADDRESS.search(name):
        return "This looks like somebody's address, which may not be kept: leave the name out."
    return None


def fold(name: str) -> str:
    """A name with `*` for what looks like an identifier: numbers, addresses, hexadecimal and mixed-up words. To keep
    too little is harmless: `abc_*` still tells which tool it is.
    """
    while (folded := _STARS.sub("*", _WORD.sub(_fold_word, _SEPARATED.sub("*", name)))) != name:
        name = folded  # shorter each time
    return name


def _fold_word(match: re.Match[str]) -> str:
    word = match[0]
    identifying = (
        len(word) > WORD_MAX_CHARACTERS
        or sum(map(str.isdigit, word)) >= 4
        or len(_CHANGE.findall(word)) >= 3
        # Capitals that begin words change the case about twice in five letters; in a random text every other one does.
        or (len(word) >= _MIXED_MIN_CHARACTERS and len(_CASE_CHANGE.findall(word)) > 0.42 * len(word))
        or _HEX_WITH_DIGIT.search(word) is not None
    )
    return "*" if identifying else word


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern fits, in which each `*` is any text, also none. In time linear to both."""
    first, *middle = pattern.split("*")
    if not middle:
        return name == pattern
    last = middle.pop()
    if not name.startswith(first) or len(name) < len(first) + len(last) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Index:
    """The declared names and patterns of some documents, the first document's before the next's."""

    def __init__(self, documents: Iterable[SiteDocument]) -> None:
        self._names: dict[str, set[str]] = {}
        self._patterns: dict[str, dict[str, None]] = {}
        for document in documents:
            for _, cookie in _cookies(document):
                if cookie.name is not None:
                    self._names.setdefault(cookie.storage, set()).add(cookie.name)
                elif cookie.pattern is not None and len(cookie.pattern) <= NAME_MAX_CHARACTERS:
                    self._patterns.setdefault(cookie.storage, {})[cookie.pattern] = None

    def kept_as(self, storage: str, name: str) -> str:
        """Under which name an observation is kept: as it is declared, else folded."""
        if name in self._names.get(storage, ()):
            return name
        declared = (pattern for pattern in self._patterns.get(storage, ()) if matches(pattern, name))
        return next(declared, None) or fold(name)


def _cookies(document: SiteDocument) -> Iterator[tuple[str, Cookie]]:
    for name, purpose in document.purposes.items():
        if document.offers(name):
            for cookie in purpose.cookies:
                yield name, cookie


def compare(document: SiteDocument, observed: Sequence[Observed], since: str) -> Comparison:
    """The inventory of a document against what was seen, each name once in each storage.

    `since` is the day from which on the document holds: a folded name that was not seen after it may have been a
    declared one, which is no longer folded since then.
    """
    by_name = {(row.storage, row.name): row for row in observed}
    declared: list[Declared] = []
    left = dict.fromkeys(observed)
    for purpose, cookie in _cookies(document):
        seen: list[Observed] = []
        if cookie.pattern is not None:
            seen = [o for o in observed if o.storage == cookie.storage and matches(cookie.pattern, o.name)]
        elif cookie.name is not None:
            exact = by_name.get((cookie.storage, cookie.name))
            folded = by_name.get((cookie.storage, fold(cookie.name)))
            seen = [exact] if exact is not None else []
            if folded is not None and folded is not exact and folded.last_seen <= since:
                seen.append(folded)
        for row in seen:
            left.pop(row, None)
        declared.append(Declared(purpose, cookie, _joined(seen)))
    return Comparison(tuple(declared), tuple(sorted(left)))


def _joined(rows: Sequence[Observed]) -> Observed | None:
    if not rows:
        return None
    first, last = min(row.first_seen for row in rows), max(row.last_seen for row in rows)
    return Observed(rows[0].storage, rows[0].name, first, last, max(row.days for row in rows))


class Due(NamedTuple):
    """How often the policy in force wants a review, when the next one is due, and how many seconds ago that was (0:
    it still lies ahead)."""

    every: Duration
    due_ms: int
    overdue_seconds: int


def review_due(history: PolicyHistory, reviewed_ms: int | None, now_ms: int) -> Due | None:
    """None where the policy in force asks for no review. The first one counts from when a version first asked."""
    since_ms: int | None = None
    every: Duration | None = None
    for published in history.in_effect_order:
        if published.effect_ms > now_ms:
            break
        every = published.document.review_cookies_every
        since_ms = None if every is None else published.effect_ms if since_ms is None else since_ms
    if every is None or since_ms is None:
        return None
    due_ms = every.after(since_ms if reviewed_ms is None else reviewed_ms)
    return Due(every, due_ms, max(0, now_ms - due_ms) // 1000)
