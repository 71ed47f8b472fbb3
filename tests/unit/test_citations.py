"""An event judged by its outline is judged as if it were parsed, whatever was read before it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core import citations
from ledger.core.citations import MAX_OUTLINE_BYTES, Outlines
from ledger.core.errors import Malformed
from ledger.core.event import decode_event
from tests.logbuilder import LogBuilder

LOG = LogBuilder()
MEMBERS = {
    "occurredAt": "2026-11-21T03:00:00.000Z",
    "sentAt": "2026-11-21T03:00:01.250Z",
    "language": "de-AT",
    "region": "DE",
}
PLAIN = LOG.payload(**MEMBERS)
NO_TIMES = ({}, {"occurredAt": None}, {"sentAt": None}, {"occurredAt": None, "sentAt": None})
WARM = tuple(LOG.payload(**(MEMBERS | without)) for without in NO_TIMES)


def judged(outlines: Outlines, payload: bytes) -> tuple[object, ...] | None:
    try:
        event_id, cited = outlines.read(payload)
        return event_id, *cited
    except Malformed:
        return None


def parsed(payload: bytes) -> tuple[object, ...] | None:
    try:
        event = decode_event(payload)
    except Malformed:
        return None
    return event.id.encode(), event.site, event.policy_version, event.shown


def warm() -> Outlines:
    outlines = Outlines()
    for payload in WARM:
        assert judged(outlines, payload) == parsed(payload) != None  # noqa: E711
    return outlines


ODD_VALUES = (
    {"id": "01980000-0000-9000-8000-000000000001"},
    {"id": "01980000-0000-7000-8000-00000000000G"},
    {"id": "01980000-0000-7000-8000-00000000000"},
    {"visitor": "v" * 21},
    {"visitor": "v" * 65},
    {"visitor": "v" * 22 + "\n"},
    {"visitor": "v" * 22 + " 2026-11-21T03:00:00.000Z", "occurredAt": None},
    {"visitor": "v" * 22 + " 2026-11-21T03:00:00.000Z", "occurredAt": None, "sentAt": None},
    {"visitor": "v" * 22 + "2026-11-21T03:00:00.000Z", "occurredAt": None},
    {"visitor": "v" * 22 + " " + "v" * 22},
    {"visitor": "v" * 22 + " 2026-11-21T03:00:00.000Z"},
    {"occurredAt": "2026-02-29T03:00:00.000Z"},
    {"occurredAt": "2026-11-21T24:00:00.000Z"},
    {"occurredAt": "2026-11-21T03:00:60.000Z"},
    {"occurredAt": "0000-11-21T03:00:00.000Z"},
    {"sentAt": "2026-11-21T03:00:00.0000"},
    {"sentAt": "2026-11-31T03:00:00.000Z"},
    {"site": ""},
    {"decisions": {"id": "granted", "visitor": "granted", "occurredAt": "denied"}},
    {"decisions": {"analytics": "granted", "id": "01980000-0000-7000-8000-000000000001"}},
    {"citedPolicyVersion": ',"id":"01980000-0000-7000-8000-000000000001'},
    {"citedPolicyVersion": ',"visitor":"' + "v" * 22},
    {"policyVersion": "2.0"},
    {"shown": "ab" * 32},
    {"gpc": True},
    {"unknown": "x"},
)


@pytest.mark.parametrize("members", ODD_VALUES, ids=lambda value: json.dumps(value)[:60])
def test_an_odd_value_is_judged_as_by_parsing_cold_and_warm(members: dict[str, object]) -> None:
    payload = LOG.payload(**(MEMBERS | members))
    outlines = warm()
    expected = parsed(payload)
    assert [judged(outlines, payload) for _ in range(2)] == [expected, expected]
    assert judged(Outlines(), payload) == expected


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        PLAIN[:-1],
        PLAIN + b" ",
        PLAIN.replace(b'"id":', b'"id": '),
        PLAIN.replace(b'{"action"', b'{"action":"customize","action"'),
        PLAIN.replace(b',"sentAt"', b',"occurredAt":"2026-11-21T03:00:00.000Z","sentAt"'),
        PLAIN.replace(b',"visitor":', b',"visitor":"vvvvvvvvvvvvvvvvvvvvvv","visitor":'),
        PLAIN.replace(b'"}', b'\\u0020"}'),
        PLAIN.replace(b"customize", b"custom\\u0069ze"),
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.replace(b"weco", b"w\xff\xfeo"),
    ],
)
def test_a_text_in_another_encoding_is_refused_cold_and_warm(payload: bytes) -> None:
    assert parsed(payload) is None
    assert judged(Outlines(), payload) is None
    assert judged(warm(), payload) is None


@given(st.data())
def test_whatever_is_cut_put_in_or_changed_is_judged_as_by_parsing(data: st.DataObject) -> None:
    payload = bytearray(data.draw(st.sampled_from(WARM)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        length = data.draw(st.sampled_from((0, 1, 1, 24, 36)))
        put = data.draw(st.sampled_from((b"", b'"', b"\\", b" ", b"0", b"a", b',"id":"', b',"sentAt":"', b"\0", b"}")))
        payload[at : at + length] = put
    assert judged(warm(), bytes(payload)) == parsed(bytes(payload))


def test_another_visitor_in_a_known_outline_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outlines = warm()
    monkeypatch.setattr(citations, "decode_event", None)
    event_id = "01980000-0000-4000-b000-00000000abcd"
    other = LOG.payload(**(MEMBERS | {"visitor": "w" * 64, "id": event_id, "sentAt": "2026-12-24T03:00:01.250Z"}))
    assert judged(outlines, other) == (event_id.encode(), LOG.site, "1.0", None)


def test_what_a_hostile_log_can_make_it_remember_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(citations, "MAX_OUTLINES", 4)
    outlines = Outlines()
    for number in range(20):
        outlines.read(LOG.payload(policyVersion=str(number)))
        assert len(outlines._known) <= 4
    before = dict(outlines._known)
    purposes = {f"purpose-{number:03d}-{'x' * 40}": "denied" for number in range(60)}
    large = LOG.payload(decisions=purposes)
    assert len(large) > MAX_OUTLINE_BYTES
    assert judged(outlines, large) == parsed(large)
    assert outlines._known == before
