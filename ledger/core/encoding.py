"""The one encoding of everything that is hashed, signed or compared: JSON, base64, decimals and times.

Parsing is by round trip: text is accepted only if encoding the parsed value gives the same text again, because the
obvious parsers take more than they should (`int("1_0")`, `b64decode("AB==")`, the last of two equal JSON members).
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from ledger.core.errors import Malformed

MAX_INT = 2**53  # exclusive: what every JSON implementation keeps exactly (RFC 8259 section 6)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Hours are bounded here: later Pythons take 24:00 for the next midnight.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_base64(text: str) -> bytes:
    """The bytes of canonical padded base64; anything else is `Malformed`."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("not canonical base64") from error
    if encode_base64(data) != text:
        raise Malformed("not canonical base64")
    return data


def decode_decimal(text: str) -> int:
    """A decimal integer from 0 to 2**53 - 1 without sign, leading zero or other decoration."""
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or (text[0] == "0" and len(text) > 1):
        raise Malformed(f"{text[:20]!r} is not a canonical decimal number")
    value = int(text)
    if value >= MAX_INT:
        raise Malformed("the number is not below 2^53")
    return value


def encode_uuid(data: bytes, version: int) -> str:
    """A UUID (RFC 9562) of this version: 16 bytes, of which 6 bits are overwritten."""
    marked = bytearray(data)
    marked[6] = marked[6] & 0x0F | version << 4
    marked[8] = marked[8] & 0x3F | 0x80
    text = marked.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def encode_time(unix_ms: int) -> str:
    """UTC with exactly three decimals: `2026-11-21T03:00:00.000Z`; `Malformed` beyond the years 1 to 9999."""
    seconds, milliseconds = divmod(unix_ms, 1000)
    return f"{_encode_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=1024)
def _encode_second(unix_seconds: int) -> str:
    """Times come in bursts: of one batch they share a second or two."""
    try:
        return (_EPOCH + timedelta(seconds=unix_seconds)).isoformat()[:-6]
    except OverflowError as error:
        raise Malformed(f"{unix_seconds} s is no time of the calendar") from error


def decode_time(text: str) -> int:
    """Milliseconds since 1970 of a time in the one encoding (negative before it)."""
    if _TIME.fullmatch(text) is None:
        raise Malformed(f"{text[:32]!r} is not a UTC time with three decimals and Z")
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except ValueError as error:
        raise Malformed(f"{text[:32]!r} is not a time of the calendar") from error


def encode_json(value: Any) -> bytes:
    """The one encoding: members sorted, no white space, shortest escapes. The caller leaves defaults out."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def decode_json(data: bytes) -> dict[str, Any]:
    """An object in the one encoding (SPEC.md, "Payloads"): objects, arrays, strings, true and integers, none empty."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error.msg}") from error
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    _refuse_defaults(value, 0)
    if encode_json(value) != data:
        raise Malformed("JSON that is not in the one encoding (order, white space, escapes or a doubled member)")
    return value


def _refuse_defaults(value: Any, depth: int) -> None:
    """A member at its default (proto3) could be there or not there: two encodings of one value."""
    if depth > 8:
        raise Malformed("JSON nested deeper than 8 levels")
    kind = type(value)
    if kind is str:
        if not value:
            raise Malformed("an empty string is a member at its default")
    elif kind is dict:
        if not value and depth:
            raise Malformed("an empty object is a member at its default")
        for member, inner in value.items():
            if not member:
                raise Malformed("a member without a name")
            _refuse_defaults(inner, depth + 1)
    elif kind is list:
        if not value:
            raise Malformed("an empty array is a member at its default")
        for inner in value:
            _refuse_defaults(inner, depth + 1)
    elif kind is int:
        if not -MAX_INT < value < MAX_INT or value == 0:
            raise Malformed("an integer at its default or not below 2^53")
    elif value is not True:
        raise Malformed("null, false or a number that is not an integer")
