"""c15t: rows of its table `consent`, as JSON (one object a line, a list, or under `consent`) or CSV.

Read are `id`, `subjectId`, `givenAt`, `validUntil`, `tcString`, `consentAction`, of version 1 also `status` and
`isActive`, the times `withdrawnAt` or `updatedAt` where an export has them, and the purposes: `purposes` (codes) where
the export joins them, else `purposeIds`. Names in snake_case are the same. Purpose ids are mapped like any name:
`{pur_…: marketing}`. A timestamp of the table has no offset: name the zone (`--time-zone UTC`).

The table holds what was granted and not what was refused. So every purpose that the mapping names (without a mapping,
c15t's own categories) and the row does not list was refused in that act, save in an `accept_all`, where it was not
offered. A row that lists nothing counts as a refusal only if it says that it is one (`consentAction`, or the policy's
`type` cookie_banner): the acceptance of a document looks alike. A withdrawn row is a withdrawal of what it lists, as of
`withdrawnAt`, else `updatedAt`, else from the beginning; an inactive row that does not say why is refused.

`subjectId` is in the browser's cookie `c15t` and is kept as the visitor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ledger.core.errors import RowRefused
from ledger.importing.found import Format, Found, common
from ledger.importing.mapping import Plan, Word
from ledger.importing.row import Cells, as_json, as_text, pick, plain

_NAMES = {
    "id": ("id",),
    "visitor": ("subjectId", "subject.id"),
    "time": ("givenAt",),
    "purposes": ("purposes", "purposeIds"),
    "language": ("language", "metadata.language"),
    "region": ("region", "countryCode"),
    "tcString": ("tcString",),
    "version": ("policyVersion", "policyId"),
    "validUntil": ("validUntil",),
    "status": ("status",),
}
_CATEGORIES = ("necessary", "functionality", "marketing", "measurement", "experience")
_REFUSALS = frozenset({"rejectall", "optout", "custom"})
_STATUS: Mapping[str, Word | None] = {"": None, "active": None, "withdrawn": "withdrawn", "expired": "none"}
_WITHDRAWN_AT = ("withdrawnAt", "updatedAt")


def _find(cells: Cells, value: Mapping[str, Any], plan: Plan) -> Found:
    status = cells.text("status").casefold()
    if status not in _STATUS:
        raise RowRefused("unknown-status", "The consent's status is neither active, withdrawn nor expired.")
    forced = _STATUS[status]
    if forced is None and plan.words.get(plain(as_text(pick(value, "isActive")))) == "denied":
        raise RowRefused("inactive", "The consent is not active, and its status does not say why.")
    granted = list(_granted(as_json(cells.get("purposes"))))
    answers = [(name, "true") for name in granted]
    action = plain(as_text(pick(value, "consentAction")))
    if granted and action != "acceptall" and forced is None:
        answers += [(name, "false") for name in _unlisted(granted, plan)]
    elif not granted:
        banner = plain(as_text(pick(value, "type"))) == "cookiebanner"
        if action not in _REFUSALS and not banner:
            raise RowRefused("no-purposes", "The row lists no purpose, and does not say that it is a refusal.")
        answers = [(name, "false") for name in _unlisted([], plan)]
    found = common(cells, answers, forced)
    if forced == "withdrawn":
        time = next((time for name in _WITHDRAWN_AT if (time := as_text(pick(value, name)))), "")
        found = found._replace(time=time or found.time, valid_until="")
    return found


def _granted(purposes: Any) -> Iterator[str]:
    if isinstance(purposes, dict):  # a list that is wrapped once more
        purposes = purposes.get("json", purposes.get("ids"))
    if purposes is None:
        return
    if not isinstance(purposes, list):
        raise RowRefused("no-purposes", "The purposes of the row are no list.")
    for purpose in purposes:
        name = as_text(pick(purpose, "code") or pick(purpose, "id")) if isinstance(purpose, dict) else as_text(purpose)
        if not name:
            raise RowRefused("no-purpose", "A purpose of the row has neither code nor id.")
        yield name


def _unlisted(granted: list[str], plan: Plan) -> Iterator[str]:
    """What could have been granted and was not: by the site's purposes, for one may have two names in the export."""
    covered = {target for name in granted for target in plan.purposes.get(plain(name), ())}
    for name in plan.mapped or _CATEGORIES:
        targets = plan.purposes.get(plain(name), ())
        if targets and plain(name) not in plan.ignored and not covered & set(targets):
            yield name


FORMAT = Format(
    name="c15t",
    tables=True,
    json=True,
    names=_NAMES,
    words={},
    find=_find,
    wrappers=("consent", "consents", "rows"),
    never_asked=("necessary",),
    needed=("visitor", "time", "purposes"),
)
