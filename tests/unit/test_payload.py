"""Payloads are read strictly: one value, one text (audit rule 10)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.core.encoding import decode_json, encode_json, encode_time
from ledger.core.errors import InputRefused, Malformed
from ledger.core.event import ErasureRecord, Event, decode_payload, parse_input

EVENT: dict[str, Any] = {
    "action": "api",
    "decisions": {"analytics": "denied"},
    "id": "01980000-0000-7000-8000-000000000001",
    "occurredAt": "2026-11-21T03:00:00.000Z",
    "site": "weco.nexaxt.com",
    "type": "consent.refused",
    "visitor": "v" * 22,
}
RECORD: dict[str, Any] = {
    "evidence": "AA==",
    "instruction": "order 7",
    "reason": "legal_order",
    "requestedAt": "2026-11-21T03:00:00.000Z",
    "site": "weco.nexaxt.com",
}


def test_a_payload_in_the_one_encoding_is_read() -> None:
    assert decode_payload(encode_json(EVENT), Event).visitor == "v" * 22
    assert decode_payload(encode_json(RECORD), ErasureRecord).reason == "legal_order"


@pytest.mark.parametrize("member", ["id", "visitor", "occurredAt", "language", "shown", "region", "policyVersion"])
def test_a_trailing_newline_belongs_to_no_word(member: str) -> None:
    fitting = {"language": "ru", "shown": "0" * 64, "region": "KZ", "policyVersion": "1.0"}
    known = EVENT | {member: EVENT.get(member) or fitting[member]}
    decode_payload(encode_json(known), Event)
    with pytest.raises(Malformed):
        decode_payload(encode_json(known | {member: known[member] + "\n"}), Event)


def test_a_trailing_newline_belongs_to_no_purpose() -> None:
    with pytest.raises(InputRefused):
        parse_input(
            json.dumps({k: EVENT[k] for k in ("type", "visitor", "action")} | {"decisions": {"a\n": "denied"}}).encode()
        )


@pytest.mark.parametrize(
    "time",
    [
        "2026-13-01T00:00:00.000Z",
        "2026-02-29T00:00:00.000Z",
        "2026-11-21T24:00:00.000Z",
        "2026-11-21T03:00:60.000Z",
        "0000-01-01T00:00:00.000Z",
        "2026-11-21T03:00:00Z",
        "2026-11-21T03:00:00.000+00:00",
    ],
)
def test_a_time_outside_the_calendar_or_the_encoding_is_refused(time: str) -> None:
    with pytest.raises(Malformed):
        decode_payload(encode_json(EVENT | {"occurredAt": time}), Event)
    with pytest.raises(Malformed):
        decode_payload(encode_json(RECORD | {"requestedAt": time}), ErasureRecord)


@pytest.mark.parametrize("ms", [-62_135_596_800_000, -1, 0, 253_402_300_799_999])
def test_every_time_that_is_written_is_read(ms: int) -> None:
    decode_payload(encode_json(EVENT | {"occurredAt": encode_time(ms)}), Event)


@pytest.mark.parametrize(
    "text",
    [
        '{"b":1,"a":1}',
        '{"a":1,"a":1}',
        '{"a": 1}',
        '{"a":1}\n',
        '\ufeff{"a":1}',
        '{"a":1.0}',
        '{"a":1e3}',
        '{"a":-0}',
        '{"a":0}',
        '{"a":01}',
        '{"a":9007199254740992}',
        '{"a":null}',
        '{"a":false}',
        '{"a":""}',
        '{"a":[]}',
        '{"a":{}}',
        '{"":1}',
        '{"a":"\\u0041"}',
        '{"a":"\\/"}',
        '{"a":"\\u000A"}',
        '{"a":"\\u000a"}',
        '{"a":"\\u001F"}',
        '{"a":"\\u007f"}',
        '{"a":"\\ud800"}',
        '{"a":"\\u00e9"}',
        '{"a":[[[[[[[[1]]]]]]]]}',
        "[1]",
        "1",
        "",
    ],
)
def test_another_text_of_the_same_value_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        decode_json(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"b":-9007199254740991}',
        '{"a":true}',
        '{"a":[[[[[[[1]]]]]]]}',
        '{"a":"\\b\\f\\n\\r\\t\\u0000\\u001f\\"\\\\/\x7fé\U0001f36a"}',
        '{"Z":1,"_":1,"a":1}',
    ],
)
def test_the_one_encoding_is_accepted(text: str) -> None:
    assert encode_json(decode_json(text.encode())) == text.encode()
