"""One value, one text: base64, decimals, times and JSON are accepted only as they would be written."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.core import encoding
from ledger.core.errors import Malformed
from ledger.core.event import MAX_TIME_MS, MIN_TIME_MS


@given(st.binary(max_size=100))
def test_base64_comes_back(data: bytes) -> None:
    assert encoding.decode_base64(encoding.encode_base64(data)) == data


@pytest.mark.parametrize(
    "text",
    ["A", "AA", "AAA", "AA=", "AB==", "AAB=", "AA==\n", " AA==", "AA== ", "A-A=", "A_A=", "AA==AA==", "====", "é==="],
)
def test_other_base64_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        encoding.decode_base64(text)


@given(st.text(alphabet="AB+/=-_ \n", max_size=8))
def test_base64_has_one_text_for_each_value(text: str) -> None:
    with suppress(Malformed):
        assert encoding.encode_base64(encoding.decode_base64(text)) == text


@given(st.integers(0, 2**53 - 1))
def test_a_decimal_comes_back(value: int) -> None:
    assert encoding.decode_decimal(str(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "01",
        "+5",
        "-0",
        "-1",
        " 5",
        "5 ",
        "5\n",
        "1_000",
        "٣",
        "²",
        "1e3",
        "0x1",
        "9007199254740992",
        "99999999999999999",
    ],
)
def test_other_decimals_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        encoding.decode_decimal(text)


@given(st.integers(MIN_TIME_MS, MAX_TIME_MS))
@example(0)
@example(-1)
@example(MIN_TIME_MS)
@example(MAX_TIME_MS)
def test_a_time_comes_back(ms: int) -> None:
    text = encoding.encode_time(ms)
    assert len(text) == 24
    assert encoding.decode_time(text) == ms


def test_a_time_is_utc_with_three_decimals() -> None:
    assert encoding.encode_time(1_795_230_000_000) == "2026-11-21T03:00:00.000Z"
    assert encoding.encode_time(-1) == "1969-12-31T23:59:59.999Z"


@pytest.mark.parametrize("ms", [MIN_TIME_MS - 1, MAX_TIME_MS + 1, 2**53, -(2**62)])
def test_a_time_beyond_the_calendar_is_refused(ms: int) -> None:
    with pytest.raises(Malformed):
        encoding.encode_time(ms)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T03:00:00Z",
        "2026-11-21T03:00:00.00Z",
        "2026-11-21T03:00:00.0000Z",
        "2026-11-21T03:00:00.000",
        "2026-11-21T03:00:00.000z",
        "2026-11-21T03:00:00.000+00:00",
        "2026-11-21 03:00:00.000Z",
        "2026-11-21T03:00:00.000Z\n",
        "2026-11-21T24:00:00.000Z",
        "2026-11-21T23:60:00.000Z",
        "2026-11-21T23:59:60.000Z",
        "2026-02-29T00:00:00.000Z",
        "2026-00-01T00:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        "٢٠٢٦-11-21T03:00:00.000Z",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        encoding.decode_time(text)


# JSON in the one encoding: objects, arrays, strings, true and integers, nothing empty, zero or null.

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
scalars = words | st.just(True) | st.integers(-(2**53) + 1, 2**53 - 1).filter(bool)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(words, inner, min_size=1, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, values, max_size=4)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0)


@given(objects)
def test_json_comes_back(value: dict[str, Any]) -> None:
    data = encoding.encode_json(value)
    if depth(value) <= 9:
        assert encoding.decode_json(data) == value
    else:
        with pytest.raises(Malformed):
            encoding.decode_json(data)


@given(objects)
def test_json_is_sorted_unspaced_and_escapes_only_what_it_must(value: dict[str, Any]) -> None:
    text = encoding.encode_json(value).decode()
    plain = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert text == plain


@given(objects, st.data())
def test_json_with_one_byte_more_is_another_value_or_malformed(value: dict[str, Any], data: st.DataObject) -> None:
    text = encoding.encode_json(value)
    at = data.draw(st.integers(0, len(text)))
    longer = text[:at] + data.draw(st.sampled_from([b" ", b"\n", b",", b"0", b"a", b"\\", b'"'])) + text[at:]
    with suppress(Malformed):
        assert encoding.decode_json(longer) != value


@given(st.binary(max_size=60))
def test_any_bytes_are_json_in_the_one_encoding_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        assert encoding.encode_json(encoding.decode_json(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"a"',
        b"1",
        b"null",
        b' {"a":1}',
        b'{"a":1} ',
        b'{"a":1}\n',
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":null}',
        b'{"a":false}',
        b'{"a":0}',
        b'{"a":-0}',
        b'{"a":""}',
        b'{"a":[]}',
        b'{"a":{}}',
        b'{"":1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":123456789012345678901234567890}',
        b'{"a":"\\u0062"}',
        b'{"a":"\\/"}',
        b'{"a":"\\u000a"}',
        b'{"a":"\\u001F"}',
        b'{"a":"\\u007f"}',
        b'{"a":"\n"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud83d\\ude00"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":1}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1}{"a":1}',
        b'{"a":' + b"[" * 9 + b"1" + b"]" * 9 + b"}",
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_json_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        encoding.decode_json(data)


def test_escapes_are_the_shortest() -> None:
    value = {"a": '\b\f\n\r\t\x00\x1f\x7f"\\/é€😀\u2028'}
    data = b'{"a":"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\\"\\\\/' + "é€😀\u2028".encode() + b'"}'
    assert encoding.encode_json(value) == data
    assert encoding.decode_json(data) == value
