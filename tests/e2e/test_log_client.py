"""Reading a log over HTTP, from servers that are honest, slow, broken, endless or guarded."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio

from ledger import log_client
from ledger.core.errors import ConfigInvalid, LogGuarded, LogUnreachable, Malformed
from ledger.core.heads import Pins
from ledger.core.merkle import HASH_BYTES
from ledger.core.note import MAX_CHECKPOINT_BYTES
from ledger.core.tile import ENTRIES, Tile, decode_bundle, encode_bundle
from ledger.log_client import HttpSource, LogClient, check_key, check_url, open_session
from ledger.verify import Report, verify
from tests.logbuilder import LogBuilder, full_log
from tests.logserver import LogServer, endless, silent, truncated, with_headers


class At(NamedTuple):
    log: LogBuilder
    server: LogServer
    client: LogClient


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_client, "LOG_CLIENT_RETRY_PAUSES_SECONDS", (0.01, 0.01, 0.0))


@pytest_asyncio.fixture
async def at() -> AsyncIterator[At]:
    log = full_log(600)
    async with LogServer(log) as server, open_session() as session:
        yield At(log, server, LogClient(session, server.url))


async def test_reads_checkpoint_tiles_and_bundles_byte_for_byte(at: At) -> None:
    assert await at.client.checkpoint() == at.log.checkpoint().encode()
    assert await at.client.tile(Tile(0, 1)) == b"".join(at.log.leaves[256:512])
    assert decode_bundle(await at.client.tile(Tile(ENTRIES, 0)) or b"", 256) == at.log.entries[:256]
    rest = len(at.log.entries) - 512
    assert decode_bundle(await at.client.tile(Tile(ENTRIES, 2, rest)) or b"", rest) == at.log.entries[512:]
    assert await at.client.tile(Tile(0, 9)) is None


async def test_a_partial_tile_that_is_gone_is_cut_from_the_full_one(at: At) -> None:
    at.server.lies = {"tile/0/000.p/7": 404, "tile/entries/000.p/7": 410}
    assert await at.client.tile(Tile(0, 0, 7)) == b"".join(at.log.leaves[:7])
    assert await at.client.tile(Tile(ENTRIES, 0, 7)) == encode_bundle(at.log.entries[:7])


async def test_a_log_without_a_checkpoint_is_unreachable(at: At) -> None:
    at.server.lies = {"checkpoint": 404}
    with pytest.raises(LogUnreachable, match="is this the URL of a log"):
        await at.client.checkpoint()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_answer_that_may_pass_is_asked_for_again(at: At, status: int) -> None:
    at.server.lies = {"checkpoint": status}
    with pytest.raises(LogUnreachable, match=f"answered {status}, 3 times"):
        await at.client.checkpoint()
    assert at.server.requests["checkpoint"] == at.client.requests == 3


async def test_the_server_says_when_to_come_again(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(log_client.asyncio, "sleep", sleep)
    at.server.lies = {"checkpoint": with_headers(b"", 503, Retry_After="3600")}
    with pytest.raises(LogUnreachable):
        await at.client.checkpoint()
    assert pauses == [10.0, 10.0]


@pytest.mark.parametrize("status", [400, 405, 418, 204])
async def test_an_answer_that_will_not_pass_is_not_asked_for_again(at: At, status: int) -> None:
    at.server.lies = {"checkpoint": status}
    with pytest.raises(LogUnreachable, match=f"answered {status}"):
        await at.client.checkpoint()
    assert at.client.requests == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_guarded_bundles_ask_for_a_key(at: At, status: int) -> None:
    at.server.lies = {"tile/entries/000": status}
    with pytest.raises(LogGuarded, match="scope `audit`, by --key-file"):
        await at.client.tile(Tile(ENTRIES, 0))


async def test_the_key_travels_in_the_header_and_nowhere_else(at: At) -> None:
    async with open_session("sk_1234") as session:
        await LogClient(session, at.server.url).checkpoint()
    assert at.server.headers[-1]["Authorization"] == "Bearer sk_1234"


async def test_redirects_are_not_followed_lest_they_carry_the_key_away(at: At) -> None:
    async with LogServer(at.log) as other:
        moved = with_headers(b"", 302, Location=f"{other.url}/checkpoint")
        at.server.lies = {"checkpoint": moved}
        with pytest.raises(LogUnreachable, match="redirects to"):
            await at.client.checkpoint()
        assert other.count() == 0


async def test_an_endless_body_ends_at_its_bound(at: At) -> None:
    at.server.lies = {"checkpoint": endless(), "tile/0/000": endless()}
    with pytest.raises(Malformed, match=f"larger than {MAX_CHECKPOINT_BYTES} bytes"):
        await at.client.checkpoint()
    with pytest.raises(Malformed, match=f"larger than {256 * HASH_BYTES} bytes"):
        await at.client.tile(Tile(0, 0))


async def test_a_body_cut_short_is_asked_for_again_and_never_believed(at: At) -> None:
    whole = at.log.checkpoint().encode()
    at.server.lies = {"checkpoint": truncated(whole, len(whole) - 5)}
    with pytest.raises(LogUnreachable, match="the connection failed"):
        await at.client.checkpoint()
    assert at.client.requests == 3
    at.server.lies = {}
    assert await at.client.checkpoint() == whole


async def test_a_server_that_never_answers_is_given_up(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_client, "LOG_CLIENT_TIMEOUT_SECONDS", 0.2)
    at.server.lies = {"checkpoint": silent()}
    async with open_session() as session:
        with pytest.raises(LogUnreachable, match="no answer in time"):
            await LogClient(session, at.server.url).checkpoint()


async def test_nobody_at_the_port_is_unreachable(at: At) -> None:
    await at.server.stop()
    with pytest.raises(LogUnreachable, match="the connection failed"):
        await at.client.checkpoint()


async def test_gzip_is_read_within_the_bound_of_what_it_unfolds_to(at: At) -> None:
    bundle = encode_bundle(at.log.entries[:256])
    packed = with_headers(gzip.compress(bundle), Content_Encoding="gzip")
    bomb = with_headers(gzip.compress(bytes(64 * 1024 * 1024)), Content_Encoding="gzip")
    at.server.lies = {"tile/entries/000": packed, "tile/0/000": bomb}
    assert await at.client.tile(Tile(ENTRIES, 0)) == bundle
    with pytest.raises(Malformed, match="larger than 8192 bytes"):
        await at.client.tile(Tile(0, 0))


@pytest.mark.parametrize("spoil", [lambda data: data[:-3], lambda data: data + b"x", lambda data: b"x" + data])
async def test_broken_gzip_is_never_believed(at: At, spoil: object) -> None:
    assert callable(spoil)
    packed = spoil(gzip.compress(b"".join(at.log.leaves[:256])))
    at.server.lies = {"tile/0/000": with_headers(packed, Content_Encoding="gzip")}
    with pytest.raises(LogUnreachable, match="gzip"):
        await at.client.tile(Tile(0, 0))


async def test_an_encoding_nobody_asked_for_is_refused(at: At) -> None:
    at.server.lies = {"tile/0/000": with_headers(b"x", Content_Encoding="br")}
    with pytest.raises(LogUnreachable, match="encoding"):
        await at.client.tile(Tile(0, 0))


@pytest.mark.parametrize(
    "url",
    ["ftp://h/logs", "/logs/shop", "https://", "http://u:p@h/logs", "http://h/logs?x=1", "http://h/#a", "http://h:x/"],
)
def test_what_is_no_url_of_a_log_is_refused(url: str) -> None:
    with pytest.raises(ConfigInvalid):
        check_url(url)


def test_a_key_is_one_line() -> None:
    assert check_key("sk_abc\n") == "sk_abc"
    for text in ("", "two words", "two\nlines", "k\u00e9y"):
        with pytest.raises(ConfigInvalid):
            check_key(text)


# --- as a bundle ------------------------------------------------------------------------------------------------------


async def _verify(server: LogServer, log: LogBuilder) -> Report:
    def work() -> Report:
        with HttpSource(server.url) as source:
            return verify(source, Pins(log.log_vkey, log.log_id), processes=1)

    return await asyncio.to_thread(work)


async def test_verify_reads_a_log_over_http_and_finds_the_log_only(at: At) -> None:
    report = await _verify(at.server, at.log)
    assert report.verdict == "log only"
    assert report.exit_code == 3
    assert report.size == len(at.log.entries)
    assert max(at.server.requests.values()) == 1, "each file is fetched once"


async def test_verify_over_http_names_the_tile_that_does_not_match(at: At) -> None:
    at.server.lies = {"tile/0/001": os.urandom(8192)}
    report = await _verify(at.server, at.log)
    assert report.exit_code == 1
    assert [fault.detail for fault in report.faults] == ["tile/0/001 does not hold the hashes of the entries"]


async def test_a_bundle_too_large_to_be_fetched_ahead_is_read_when_it_is_its_turn(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_client, "LOG_CLIENT_AHEAD_MAX_BYTES", 1000)
    report = await _verify(at.server, at.log)
    assert report.exit_code == 3


async def test_verify_could_not_run_where_bundles_are_guarded(at: At) -> None:
    at.server.lies = {"tile/entries/000": 401}
    with pytest.raises(LogGuarded):
        await _verify(at.server, at.log)


async def test_tiles_are_fetched_ahead_several_at_a_time(at: At) -> None:
    waiting = 0
    together = asyncio.Event()

    async def hold(request: object) -> object:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            together.set()
        await asyncio.wait_for(together.wait(), 60)
        from aiohttp import web

        return web.Response(body=encode_bundle(at.log.entries[256:512] if "001" in str(request) else rest))

    rest = at.log.entries[512:]
    at.server.lies = {"tile/entries/001": hold, f"tile/entries/002.p/{len(rest)}": hold}  # type: ignore[dict-item]
    report = await _verify(at.server, at.log)
    assert report.exit_code == 3
