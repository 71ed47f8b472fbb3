"""Reading bodies, bounded in size and time, and messages out of them. Forms and multipart are not read at all."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, TypeVar

from aiohttp import hdrs, web

from ledger.core.errors import InputRefused
from ledger.core.event import convert, parse_json
from ledger.http.edge import EDGE

JSON_TYPES = frozenset({"application/json"})

Message = TypeVar("Message")


async def read_body(request: web.Request, types: Collection[str], max_bytes: int, timeout_seconds: float) -> bytes:
    """The whole body, refused if it is of another content type, encoded, beyond the bound or too slow."""
    check_content(request, types, max_bytes)
    content = request.content
    if content.is_eof():
        # It came with its headers, as nearly all events do: no timer is needed.
        body = content.read_nowait()
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        return body
    collected = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            while chunk := await content.readany():
                collected += chunk
                if len(collected) > max_bytes:
                    raise too_large(max_bytes)
    except TimeoutError as error:
        raise too_slow(timeout_seconds) from error
    return bytes(collected)


async def read_message(request: web.Request, kind: type[Message], max_bytes: int, problem: str) -> Message:
    """The JSON body as a message; `problem` is the kind of `InputRefused` for one that has not its form."""
    data = await read_body(request, JSON_TYPES, max_bytes, request.app[EDGE].limits.body_read_timeout_seconds)
    value: Any = parse_json(data)
    try:
        return convert(value, kind)
    except InputRefused as error:
        raise InputRefused(problem, error.detail, error.pointer) from error


def check_content(request: web.Request, types: Collection[str], max_bytes: int) -> None:
    """Refuse by headers alone what the body cannot be."""
    headers = request.headers
    sent = headers.get(hdrs.CONTENT_TYPE, "")
    if sent not in types:
        media_type, _, parameters = sent.partition(";")
        charset = parameters.strip().lower()
        if media_type.strip().lower() not in types or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
            raise InputRefused("unsupported-media-type", f"Send the body as {' or '.join(sorted(types))}, in UTF-8.")
    if headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise InputRefused("unsupported-media-type", "Send the body without Content-Encoding.")
    if (request.content_length or 0) > max_bytes:
        raise too_large(max_bytes)


def too_large(max_bytes: int) -> InputRefused:
    return InputRefused("body-too-large", f"The body may have at most {max_bytes} bytes.")


def too_slow(timeout_seconds: float) -> InputRefused:
    return InputRefused("body-timeout", f"The body has to arrive within {timeout_seconds:g} seconds.")
