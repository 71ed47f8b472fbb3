"""How the values of a site document are read: each strictly, each error with its place and what would be right.

A reader takes a value and its path. What the document's members are called and mean is the document's own readers'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TypeVar

from ledger.core.deadlines import Period, parse_offset, parse_period
from ledger.core.document import Texts, split_origin
from ledger.core.duration import Duration, parse_duration
from ledger.core.errors import DocumentInvalid
from ledger.core.place import Path
from ledger.core.regions import COUNTRIES, DEFAULT, is_region
from ledger.core.source import Node

MAX_TEXT_CHARS = 2_000
MAX_LINE_CHARS = 300
MAX_LANGUAGES = 32
MAX_LIST_ITEMS = 100
MAX_TABLE_KEYS = 1_000
MAX_QUOTED_CHARS = 40

VERSION = re.compile(r"[0-9A-Za-z.-]{1,32}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,7}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TERM = re.compile(r"[a-z][a-z0-9-]{0,31}:[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
_TEXT = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")

Value = TypeVar("Value")
Read = Callable[[Node, Path], Value]
"""Reads the value at a path, or raises `DocumentInvalid` with that path."""


class Members:
    """The members of one mapping. Unknown ones are refused at once, with the closest known name."""

    def __init__(self, node: Node, path: Path, known: Iterable[str]) -> None:
        self._members, self._path = mapping(node, path), path
        names = tuple(known)
        for key in self._members:
            if key not in names:
                close = get_close_matches(key, names, 1)
                hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(names)}"
                raise DocumentInvalid((*path, key), f"there is no such key; {hint}")

    def get(self, key: str, read: Read[Value], default: Value) -> Value:
        if key not in self._members:
            return default
        return read(self._members[key], (*self._path, key))

    def need(self, key: str, read: Read[Value]) -> Value:
        if key not in self._members:
            raise DocumentInvalid((*self._path, key), "is missing")
        return read(self._members[key], (*self._path, key))

    def has(self, key: str) -> bool:
        return key in self._members


# --- collections -----------------------------------------------------------------------------------------------------


def mapping(node: Node, path: Path) -> dict[str, Node]:
    if not isinstance(node, dict):
        raise DocumentInvalid(path, "has to be a mapping of keys to values")
    return node


def list_of(read: Read[Value], at_most: int = MAX_LIST_ITEMS, at_least: int = 0) -> Read[tuple[Value, ...]]:
    """A list without doubles."""

    def read_list(node: Node, path: Path) -> tuple[Value, ...]:
        if not isinstance(node, list):
            raise DocumentInvalid(path, "has to be a list")
        if not at_least <= len(node) <= at_most:
            raise DocumentInvalid(path, f"has to hold {at_least} to {at_most} items, not {len(node)}")
        items = tuple(read(item, (*path, index)) for index, item in enumerate(node))
        for index, item in enumerate(items):
            if item in items[:index]:
                raise DocumentInvalid((*path, index), "appears twice; keep one of them")
        return items

    return read_list


def named(read: Read[Value], at_most: int, what: str) -> Read[dict[str, Value]]:
    """A mapping whose keys are names that the author gives."""

    def read_named(node: Node, path: Path) -> dict[str, Value]:
        members = mapping(node, path)
        if len(members) > at_most:
            raise DocumentInvalid(path, f"has to hold at most {at_most}, not {len(members)}")
        for key in members:
            if NAME.fullmatch(key) is None:
                right = f"{what} has 1 to 64 letters, digits or _ . : - and begins with a letter or digit"
                raise DocumentInvalid((*path, key), right)
        return {key: read(value, (*path, key)) for key, value in members.items()}

    return read_named


def by_region(read: Read[Value], *, default: bool = True) -> Read[dict[str, Value]]:
    """A mapping whose keys are regions, groups of them and, where that means something, `default`."""
    right = "EU, EEA or UK nor an ISO 3166 code, like KZ or US-CA"

    def read_table(node: Node, path: Path) -> dict[str, Value]:
        members = mapping(node, path)
        if len(members) > MAX_TABLE_KEYS:
            raise DocumentInvalid(path, f"has to hold at most {MAX_TABLE_KEYS} regions, not {len(members)}")
        for key in members:
            if not is_region(key) and not (default and key == DEFAULT):
                raise DocumentInvalid((*path, key), f"is neither {'default, ' if default else ''}{right}")
        return {key: read(value, (*path, key)) for key, value in members.items()}

    return read_table


def texts(languages: tuple[str, ...]) -> Read[Texts]:
    """A text in every language of the site: what a visitor reads exists in all of them."""

    def read(node: Node, path: Path) -> Texts:
        members = Members(node, path, languages)
        return {language: members.need(language, text) for language in languages}

    return read


# --- scalars ---------------------------------------------------------------------------------------------------------


def string(node: Node, path: Path) -> str:
    if not isinstance(node, str):
        raise DocumentInvalid(path, "has to be text, not a " + ("boolean" if isinstance(node, bool) else "collection"))
    return node.strip()


def quoted(written: str) -> str:
    """The beginning of what was written, fit for a message."""
    return repr(written[:MAX_QUOTED_CHARS])


def line(node: Node, path: Path) -> str:
    found = string(node, path)
    if len(found) > MAX_LINE_CHARS or not _LINE.fullmatch(found):
        raise DocumentInvalid(path, f"has to be one line of 1 to {MAX_LINE_CHARS} printable characters")
    return found


def text(node: Node, path: Path) -> str:
    found = string(node, path)
    if len(found) > MAX_TEXT_CHARS or not _TEXT.fullmatch(found):
        raise DocumentInvalid(path, f"has to be text of 1 to {MAX_TEXT_CHARS} printable characters")
    return found


def formed(form: re.Pattern[str], what: str) -> Read[str]:
    def read(node: Node, path: Path) -> str:
        found = string(node, path)
        if len(found) > MAX_LINE_CHARS or form.fullmatch(found) is None:
            raise DocumentInvalid(path, f"{quoted(found)} is not {what}")
        return found

    return read


def one_of(words: tuple[Value, ...], what: str = "") -> Read[Value]:
    def read(node: Node, path: Path) -> Value:
        found = string(node, path)
        for word in words:
            if word == found:
                return word
        raise DocumentInvalid(path, f"{quoted(found)} has to be one of {what}{', '.join(map(str, words)) or 'none'}")

    return read


def flag(node: Node, path: Path) -> bool:
    if isinstance(node, bool):
        return node
    if node not in ("true", "false"):
        raise DocumentInvalid(path, "has to be true or false")
    return node == "true"


def duration(node: Node, path: Path) -> Duration:
    found = string(node, path)
    period = parse_duration(found)
    if period is None:
        raise DocumentInvalid(path, f"{quoted(found)} is no ISO 8601 duration, like P12M, P2W or PT24H")
    return period


def answer_period(node: Node, path: Path) -> Period:
    found = string(node, path)
    period = parse_period(found)
    if period is None:
        right = "no ISO 8601 duration, like P30D or P1M, and no number of days, like 15 working days"
        raise DocumentInvalid(path, f"{quoted(found)} is {right}")
    return period


def utc_offset(node: Node, path: Path) -> str:
    found = string(node, path)
    if parse_offset(found) is None:
        raise DocumentInvalid(path, f"{quoted(found)} is no offset from UTC, like +05:00")
    return found


def age(node: Node, path: Path) -> int:
    """Years. Numbers come as the text that was written."""
    found = string(node, path)
    if re.fullmatch(r"[1-9][0-9]?", found) is None:
        raise DocumentInvalid(path, f"{quoted(found)} is no age in whole years, 1 to 99")
    return int(found)


def https_url(node: Node, path: Path) -> str:
    found = line(node, path)
    if split_origin("/".join(found.split("/", 3)[:3])) is None or not found.startswith("https://") or " " in found:
        raise DocumentInvalid(path, f"{found[:80]!r} is not an https:// address")
    return found


def region(node: Node, path: Path) -> str:
    found = string(node, path)
    if not is_region(found):
        raise DocumentInvalid(path, f"{quoted(found)} is neither EU, EEA or UK nor an ISO 3166 code, like KZ or US-CA")
    return found


def country(node: Node, path: Path) -> str:
    found = string(node, path)
    if found not in COUNTRIES:
        raise DocumentInvalid(path, f"{quoted(found)} is no country's ISO 3166-1 code, like KZ or DE")
    return found


version = formed(VERSION, "a version: 1 to 32 letters, digits, dots or hyphens")
language = formed(_LANGUAGE, "a BCP 47 language tag, like en or kk")
email = formed(_EMAIL, "an e-mail address")
sha256 = formed(_SHA256, "a document's SHA-256: 64 hex digits in lower case")
dpv_term = formed(_TERM, "a term of W3C's Data Privacy Vocabulary with its prefix, like dpv:Marketing or pd:IPAddress")
