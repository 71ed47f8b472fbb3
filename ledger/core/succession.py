"""Whether a version of a site's policy may follow those that are published: nothing is dropped or renamed in silence.

What a document says by itself is core/document_reader's affair; what a new version changes is core/policy_diff's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from ledger.core.document import SiteDocument
from ledger.core.errors import DocumentInvalid
from ledger.core.policy import PolicyHistory
from ledger.core.policy_diff import diff


def check_succession(history: PolicyHistory, document: SiteDocument, now_ms: int) -> None:
    """`DocumentInvalid` unless the document, published now, may follow the version that is in effect before it."""
    index = bisect_right(history.effects_ms, max(now_ms, document.effective_ms))
    before = history.in_effect_order[index - 1].document if index else None
    after = _next(history, index)
    earlier = {entry.document.version for entry in history.in_effect_order[:index]}
    _check_removals(before, document, earlier)
    _check_aliases(before, document)
    _check_returns(before, document, after)
    _check_overrides(before, document)


def _next(history: PolicyHistory, index: int) -> SiteDocument | None:
    """The version that is to take effect after it; of those with one time of effect the last one holds."""
    if index == len(history):
        return None
    last = bisect_right(history.effects_ms, history.effects_ms[index]) - 1
    return history.in_effect_order[last].document


def _check_removals(before: SiteDocument | None, document: SiteDocument, earlier: set[str]) -> None:
    """A purpose that visitors answered stays on record, with the version that removed it."""
    version = document.version
    for name in before.purposes if before else ():
        if before is not None and before.offers(name) and name not in document.purposes:
            raise DocumentInvalid(
                ("purposes", name),
                f"version {before.version} has the purpose {name}, and this one drops it: keep it, with "
                f"`removedIn: {version}`; where another goes on with it, give that one `aliasOf: {name}` too",
            )
    for name, purpose in document.purposes.items():
        removed_in = purpose.removed_in
        if removed_in is None or before is None:
            continue
        place = ("purposes", name, "removedIn")
        known = before.purposes.get(name)
        if known is not None and known.removed_in not in (None, removed_in):
            raise DocumentInvalid(place, f"{name} was removed in {known.removed_in}: that does not change any more")
        if known is not None and known.removed_in is None and removed_in != version:
            raise DocumentInvalid(place, f"version {before.version} still offers {name}, so it is removed in {version}")
        if removed_in != version and removed_in not in earlier:
            raise DocumentInvalid(place, f"{removed_in} is neither this version nor one in effect before it")


def _check_aliases(before: SiteDocument | None, document: SiteDocument) -> None:
    for name, purpose in document.purposes.items():
        original = purpose.alias_of
        if before is not None and original is not None and original not in before.purposes:
            raise DocumentInvalid(
                ("purposes", name, "aliasOf"), f"version {before.version} has no purpose {original} to go on with"
            )


def _check_returns(before: SiteDocument | None, document: SiteDocument, after: SiteDocument | None) -> None:
    """What was answered under another name is not forgotten while either of the two is offered."""
    for name, other in () if before is None else _forgotten(before, document):
        assert before is not None
        right = f"give it `aliasOf: {other}`, so that what visitors answered there goes on counting"
        raise DocumentInvalid(
            ("purposes", name, "aliasOf"), f"in version {before.version} {name} and {other} are one: {right}"
        )
    for name, other in () if after is None else _forgotten(document, after):
        assert after is not None
        raise DocumentInvalid(
            ("purposes", name if name in document.purposes else other, "aliasOf"),
            f"version {after.version}, which is to take effect after this one, offers {name} and would forget what "
            f"visitors answer to {other}: let this one take effect later than that",
        )


def _forgotten(before: SiteDocument, after: SiteDocument) -> Iterator[tuple[str, str]]:
    """Each purpose that `after` offers without the answers to another that `before` counts for it, or it for."""
    for newer in before.purposes:
        for older in before.names_of(newer)[1:]:
            if after.offers(newer) and older not in after.names_of(newer):
                yield newer, older
            if after.offers(older) and not after.offers(newer) and newer not in after.names_of(older):
                yield older, newer


def _check_overrides(before: SiteDocument | None, document: SiteDocument) -> None:
    """A reason on record says why something is not material: it has to be about something, and not contradicted."""
    if not document.policy.not_material:
        return
    changes = None if before is None else diff(before, document)
    for name in document.policy.not_material:
        place = ("policy", "notMaterial", name)
        if changes is None:
            raise DocumentInvalid(place, "this is the first version: there are no answers that it could end")
        if document.material_for(name):
            claim = f"policy.material says that visitors are asked again for {name}, as it does where it is left out"
            raise DocumentInvalid(place, f"{claim}: drop one of the two")
        if not changes.reasons(name):
            raise DocumentInvalid(place, f"nothing changes for {name} that would ask again: drop the reason")
