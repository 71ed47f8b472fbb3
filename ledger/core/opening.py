"""Openings as lines of `payloads.ndjson` (SPEC.md, "Bundles"): written in one form, read strictly.

Whether an opening fits its entry is judged in core/chunk.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from msgspec import Struct

from ledger.core.encoding import MAX_INT, decode_base64
from ledger.core.errors import Malformed

MAX_LINE_BYTES = 131_072 + 1
"""With its newline; far above any payload in base64, and what SPEC.md demands of readers. A longer line is none."""

_SEQ = re.compile(rb'\s*\{\s*"seq"\s*:\s*(0|[1-9][0-9]{0,15})\s*,')


class Opening(Struct, frozen=True, forbid_unknown_fields=True):
    """Salt and payload of the entry at `seq`; bytes are base64 in the line."""

    seq: int
    salt: bytes
    payload: bytes


_decoder = msgspec.json.Decoder(Opening)
_encoder = msgspec.json.Encoder()


def encode_line(opening: Opening) -> bytes:
    """`{"seq":…,"salt":"…","payload":"…"}` and a newline."""
    return _encoder.encode(opening) + b"\n"


def split_lines(lines: bytes) -> list[bytes]:
    """The lines of bytes that end with a newline, without their newlines; an empty line is one too."""
    return lines.split(b"\n")[:-1]


def decode_line(line: bytes) -> Opening:
    """An opening from one line, with or without its newline. White space and the order of members are free; a doubled
    or unknown member, or base64 that is not canonical, is `Malformed`."""
    line = line.rstrip(b"\r\n")
    if len(line) >= MAX_LINE_BYTES:
        raise Malformed(f"a line is longer than {MAX_LINE_BYTES} bytes")
    try:
        opening = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not an opening: {error}") from error
    if not 0 <= opening.seq < MAX_INT:
        raise Malformed("an opening's seq is from 0 to 2^53 - 1")
    if _encoder.encode(opening) != line:
        _check_members(line)
    return opening


def _check_members(line: bytes) -> None:
    """The slow way, for lines that another tool wrote: what the decoder lets pass beside the one form."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise Malformed("an opening with a doubled member")
        return dict(pairs)

    members = json.loads(line, object_pairs_hook=unique)
    decode_base64(members["salt"])
    decode_base64(members["payload"])


def peek_seq(line: bytes) -> int | None:
    """The seq of a line, from its beginning where it stands there; None if there is no readable one."""
    match = _SEQ.match(line)
    if match is not None:
        return int(match[1])
    try:
        return decode_line(line).seq
    except Malformed:
        return None
