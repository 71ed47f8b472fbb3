"""What an audit has to know of an event's payload, several times faster than parsing it: `decode_event` by comparison.

Payloads differ in little. Cut out an event's id, its times and its visitor, and the rest, its *outline*, is one of a
few that a site's banner makes. An outline that was judged once, strictly and whole, need not be judged again: put
other values of the same strict form between the same quotation marks, and the text parses as before, in the one
encoding as before. So only those values are looked at. Whatever is not plainly of a known outline is parsed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ledger.core.encoding import decode_time
from ledger.core.event import decode_event

MAX_OUTLINES = 4_096
MAX_OUTLINE_BYTES = 2_048
"""Of a payload whose outline is remembered: with the bound above, what a hostile log can fill."""

_ID, _OCCURRED, _SENT, _VISITOR = b',"id":"', b',"occurredAt":"', b',"sentAt":"', b',"visitor":"'
_ID_BYTES = 36
_TIME_BYTES = 24
# The forms of core/event, one after the other, for so many times. None of them can hold a quotation mark, a backslash
# or a space; so as many values match as were joined.
_VALUES = tuple(
    re.compile(
        rb"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12} [A-Za-z0-9_-]{22,64}"
        rb"(?: [0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z){%d}" % times
    )
    for times in range(3)
)


class Citations(NamedTuple):
    """An event's site, and what it cites: a policy version, the hash of a document in hex."""

    site: str
    policy_version: str | None
    shown: str | None


class Outlines:
    """Outlines that were judged, by their text. One for each audit, or each process of it."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, ...], Citations] = {}

    def read(self, payload: bytes) -> tuple[bytes, Citations]:
        """The event's id, and what it cites; `Malformed` for exactly what `decode_event` calls so."""
        # Unrolled: this is done for every event of a log. A member that is not found ends where it would begin.
        find = payload.find
        at = find(_ID) + 7
        end = at + _ID_BYTES
        occurred = find(_OCCURRED, end) + 15
        if occurred > 14:
            first = payload[end:occurred]
            end = occurred + _TIME_BYTES
            times = b" " + payload[occurred:end]
        else:
            first = times = b""
        sent = find(_SENT, end) + 11
        if sent > 10:
            second = payload[end:sent]
            end = sent + _TIME_BYTES
            times += b" " + payload[sent:end]
        else:
            second = b""
        visitor = find(_VISITOR, end) + 12
        if at < 7 or visitor < 12:
            return self._learn(payload)
        outline = (payload[:at], first, second, payload[end:visitor], payload[-2:])
        values = payload[at : at + _ID_BYTES] + b" " + payload[visitor:-2] + times
        known = self._known.get(outline)
        if known is None or _VALUES[len(times) // 25].fullmatch(values) is None:
            return self._learn(payload, outline, values)
        if times:
            day = times[1:11]
            _check_day(day)
            if len(times) > 25 and times[26:36] != day:
                _check_day(times[26:36])
        return payload[at : at + _ID_BYTES], known

    def _learn(
        self, payload: bytes, outline: tuple[bytes, ...] | None = None, values: bytes = b""
    ) -> tuple[bytes, Citations]:
        """Judge it whole. Its outline is remembered if what was cut out were these members, and no others."""
        event = decode_event(payload)
        cited = Citations(event.site, event.policy_version, event.shown)
        if outline is not None and len(payload) <= MAX_OUTLINE_BYTES:
            members = [event.id, event.visitor, *(time for time in (event.occurred_at, event.sent_at) if time)]
            if " ".join(members).encode() == values:
                if len(self._known) >= MAX_OUTLINES:
                    self._known.clear()
                self._known[outline] = cited
        return event.id.encode(), cited


@lru_cache(maxsize=4_096)
def _check_day(day: bytes) -> None:
    """`Malformed` unless it is a day of the calendar."""
    decode_time(day.decode("ascii") + "T00:00:00.000Z")
