"""Reads a site document that a person wrote: every member checked, every error with its path and what would be right.

What the members mean is in core/document; the bounds of the source itself (size, depth, YAML's surprises) are in
core/source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date
from difflib import get_close_matches
from typing import Literal, TypeVar, get_args

from ledger.core.document import (
    NEVER_AGAIN,
    Announcement,
    Controller,
    Cookie,
    Party,
    PolicyVersion,
    Purpose,
    ReaskAfter,
    Recipient,
    SiteDocument,
    Storage,
    Texts,
    split_origin,
)
from ledger.core.duration import Duration, parse_duration
from ledger.core.encoding import encode_time
from ledger.core.errors import DocumentInvalid, InputRefused
from ledger.core.event import MAX_PURPOSES, parse_time
from ledger.core.regions import DEFAULT, REGIMES, Regime, is_region
from ledger.core.source import Node, member

MAX_TEXT_CHARS = 2_000
MAX_LINE_CHARS = 300
MAX_LANGUAGES = 32
MAX_ORIGINS = 64
MAX_COOKIES = 200
MAX_LIST_ITEMS = 100
MAX_SITE_CHARS = 200

_SITE = re.compile(r"(?=.*\.)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z.-]{1,32}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,7}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(r"[0-9-]{10}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?(Z|[+-][0-9]{2}:[0-9]{2})")
_BIN = re.compile(r"[0-9]{12}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
_TEXT = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1"})

Value = TypeVar("Value")
Read = Callable[[Node, str], Value]
"""Reads the value at a path, or raises `DocumentInvalid` with that path."""


def read_document(source: Node) -> SiteDocument:
    """A checked site document; `DocumentInvalid` at the first thing that is wrong."""
    top = _Members(source, "", SiteDocument.__struct_encode_fields__)
    site, controller = top.need("site", _site), top.need("controller", _controller)
    languages = top.need("languages", _list_of(_language, MAX_LANGUAGES, at_least=1))
    purposes = top.need("purposes", _purposes(languages))
    return SiteDocument(
        site=site,
        controller=controller,
        languages=languages,
        origins=top.need("origins", _list_of(_origin, MAX_ORIGINS, at_least=1)),
        policy=top.need("policy", _policy(purposes)),
        purposes=purposes,
        order=top.get("order", _order(purposes), tuple(purposes)),
        renew_after=top.need("renewAfter", _duration),
        reask_after=top.get("reaskAfter", _reask_after, NEVER_AGAIN),
        regimes=top.get("regimes", _regimes, {}),
        announce_changes=top.get("announceChanges", _one_of(get_args(Announcement)), "posted"),
        review_cookies_every=top.get("reviewCookiesEvery", _duration, None),
        laws=top.get("laws", _list_of(_line, MAX_LIST_ITEMS), ()),
        entry_bundles_public=top.get("entryBundlesPublic", _flag, False),
    )


def _order(purposes: dict[str, Purpose]) -> Read[tuple[str, ...]]:
    def read(node: Node, path: str) -> tuple[str, ...]:
        order = _list_of(_line, MAX_PURPOSES, at_least=1)(node, path)
        if set(order) != set(purposes):
            raise DocumentInvalid(path, f"has to hold every purpose once: {', '.join(purposes)}")
        return order

    return read


class _Members:
    """The members of one mapping. Unknown ones are refused at once, with the closest known name."""

    def __init__(self, node: Node, path: str, known: Iterable[str]) -> None:
        self._members, self._path = _mapping(node, path), path
        names = tuple(known)
        for key in self._members:
            if key not in names:
                close = get_close_matches(key, names, 1)
                hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(names)}"
                raise DocumentInvalid(member(path, key), f"there is no such key; {hint}")

    def get(self, key: str, read: Read[Value], default: Value) -> Value:
        if key not in self._members:
            return default
        return read(self._members[key], member(self._path, key))

    def need(self, key: str, read: Read[Value]) -> Value:
        if key not in self._members:
            raise DocumentInvalid(member(self._path, key), "is missing")
        return read(self._members[key], member(self._path, key))

    def has(self, key: str) -> bool:
        return key in self._members


def _mapping(node: Node, path: str) -> dict[str, Node]:
    if not isinstance(node, dict):
        raise DocumentInvalid(path, "has to be a mapping of keys to values")
    return node


def _list_of(read: Read[Value], at_most: int, at_least: int = 0) -> Read[tuple[Value, ...]]:
    def read_list(node: Node, path: str) -> tuple[Value, ...]:
        if not isinstance(node, list):
            raise DocumentInvalid(path, "has to be a list")
        if not at_least <= len(node) <= at_most:
            raise DocumentInvalid(path, f"has to hold {at_least} to {at_most} items, not {len(node)}")
        items = tuple(read(item, f"{path}[{index}]") for index, item in enumerate(node))
        for index, item in enumerate(items):
            if item in items[:index]:
                raise DocumentInvalid(f"{path}[{index}]", "appears twice; keep one of them")
        return items

    return read_list


def _string(node: Node, path: str) -> str:
    if not isinstance(node, str):
        raise DocumentInvalid(path, "has to be text, not a " + ("boolean" if isinstance(node, bool) else "collection"))
    return node.strip()


def _line(node: Node, path: str) -> str:
    text = _string(node, path)
    if len(text) > MAX_LINE_CHARS or not _LINE.fullmatch(text):
        raise DocumentInvalid(path, f"has to be one line of 1 to {MAX_LINE_CHARS} printable characters")
    return text


def _text(node: Node, path: str) -> str:
    text = _string(node, path)
    if len(text) > MAX_TEXT_CHARS or not _TEXT.fullmatch(text):
        raise DocumentInvalid(path, f"has to be text of 1 to {MAX_TEXT_CHARS} printable characters")
    return text


def _formed(form: re.Pattern[str], what: str) -> Read[str]:
    def read(node: Node, path: str) -> str:
        text = _string(node, path)
        if len(text) > MAX_LINE_CHARS or form.fullmatch(text) is None:
            raise DocumentInvalid(path, f"{text[:40]!r} is not {what}")
        return text

    return read


def _one_of(words: tuple[Value, ...]) -> Read[Value]:
    def read(node: Node, path: str) -> Value:
        text = _string(node, path)
        for word in words:
            if word == text:
                return word
        raise DocumentInvalid(path, f"{text[:40]!r} has to be one of {', '.join(map(str, words))}")

    return read


def _flag(node: Node, path: str) -> bool:
    if isinstance(node, bool):
        return node
    if node not in ("true", "false"):
        raise DocumentInvalid(path, "has to be true or false")
    return node == "true"


def _duration(node: Node, path: str) -> Duration:
    text = _string(node, path)
    duration = parse_duration(text)
    if duration is None:
        raise DocumentInvalid(path, f"{text[:40]!r} is no ISO 8601 duration, like P12M, P2W or PT24H")
    return duration


def _site(node: Node, path: str) -> str:
    text = _formed(_SITE, "a host name in lower case with a dot, like www.example.com")(node, path)
    if len(text) > MAX_SITE_CHARS:
        raise DocumentInvalid(path, f"is longer than {MAX_SITE_CHARS} characters")
    return text


def _https_url(node: Node, path: str) -> str:
    text = _line(node, path)
    if split_origin("/".join(text.split("/", 3)[:3])) is None or not text.startswith("https://") or " " in text:
        raise DocumentInvalid(path, f"{text[:80]!r} is not an https:// address")
    return text


def _origin(node: Node, path: str) -> str:
    text = _line(node, path)
    parts = split_origin(text)
    right = "an origin like https://example.com or https://*.example.com, without a path"
    if parts is None or _HOST.fullmatch(parts[1]) is None or text != text.lower():
        raise DocumentInvalid(path, f"{text[:80]!r} is not {right}")
    scheme, host, _ = parts
    if scheme != "https" and not (scheme == "http" and host in _LOOPBACK_HOSTS):
        raise DocumentInvalid(path, f"{text[:80]!r} is not {right} (http only for localhost)")
    if host.startswith("*.") and "." not in host[2:]:
        raise DocumentInvalid(path, f"{text[:80]!r} would allow a whole top-level domain; name the site's own")
    return text


def _language(node: Node, path: str) -> str:
    return _formed(_LANGUAGE, "a BCP 47 language tag, like en or kk")(node, path)


def _region(node: Node, path: str) -> str:
    text = _string(node, path)
    if not is_region(text):
        raise DocumentInvalid(path, f"{text[:40]!r} is neither EU, EEA or UK nor an ISO 3166 code, like KZ or US-CA")
    return text


def _effective_at(node: Node, path: str) -> str:
    """A date means its beginning in UTC."""
    text = _string(node, path)
    right = "a date or a time with its offset, like 2026-05-11 or 2026-05-11T09:00:00Z"
    try:
        if _DATE.fullmatch(text):
            text = f"{date.fromisoformat(text).isoformat()}T00:00:00Z"
        if _DATE_TIME.fullmatch(text):
            return encode_time(parse_time(text, ""))
    except (ValueError, InputRefused) as error:
        raise DocumentInvalid(path, f"{text[:40]!r} is not in the calendar; write {right}") from error
    raise DocumentInvalid(path, f"{text[:40]!r} is not {right}")


def _regimes(node: Node, path: str) -> dict[str, Regime]:
    read = _one_of(REGIMES)
    for key in _mapping(node, path):
        if key != DEFAULT and not is_region(key):
            raise DocumentInvalid(
                member(path, key), "is neither default, EU, EEA or UK nor an ISO 3166 code, like KZ or US-CA"
            )
    return {key: read(value, member(path, key)) for key, value in _mapping(node, path).items()}


def _texts(languages: tuple[str, ...]) -> Read[Texts]:
    """A text in every language of the site: what a visitor reads exists in all of them."""

    def read(node: Node, path: str) -> Texts:
        members = _Members(node, path, languages)
        return {language: members.need(language, _text) for language in languages}

    return read


def _controller(node: Node, path: str) -> Controller:
    members = _Members(node, path, Controller.__struct_encode_fields__)
    return Controller(
        name=members.need("name", _line),
        bin=members.get("bin", _formed(_BIN, "a BIN of 12 digits"), None),
        address=members.get("address", _line, None),
        email=members.get("email", _formed(_EMAIL, "an e-mail address"), None),
        phone=members.get("phone", _line, None),
    )


def _policy(purposes: dict[str, Purpose]) -> Read[PolicyVersion]:
    def known_purpose(node: Node, path: str) -> str:
        return _one_of(tuple(purposes))(node, path)

    def material(node: Node, path: str) -> bool | tuple[str, ...]:
        if isinstance(node, list):
            return _list_of(known_purpose, MAX_PURPOSES)(node, path)
        if isinstance(node, bool) or node in ("true", "false"):
            return _flag(node, path)
        raise DocumentInvalid(path, "has to be true, false or a list of the purposes that have to be asked again")

    everything: bool | tuple[str, ...] = True

    def read(node: Node, path: str) -> PolicyVersion:
        members = _Members(node, path, PolicyVersion.__struct_encode_fields__)
        return PolicyVersion(
            version=members.need("version", _formed(_VERSION, "a version: 1 to 32 letters, digits, dots or hyphens")),
            effective_at=members.need("effectiveAt", _effective_at),
            url=members.need("url", _https_url),
            material=members.get("material", material, everything),
        )

    return read


def _reask_after(node: Node, path: str) -> ReaskAfter:
    members = _Members(node, path, ReaskAfter.__struct_encode_fields__)
    intervals = ReaskAfter(
        refusal=members.get("refusal", _duration, None),
        withdrawal=members.get("withdrawal", _duration, None),
    )
    return NEVER_AGAIN if intervals == NEVER_AGAIN else intervals


def _purposes(languages: tuple[str, ...]) -> Read[dict[str, Purpose]]:
    def read(node: Node, path: str) -> dict[str, Purpose]:
        members = _mapping(node, path)
        if not 0 < len(members) <= MAX_PURPOSES:
            raise DocumentInvalid(path, f"has to hold 1 to {MAX_PURPOSES} purposes, not {len(members)}")
        for key in members:
            if _PURPOSE.fullmatch(key) is None:
                right = "a purpose's id has 1 to 64 letters, digits or _ . : - and begins with a letter or digit"
                raise DocumentInvalid(member(path, key), right)
        return {key: _purpose(value, member(path, key), languages) for key, value in members.items()}

    return read


def _purpose(node: Node, path: str, languages: tuple[str, ...]) -> Purpose:
    members = _Members(node, path, Purpose.__struct_encode_fields__)
    required = members.get("required", _flag, False)
    for key in ("regimes", "renewAfter"):
        if required and members.has(key):
            raise DocumentInvalid(member(path, key), "a required purpose is never asked; drop this key or `required`")

    def cookie(inner: Node, inner_path: str) -> Cookie:
        return _cookie(inner, inner_path, languages)

    return Purpose(
        title=members.need("title", _texts(languages)),
        description=members.need("description", _texts(languages)),
        required=required,
        in_use=members.get("inUse", _flag, True),
        removed_in=members.get("removedIn", _formed(_VERSION, "a version of the policy"), None),
        cookies=members.get("cookies", _list_of(cookie, MAX_COOKIES), ()),
        recipients=members.get("recipients", _list_of(_recipient, MAX_LIST_ITEMS), ()),
        regimes=members.get("regimes", _regimes, {}),
        renew_after=members.get("renewAfter", _duration, None),
        retention=members.get("retention", _duration, None),
    )


def _recipient(node: Node, path: str) -> Recipient:
    members = _Members(node, path, Recipient.__struct_encode_fields__)
    return Recipient(name=members.need("name", _line), region=members.get("region", _region, None))


def _cookie(node: Node, path: str, languages: tuple[str, ...]) -> Cookie:
    members = _Members(node, path, Cookie.__struct_encode_fields__)
    if members.has("name") and members.has("pattern"):
        raise DocumentInvalid(path, "has to have a name or a pattern, not both")
    if not any(map(members.has, ("name", "pattern", "description"))):
        raise DocumentInvalid(path, "has to have a name, a pattern (with *) or at least a description")
    if members.has("duration") == members.has("inactivity"):
        raise DocumentInvalid(path, "has to have either a duration or a period of inactivity")
    return Cookie(
        name=members.get("name", _line, None),
        pattern=members.get("pattern", _line, None),
        description=members.get("description", _texts(languages), {}),
        duration=members.get("duration", _cookie_duration, None),
        inactivity=members.get("inactivity", _duration, None),
        party=members.get("party", _one_of(get_args(Party)), "first"),
        storage=members.get("storage", _one_of(get_args(Storage)), "cookie"),
        conditional=members.get("conditional", _flag, False),
    )


_COOKIE_DURATIONS: tuple[Literal["session", "persistent"], ...] = ("session", "persistent")


def _cookie_duration(node: Node, path: str) -> Duration | Literal["session", "persistent"]:
    text = _string(node, path)
    for word in _COOKIE_DURATIONS:
        if text == word:
            return word
    duration = parse_duration(text)
    if duration is None:
        raise DocumentInvalid(path, f"{text[:40]!r} is neither session, persistent nor an ISO 8601 duration, like P12M")
    return duration
