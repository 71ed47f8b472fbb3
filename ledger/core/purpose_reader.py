"""Reads the purposes of a site document: each by itself, then what they say of one another.

What the members mean is in core/document.
"""

from __future__ import annotations

from typing import Literal, get_args

from ledger.core.document import (
    NEVER_AGAIN,
    ConsentSignal,
    Cookie,
    DataCategory,
    Kind,
    LegalBasis,
    Party,
    Purpose,
    ReaskAfter,
    Recipient,
    Role,
    Storage,
    TransferBasis,
)
from ledger.core.duration import Duration, parse_duration
from ledger.core.errors import DocumentInvalid
from ledger.core.event import MAX_PURPOSES
from ledger.core.place import Path
from ledger.core.reading import (
    MAX_LIST_ITEMS,
    NAME,
    Members,
    Read,
    age,
    by_region,
    dpv_term,
    duration,
    flag,
    formed,
    line,
    list_of,
    mapping,
    named,
    one_of,
    quoted,
    region,
    sha256,
    string,
    texts,
    version,
)
from ledger.core.regions import DEFAULT, REGIMES
from ledger.core.source import Node

MAX_COOKIES = 200

regimes = by_region(one_of(REGIMES))
_purpose_id = formed(NAME, "a purpose's id")
_NEVER_ASKED = ("regimes", "renewAfter", "reaskAfter", "needs", "recordRetention")
_COOKIE_DURATIONS: tuple[Literal["session", "persistent"], ...] = ("session", "persistent")
# What belongs to one kind alone, and whether that kind cannot do without.
_OF_KIND: tuple[tuple[str, Kind, bool], ...] = (
    ("minimumAge", "attestation", False),
    ("destination", "transfer", True),
    ("document", "acceptance", True),
)


def purposes(languages: tuple[str, ...]) -> Read[dict[str, Purpose]]:
    def purpose(node: Node, path: Path) -> Purpose:
        return _purpose(node, path, languages)

    def read(node: Node, path: Path) -> dict[str, Purpose]:
        members = mapping(node, path)
        if not 0 < len(members) <= MAX_PURPOSES:
            raise DocumentInvalid(path, f"has to hold 1 to {MAX_PURPOSES} purposes, not {len(members)}")
        found = named(purpose, MAX_PURPOSES, "a purpose's id")(node, path)
        for name in found:
            _check_alias(name, found, (*path, name, "aliasOf"))
            _check_needs(name, found, (*path, name, "needs"))
        return found

    return read


def reask_after(node: Node, path: Path) -> ReaskAfter:
    members = Members(node, path, ReaskAfter.__struct_encode_fields__)
    intervals = ReaskAfter(
        refusal=members.get("refusal", duration, None),
        withdrawal=members.get("withdrawal", duration, None),
        dismissal=members.get("dismissal", duration, None),
    )
    return NEVER_AGAIN if intervals == NEVER_AGAIN else intervals


def _purpose(node: Node, path: Path, languages: tuple[str, ...]) -> Purpose:
    members = Members(node, path, Purpose.__struct_encode_fields__)

    def cookie(inner: Node, inner_path: Path) -> Cookie:
        return _cookie(inner, inner_path, languages)

    def category(inner: Node, inner_path: Path) -> DataCategory:
        parts = Members(inner, inner_path, DataCategory.__struct_encode_fields__)
        return DataCategory(title=parts.need("title", texts(languages)), dpv=parts.get("dpv", dpv_term, None))

    purpose = Purpose(
        title=members.need("title", texts(languages)),
        description=members.need("description", texts(languages)),
        kind=members.get("kind", one_of(get_args(Kind)), "consent"),
        required=members.get("required", flag, False),
        in_use=members.get("inUse", flag, True),
        alias_of=members.get("aliasOf", _purpose_id, None),
        removed_in=members.get("removedIn", version, None),
        cookies=members.get("cookies", list_of(cookie, MAX_COOKIES), ()),
        recipients=members.get("recipients", list_of(_recipient), ()),
        data=members.get("data", named(category, MAX_LIST_ITEMS, "the name of a kind of data"), {}),
        publication=members.get("publication", flag, False),
        legal_basis=members.get("legalBasis", _legal_basis, {}),
        laws=members.get("laws", list_of(line), ()),
        regimes=members.get("regimes", regimes, {}),
        renew_after=members.get("renewAfter", duration, None),
        reask_after=members.get("reaskAfter", reask_after, None),
        retention=members.get("retention", duration, None),
        record_retention=members.get("recordRetention", duration, None),
        withdrawable=members.get("withdrawable", flag, True),
        withdrawal_bar=members.get("withdrawalBar", texts(languages), {}),
        needs=members.get("needs", list_of(_purpose_id), ()),
        minimum_age=members.get("minimumAge", by_region(age), {}),
        destination=members.get("destination", region, None),
        document=members.get("document", sha256, None),
        dpv=members.get("dpv", list_of(dpv_term), ()),
        consent_mode=members.get("consentMode", list_of(one_of(get_args(ConsentSignal))), ()),
    )
    _check_required(purpose, members, path)
    _check_kind(purpose, members, path)
    _check_withdrawal(purpose, members, path)
    return purpose


def _check_required(purpose: Purpose, members: Members, path: Path) -> None:
    if not purpose.required:
        return
    for key in _NEVER_ASKED:
        if members.has(key):
            raise DocumentInvalid((*path, key), "a required purpose is never asked; drop this key or `required`")
    if purpose.kind != "consent":
        right = f"a required purpose is never asked, so nobody could give this {purpose.kind}; drop `required`"
        raise DocumentInvalid((*path, "required"), right)


def _check_kind(purpose: Purpose, members: Members, path: Path) -> None:
    for key, kind, needed in _OF_KIND:
        if members.has(key) and purpose.kind != kind:
            raise DocumentInvalid((*path, key), f"belongs to a purpose of `kind: {kind}` alone; this is {purpose.kind}")
        if needed and purpose.kind == kind and not members.has(key):
            raise DocumentInvalid((*path, key), f"is missing; `kind: {kind}` does not go without it")
    if purpose.kind == "acceptance" and members.has("retention") and members.has("recordRetention"):
        right = "the record of an acceptance is kept for its `retention`; drop one of the two"
        raise DocumentInvalid((*path, "recordRetention"), right)
    for place, regime in purpose.regimes.items():
        if purpose.kind != "consent" and regime != "opt-in":
            right = f"nobody gives this {purpose.kind} by silence: it is opt-in everywhere; drop this key"
            raise DocumentInvalid((*path, "regimes", place), right)


def _check_withdrawal(purpose: Purpose, members: Members, path: Path) -> None:
    bar = (*path, "withdrawalBar")
    if not purpose.withdrawable and not members.has("withdrawalBar"):
        raise DocumentInvalid(bar, "is missing; who may not withdraw is told why, in every language")
    if purpose.withdrawable and members.has("withdrawalBar"):
        raise DocumentInvalid(bar, "goes with `withdrawable: false` alone; drop it or say that")


def _check_alias(name: str, found: dict[str, Purpose], path: Path) -> None:
    """What a purpose goes on with is still there, no longer offered, and leads back to an end."""
    seen = [name]
    while (earlier := found[seen[-1]].alias_of) is not None:
        if earlier in seen:
            raise DocumentInvalid(path, f"leads back to itself: {' -> '.join((*seen, earlier))}")
        if earlier not in found:
            right = "keep that purpose in the document with removedIn, so that its answers stay readable"
            raise DocumentInvalid(path, f"there is no purpose {quoted(earlier)}; {right}")
        if found[earlier].removed_in is None:
            right = "give that purpose removedIn, or drop the alias"
            raise DocumentInvalid(
                path, f"{quoted(earlier)} is still offered beside the purpose that goes on with it; {right}"
            )
        for key in ("kind", "destination"):
            ours, theirs = getattr(found[seen[-1]], key), getattr(found[earlier], key)
            if ours != theirs:
                right = "an answer for the one is none for the other; drop the alias"
                raise DocumentInvalid(path, f"{quoted(earlier)} has another {key} ({theirs}, here {ours}): {right}")
        seen.append(earlier)


def _check_needs(name: str, found: dict[str, Purpose], path: Path) -> None:
    purpose = found[name]
    attestations = tuple(
        key for key, other in found.items() if other.kind == "attestation" and other.removed_in is None
    )
    if purpose.needs and purpose.kind == "attestation":
        raise DocumentInvalid(path, "an attestation needs no other; drop this key")
    for index, need in enumerate(purpose.needs):
        if need not in attestations and purpose.removed_in is None:
            right = f"a purpose of `kind: attestation` that is offered: {', '.join(attestations) or 'there is none'}"
            raise DocumentInvalid((*path, index), f"{quoted(need)} is not {right}")


def _legal_basis(node: Node, path: Path) -> dict[str, LegalBasis]:
    """By region; a single word is the default for all of them."""
    word = one_of(get_args(LegalBasis))
    return {DEFAULT: word(node, path)} if isinstance(node, str) else by_region(word)(node, path)


def _recipient(node: Node, path: Path) -> Recipient:
    members = Members(node, path, Recipient.__struct_encode_fields__)
    return Recipient(
        name=members.need("name", line),
        role=members.get("role", one_of(get_args(Role)), "processor"),
        region=members.get("region", region, None),
        transfer=members.get("transfer", one_of(get_args(TransferBasis)), None),
    )


def _cookie(node: Node, path: Path, languages: tuple[str, ...]) -> Cookie:
    members = Members(node, path, Cookie.__struct_encode_fields__)
    if members.has("name") and members.has("pattern"):
        raise DocumentInvalid(path, "has to have a name or a pattern, not both")
    if not any(map(members.has, ("name", "pattern", "description"))):
        raise DocumentInvalid(path, "has to have a name, a pattern (with *) or at least a description")
    if members.has("duration") == members.has("inactivity"):
        raise DocumentInvalid(path, "has to have either a duration or a period of inactivity")
    return Cookie(
        name=members.get("name", line, None),
        pattern=members.get("pattern", line, None),
        description=members.get("description", texts(languages), {}),
        duration=members.get("duration", _cookie_duration, None),
        inactivity=members.get("inactivity", duration, None),
        party=members.get("party", one_of(get_args(Party)), "first"),
        storage=members.get("storage", one_of(get_args(Storage)), "cookie"),
        conditional=members.get("conditional", flag, False),
        clear_on_withdrawal=members.get("clearOnWithdrawal", flag, True),
    )


def _cookie_duration(node: Node, path: Path) -> Duration | Literal["session", "persistent"]:
    written = string(node, path)
    for word in _COOKIE_DURATIONS:
        if written == word:
            return word
    period = parse_duration(written)
    if period is None:
        raise DocumentInvalid(
            path, f"{quoted(written)} is neither session, persistent nor an ISO 8601 duration, like P12M"
        )
    return period
