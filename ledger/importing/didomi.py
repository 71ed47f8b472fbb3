"""Didomi: consent events, as its batch export writes them (newline-delimited JSON, mostly gzip) or its API answers.

Read are the event's `id`, `user.id`, `created_at`, `status`, the country of the user where it is a code, a TC string,
and `consents.purposes`: a list of `{id, enabled}`, or the ids under `enabled` and `disabled`. A line of the batch
export holds a user and all events of that user; each is an event of its own. In CSV the same names stand as columns
with dots, and lists as JSON. Vendors, legitimate interests and channels are not read.

`enabled: true` is a grant, `false` a denial, without a value no choice. An event that waits for approval grants
nothing.

`user.id` is the `user_id` in the cookie `didomi_token`: it is kept as the visitor. To go by the organisation's own id,
map `visitor: user.organization_user_id`; where that is an e-mail address it takes `--visitor-key`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ledger.core.errors import RowRefused
from ledger.importing.found import Format, Found, common
from ledger.importing.mapping import Plan, Word
from ledger.importing.row import Cells, Row, as_json, as_text, pick

_NAMES = {
    "id": ("id", "event.id"),
    "visitor": ("user.id", "user_id"),
    "time": ("created_at", "event.created_at"),
    "purposes": ("consents.purposes", "event.consents.purposes"),
    "language": ("language", "user.language"),
    "region": ("user.country", "country"),
    "tcString": ("tc_string", "tcs", "user.tcfcs", "tcfcs"),
    "version": ("notice_version", "version"),
    "status": ("status", "event.status"),
}
_STATUS: Mapping[str, Word | None] = {"": None, "confirmed": None, "pending_approval": "none"}


def _split(row: Row) -> Iterator[Row]:
    events = row.value.get("events")
    if not isinstance(events, list):
        yield row
        return
    user = row.value.get("user")
    slim = (
        {name: user[name] for name in ("id", "organization_user_id", "country") if name in user}
        if isinstance(user, dict)
        else {}
    )
    for part, event in enumerate(events, 1):
        value = {"user": slim, **event} if isinstance(event, dict) else {}
        yield Row(row.number, value, part)


def _find(cells: Cells, value: Mapping[str, Any], plan: Plan) -> Found:
    status = cells.text("status")
    if status not in _STATUS:
        raise RowRefused("unknown-status", "The event's status is neither confirmed nor pending_approval.")
    return common(cells, list(_answers(as_json(cells.get("purposes")))), _STATUS[status])


def _answers(purposes: Any) -> Iterator[tuple[str, str]]:
    if isinstance(purposes, dict):
        consent = purposes.get("consent", purposes)
        for member, word in (("enabled", "true"), ("disabled", "false")):
            ids = pick(consent, member)
            for name in ids if isinstance(ids, list) else ():
                yield as_text(name), word
    elif isinstance(purposes, list):
        for purpose in purposes:
            name = as_text(pick(purpose, "id"))
            if not name:
                raise RowRefused("no-purpose", "A purpose of the event has no id.")
            yield name, as_text(pick(purpose, "enabled"))
    else:
        raise RowRefused("no-purposes", "The event holds no choice of purposes (`consents.purposes`).")


FORMAT = Format(
    name="didomi",
    tables=True,
    json=True,
    names=_NAMES,
    words={},
    find=_find,
    wrappers=("data",),
    split=_split,
    needed=("visitor", "time", "purposes"),
)
