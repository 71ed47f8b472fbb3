"""What the person who imports says of an export: the mapping file (YAML or JSON), and what holds without one.

    policyVersion: "1.0"                 # ours, under which the old consents count; or by the row's own version:
    # policyVersion: {"3": "1.0", "*": "1.1"}
    purposes: {Statistics: analytics, Marketing: [marketing, targeting]}
    ignore: [Necessary]                  # names in the export that are left out on purpose
    columns: {visitor: Consent ID, time: Date}     # where the export names them otherwise than this version knows
    answers: {granted: [oui], denied: [non]}       # its words, beside those that are known
    timeZone: Europe/Paris               # of times without an offset
    timeForm: "%d/%m/%Y %H:%M"           # of times that are not ISO 8601, as strptime(3) has it
    visitor: keyed                       # keep no id as it is, though it would fit
    remove: [Comment]                    # further columns that are taken out of the evidence
    language: de                         # of rows that name none
    attempt: "2"                         # when the events of an earlier, wrong mapping have been erased

A name that is mapped nowhere stops the import before it begins; without a file a name is mapped to the purpose of the
same id or title.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import tzinfo
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from ledger.core.errors import ConfigInvalid, DocumentInvalid
from ledger.core.source import read_source
from ledger.importing.overdue import Overdue
from ledger.importing.row import ROLES, Role, plain

Word = Literal["granted", "denied", "withdrawn", "none"]
"""What a cell says. `none`: no choice was made, or it is not in force yet."""
DEFAULT_WORDS: Mapping[str, Word] = {
    **dict.fromkeys(("true", "1", "yes", "granted", "accepted", "given", "optin", "optedin"), "granted"),
    **dict.fromkeys(("false", "0", "no", "denied", "refused", "rejected", "declined", "optout", "optedout"), "denied"),
    **dict.fromkeys(("withdrawn", "revoked"), "withdrawn"),
    **dict.fromkeys(("", "none", "null"), "none"),
}
ANY_VERSION = "*"


class MappingFile(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The file, as it is written."""

    policy_version: str | dict[str, str] | None = None
    purposes: dict[str, str | list[str]] = {}
    ignore: list[str] = []
    columns: dict[str, str] = {}
    answers: dict[Word, list[str]] = {}
    time_zone: str | None = None
    time_form: str | None = None
    visitor: Literal["kept", "keyed"] = "kept"
    remove: list[str] = []
    language: str | None = None
    attempt: str = ""


class SitePurpose(Struct, frozen=True, rename="camel"):
    """What an import has to know of a purpose."""

    title: dict[str, str] = {}
    required: bool = False


class SiteVersion(Struct, frozen=True, rename="camel"):
    version: str


class SitePolicy(Struct, frozen=True, rename="camel"):
    """The site's policy in force, as far as an import has to know it; the rest of the document is not looked at."""

    site: str
    policy: SiteVersion
    purposes: dict[str, SitePurpose]


class Plan(NamedTuple):
    """Everything that turns rows into events. Purposes and words are looked up by their plain names; `mapped` are the
    names that the mapping file itself has.
    """

    site: str
    format: str
    versions: Mapping[str, str]
    purposes: Mapping[str, tuple[str, ...]]
    mapped: tuple[str, ...]
    ignored: frozenset[str]
    required: frozenset[str]
    columns: Mapping[Role, str]
    words: Mapping[str, Word]
    zone: tzinfo | None
    form: str | None
    keep_visitors: bool
    visitor_key: bytes | None
    remove: tuple[str, ...]
    language: str | None
    attempt: str
    now_ms: int
    overdue: Overdue | None = None


def read_mapping(data: bytes) -> MappingFile:
    """Strictly; `ConfigInvalid` says what is wrong, and where."""
    try:
        return msgspec.convert(read_source(data), MappingFile, strict=True)
    except DocumentInvalid as error:
        raise ConfigInvalid(f"the mapping file: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"the mapping file: {error}") from error


def read_site_policy(document: bytes) -> SitePolicy:
    """Of the published document; `ConfigInvalid` where a server sends something else."""
    try:
        return msgspec.json.decode(document, type=SitePolicy)
    except msgspec.MsgspecError as error:
        raise ConfigInvalid("the server's answer is no site policy: is this the URL of a ledger?") from error


def make_plan(
    mapping: MappingFile,
    policy: SitePolicy,
    *,
    format_name: str,
    words: Mapping[str, Word],
    never_asked: Iterable[str],
    policy_version: str | None,
    time_zone: str | None,
    visitor_key: bytes | None,
    now_ms: int,
    overdue: Overdue | None = None,
) -> Plan:
    """Of the mapping file, the site's policy in force and the command's options, which win over the file.

    `never_asked`: the format's names of what needs no consent. `ConfigInvalid` where the file does not fit the site.
    """
    strange = sorted(set(mapping.columns) - set(ROLES))
    if strange:
        raise ConfigInvalid(f"the mapping file: columns has no {', '.join(strange)}; it may have {', '.join(ROLES)}")
    versions = policy_version or mapping.policy_version
    return Plan(
        site=policy.site,
        format=format_name,
        versions=versions if isinstance(versions, dict) else {ANY_VERSION: versions} if versions else {},
        purposes=_same_names(policy) | _mapped(mapping, policy),
        mapped=tuple(mapping.purposes),
        ignored=frozenset(map(plain, (*mapping.ignore, *never_asked))) - set(map(plain, mapping.purposes)),
        required=frozenset(name for name, purpose in policy.purposes.items() if purpose.required),
        columns=mapping.columns,
        words={**DEFAULT_WORDS, **words, **{plain(w): word for word, said in mapping.answers.items() for w in said}},
        zone=_zone(time_zone or mapping.time_zone),
        form=mapping.time_form,
        keep_visitors=mapping.visitor == "kept",
        visitor_key=visitor_key,
        remove=tuple(mapping.remove),
        language=mapping.language,
        attempt=mapping.attempt,
        now_ms=now_ms,
        overdue=overdue,
    )


def _same_names(policy: SitePolicy) -> dict[str, tuple[str, ...]]:
    """Each purpose under its id, and under its titles where no other has the same one."""
    found: dict[str, set[str]] = {}
    for name, purpose in policy.purposes.items():
        for title in purpose.title.values():
            found.setdefault(plain(title), set()).add(name)
    titled = {title: tuple(names) for title, names in found.items() if len(names) == 1}
    return titled | {plain(name): (name,) for name in policy.purposes}


def _mapped(mapping: MappingFile, policy: SitePolicy) -> dict[str, tuple[str, ...]]:
    mapped: dict[str, tuple[str, ...]] = {}
    for name, target in mapping.purposes.items():
        targets = (target,) if isinstance(target, str) else tuple(target)
        unknown = sorted(set(targets) - set(policy.purposes))
        if unknown or not targets:
            raise ConfigInvalid(
                f"the mapping file: purposes.{name}: the site has no purpose {', '.join(unknown) or 'of no name'}; "
                f"it has {', '.join(policy.purposes)}. What is to be left out belongs under `ignore`"
            )
        mapped[plain(name)] = targets
    return mapped


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ConfigInvalid(
            f"there is no time zone {name!r}; name one like Europe/Berlin, Asia/Almaty or UTC"
        ) from error


def answer_words(**said: Any) -> dict[str, Word]:
    """A format's own words: `granted="CONFIRMED ACTIVE"`."""
    return {plain(one): word for word, words in said.items() for one in words.split()}  # type: ignore[misc]
