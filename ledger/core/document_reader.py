"""Reads a site document that a person wrote: every member checked, every error with its place and what would be right.

What the members mean is in core/document, how values are read in core/reading, the purposes in core/purpose_reader;
the bounds of the source itself (size, depth, YAML's surprises) are in core/source.
"""

from __future__ import annotations

import re
from datetime import date
from typing import get_args

from ledger.core.deadlines import UTC_OFFSET, Period
from ledger.core.document import (
    NEVER_AGAIN,
    Announcement,
    Authority,
    Contact,
    Controller,
    Counted,
    Notice,
    PolicyVersion,
    Purpose,
    SiteDocument,
    split_origin,
)
from ledger.core.duration import Duration
from ledger.core.encoding import encode_time
from ledger.core.errors import DocumentInvalid, InputRefused
from ledger.core.event import EVENT_TYPES, MAX_PURPOSES, parse_time
from ledger.core.notice import MEDIA_TYPES
from ledger.core.place import Path
from ledger.core.purpose_reader import purposes, reask_after, regimes
from ledger.core.reading import (
    MAX_LANGUAGES,
    Members,
    Read,
    answer_period,
    by_region,
    country,
    duration,
    email,
    flag,
    formed,
    https_url,
    language,
    line,
    list_of,
    mapping,
    named,
    one_of,
    quoted,
    region,
    sha256,
    string,
    text,
    texts,
    utc_offset,
    version,
)
from ledger.core.source import Node

MAX_ORIGINS = 64
MAX_NOTICES = 500
MAX_SITE_CHARS = 200
SCHEMA = "$schema"
"""Where an editor finds the JSON Schema: allowed at the top, no part of the document."""

_SITE = re.compile(r"(?=.*\.)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(r"[0-9-]{10}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?(Z|[+-][0-9]{2}:[0-9]{2})")
_BIN = re.compile(r"[0-9]{12}")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1"})


def read_document(source: Node) -> SiteDocument:
    """A checked site document; `DocumentInvalid` at the first thing that is wrong."""
    top = Members(source, (), (*SiteDocument.__struct_encode_fields__, SCHEMA))
    top.get(SCHEMA, line, "")
    site, controller = top.need("site", _site), top.need("controller", _controller)
    languages = top.need("languages", list_of(language, MAX_LANGUAGES, at_least=1))
    found = top.need("purposes", purposes(languages))
    order = top.get("order", _order(found), tuple(found))
    answered: dict[str, Period] = top.get("answerWithin", by_region(answer_period), {})
    return SiteDocument(
        site=site,
        controller=controller,
        languages=languages,
        origins=top.need("origins", list_of(_origin, MAX_ORIGINS, at_least=1)),
        policy=top.need("policy", _policy(found)),
        purposes={name: found[name] for name in order},
        order=order,
        renew_after=top.need("renewAfter", duration),
        reask_after=top.get("reaskAfter", reask_after, NEVER_AGAIN),
        reask_after_in=top.get("reaskAfterIn", by_region(reask_after, default=False), {}),
        regimes=top.get("regimes", regimes, {}),
        announce_changes=top.get("announceChanges", one_of(get_args(Announcement)), "posted"),
        notices=top.get("notices", named(_notice(languages), MAX_NOTICES, "a notice's name"), {}),
        contacts=top.get("contacts", list_of(_contact(languages)), ()),
        authorities=top.get("authorities", list_of(_authority(languages)), ()),
        answer_within=answered,
        answer_extension=top.get("answerExtension", _extension(answered), {}),
        answer_on_working_day=top.get("answerOnWorkingDay", flag, False),
        utc_offset=top.get("utcOffset", utc_offset, UTC_OFFSET),
        record_retention=top.get("recordRetention", duration, None),
        record_retention_of=top.get("recordRetentionOf", _by_type, {}),
        record_retention_counted=top.get("recordRetentionCounted", one_of(get_args(Counted)), "end"),
        suppress_for=top.get("suppressFor", duration, None),
        stored_in=top.get("storedIn", list_of(country), ()),
        residency=top.get("residency", list_of(country), ()),
        review_cookies_every=top.get("reviewCookiesEvery", duration, None),
        laws=top.get("laws", list_of(line), ()),
        entry_bundles_public=top.get("entryBundlesPublic", flag, False),
    )


def _by_type(node: Node, path: Path) -> dict[str, Duration]:
    members = Members(node, path, EVENT_TYPES)
    return {name: members.need(name, duration) for name in mapping(node, path)}


def _extension(answered: dict[str, Period]) -> Read[dict[str, Period]]:
    """What is put off is the answer of a place that `answerWithin` names too."""

    def read(node: Node, path: Path) -> dict[str, Period]:
        table = by_region(answer_period)(node, path)
        for key in table:
            if key not in answered:
                raise DocumentInvalid(
                    (*path, key), f"`answerWithin` does not say how soon it is ({key}): name it there"
                )
        return table

    return read


def _order(found: dict[str, Purpose]) -> Read[tuple[str, ...]]:
    def read(node: Node, path: Path) -> tuple[str, ...]:
        order = list_of(line, MAX_PURPOSES, at_least=1)(node, path)
        if set(order) != set(found):
            raise DocumentInvalid(path, f"has to hold every purpose once: {', '.join(found)}")
        return order

    return read


def _site(node: Node, path: Path) -> str:
    found = formed(_SITE, "a host name in lower case with a dot, like www.example.com")(node, path)
    if len(found) > MAX_SITE_CHARS:
        raise DocumentInvalid(path, f"is longer than {MAX_SITE_CHARS} characters")
    return found


def _origin(node: Node, path: Path) -> str:
    found = line(node, path)
    parts = split_origin(found)
    right = "an origin like https://example.com or https://*.example.com, without a path"
    if parts is None or _HOST.fullmatch(parts[1]) is None or found != found.lower():
        raise DocumentInvalid(path, f"{found[:80]!r} is not {right}")
    scheme, host, _ = parts
    if scheme != "https" and not (scheme == "http" and host in _LOOPBACK_HOSTS):
        raise DocumentInvalid(path, f"{found[:80]!r} is not {right} (http only for localhost)")
    if host.startswith("*.") and "." not in host[2:]:
        raise DocumentInvalid(path, f"{found[:80]!r} would allow a whole top-level domain; name the site's own")
    return found


def _effective_at(node: Node, path: Path) -> str:
    """A date means its beginning in UTC."""
    written = string(node, path)
    right = "a date or a time with its offset, like 2026-05-11 or 2026-05-11T09:00:00Z"
    try:
        moment = f"{date.fromisoformat(written).isoformat()}T00:00:00Z" if _DATE.fullmatch(written) else written
        if _DATE_TIME.fullmatch(moment):
            return encode_time(parse_time(moment, ""))
    except (ValueError, InputRefused) as error:
        raise DocumentInvalid(path, f"{quoted(written)} is not in the calendar; write {right}") from error
    raise DocumentInvalid(path, f"{quoted(written)} is not {right}")


def _controller(node: Node, path: Path) -> Controller:
    members = Members(node, path, Controller.__struct_encode_fields__)
    return Controller(
        name=members.need("name", line),
        bin=members.get("bin", formed(_BIN, "a BIN of 12 digits"), None),
        country=members.get("country", country, None),
        address=members.get("address", line, None),
        email=members.get("email", email, None),
        phone=members.get("phone", line, None),
    )


def _contact(languages: tuple[str, ...]) -> Read[Contact]:
    def read(node: Node, path: Path) -> Contact:
        members = Members(node, path, Contact.__struct_encode_fields__)
        if not any(map(members.has, ("email", "phone", "url"))):
            raise DocumentInvalid(path, "has to have an email, a phone or a url")
        return Contact(
            about=members.need("about", texts(languages)),
            email=members.get("email", email, None),
            phone=members.get("phone", line, None),
            url=members.get("url", https_url, None),
        )

    return read


def _authority(languages: tuple[str, ...]) -> Read[Authority]:
    def read(node: Node, path: Path) -> Authority:
        members = Members(node, path, Authority.__struct_encode_fields__)
        return Authority(
            name=members.need("name", texts(languages)),
            url=members.get("url", https_url, None),
            regions=members.get("regions", list_of(region), ()),
        )

    return read


def _notice(languages: tuple[str, ...]) -> Read[Notice]:
    def read(node: Node, path: Path) -> Notice:
        members = Members(node, path, Notice.__struct_encode_fields__)
        return Notice(
            document=members.need("document", sha256),
            media_type=members.need("mediaType", one_of(MEDIA_TYPES)),
            language=members.get("language", one_of(languages, "the document's languages: "), None),
        )

    return read


def _policy(found: dict[str, Purpose]) -> Read[PolicyVersion]:
    purpose = one_of(tuple(found))

    def material(node: Node, path: Path) -> bool | tuple[str, ...]:
        if isinstance(node, list):
            return list_of(purpose, MAX_PURPOSES)(node, path)
        if isinstance(node, bool) or node in ("true", "false"):
            return flag(node, path)
        raise DocumentInvalid(path, "has to be true, false or a list of the purposes that have to be asked again")

    def not_material(node: Node, path: Path) -> dict[str, str]:
        members = mapping(node, path)
        for key in members:
            purpose(key, (*path, key))
        return {key: text(reason, (*path, key)) for key, reason in members.items()}

    everything: bool | tuple[str, ...] = True

    def read(node: Node, path: Path) -> PolicyVersion:
        members = Members(node, path, PolicyVersion.__struct_encode_fields__)
        policy = PolicyVersion(
            version=members.need("version", version),
            effective_at=members.need("effectiveAt", _effective_at),
            url=members.need("url", https_url),
            material=members.get("material", material, everything),
            not_material=members.get("notMaterial", not_material, {}),
        )
        for key in policy.not_material:
            if policy.material is True or (isinstance(policy.material, tuple) and key in policy.material):
                right = "`material` asks again for it all the same; say `material: false` or name only the others there"
                raise DocumentInvalid((*path, "notMaterial", key), right)
        return policy

    return read
