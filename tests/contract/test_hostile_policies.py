"""Hostile site documents, sent to a running server: refused with a problem that helps, and nothing is published."""

from __future__ import annotations

import asyncio
import gzip
import io
from typing import Any
from urllib.parse import urlsplit

import pytest

from ledger.config import POLICY_BODY_MAX_BYTES
from tests.contract.conftest import SITE, Api, Client
from tests.contract.test_events import assert_problem
from tests.documents import FULL, MALFORMED, SMALL, Malformed, changed, encoded
from tests.hostile import HOSTILE, YAML, Hostile

CHUNK = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
CHUNKS = 800
"""50 MB in all."""


async def put(client: Client, data: bytes, media_type: str = "application/yaml", **headers: str) -> Any:
    sent = {"Content-Type": media_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.call("PUT", "policy", key=client.api.secret, data=io.BytesIO(data), headers=sent)


@pytest.mark.parametrize("hostile", HOSTILE, ids=[one.name for one in HOSTILE])
async def test_it_is_refused_and_the_server_goes_on(client: Client, hostile: Hostile) -> None:
    data = hostile.make()
    before = (await client.call("GET", "policy")).body
    answer = await put(client, data)
    if len(data) > POLICY_BODY_MAX_BYTES:
        assert_problem(answer, 413, "body-too-large")
    else:
        assert_problem(answer, 422, "invalid-document")
        assert hostile.says in answer.json["detail"]
    assert len(answer.body) < 5_000
    assert (await client.call("GET", "policy")).body == before


async def test_fifty_megabytes_without_a_length_are_not_read_to_their_end(api: Api) -> None:
    url = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(
        f"PUT /v1/sites/{SITE}/policy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.secret}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    told = asyncio.create_task(reader.readuntil(b"\r\n"))
    sent = 0
    while not told.done() and sent < CHUNKS:
        writer.write(CHUNK)
        await writer.drain()
        await asyncio.sleep(0)
        sent += 1
    assert (await asyncio.wait_for(told, 30)).startswith(b"HTTP/1.1 413")
    assert sent < CHUNKS
    writer.close()


@pytest.mark.parametrize(
    ("media_type", "headers"),
    [
        ("application/json; charset=utf-16", {}),
        ("application/yaml; charset=latin-1", {}),
        ("application/yaml", {"Content_Encoding": "gzip"}),
        ("text/html", {}),
        ("multipart/form-data; boundary=x", {}),
    ],
)
async def test_what_calls_itself_something_else_is_not_read(
    client: Client, media_type: str, headers: dict[str, str]
) -> None:
    data = gzip.compress(b"a" * 50_000_000) if headers else YAML.encode()
    assert_problem(await put(client, data, media_type, **headers), 415, "unsupported-media-type")


# A type of event has a dot in its own name, so that its path alone does not tell the pointer.
SOME_MALFORMED = [m for m in MALFORMED if not m.path.startswith("recordRetentionOf.")][::7]


@pytest.mark.parametrize("malformed", SOME_MALFORMED, ids=[m.path for m in SOME_MALFORMED])
async def test_a_malformed_document_is_answered_with_a_pointer_into_it(client: Client, malformed: Malformed) -> None:
    document = changed(FULL, ("site", SITE), *malformed.changes)
    answer = await put(client, encoded(document), "application/json")
    assert_problem(
        answer, 422, "invalid-document", "/" + malformed.path.replace("[", "/").replace("]", "").replace(".", "/")
    )
    assert answer.json["detail"].startswith(f"{malformed.path}: ")


async def test_a_pointer_escapes_what_a_name_may_hold(client: Client) -> None:
    answer = await put(client, encoded(changed(SMALL, ("a~b", 1))))
    assert_problem(answer, 422, "invalid-document", "/a~0b")
    answer = await put(client, b'{"a/b": 1}')
    assert_problem(answer, 422, "invalid-document", "/a~1b")
