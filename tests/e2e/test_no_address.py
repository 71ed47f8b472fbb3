"""No address of a visitor is left anywhere: a server is posted to from known ones, and what it wrote is searched."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import asyncpg

from ledger.config import Settings
from ledger.embedded.nats import Nats
from ledger.embedded.postgres import Postgres
from tests.conftest import Database
from tests.harness import Browser, Process, check_stream, found, grant, refusal
from tests.locations import write_locations

V4, V6, PROXY_SAID = "5.34.113.207", "2a00:5da0:77ab:3c91::c0de", "88.198.211.137"
BEGUN = {"visitor": "v" * 43, "kind": "access"}
NEEDLES = (
    *(text.encode() for text in (V4, V6, PROXY_SAID, ipaddress.ip_address(V6).exploded)),
    ipaddress.ip_address(V6).packed,
)


def hits(data: bytes) -> list[bytes]:
    """What of the addresses is in some bytes: as it is, or in hexadecimal."""
    return [needle for needle in NEEDLES if needle in data or needle.hex().encode() in data]


def files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


async def test_no_address_is_kept_logged_counted_or_published(
    database: Database, settings: Settings, nats: Nats, postgres: Postgres, tmp_path: Path
) -> None:
    locations = write_locations(tmp_path / "places.mmdb")
    settings = replace(
        settings, nats_url=nats.url, trusted_proxies="127.0.0.1", region_header="X-Region", geoip_db=locations
    )
    site = await found(settings)
    answers: list[bytes] = []
    written = tmp_path / "server"
    written.mkdir()
    async with aiohttp.ClientSession() as session, Process(settings, written) as server:
        browser = Browser(session, server.url, site)
        for address in (V4, V6, f"{V6}, {V4}", f"{V4}:4711", f"[{V6}]:443", f"{PROXY_SAID}, nonsense"):
            for told in ({"X-Forwarded-For": address}, {"Forwarded": f'for="{address}"'}):
                headers = {"Authorization": f"Bearer {site.publishable}", **told}
                url = f"{server.url}/v1/sites/{site.site}"
                for event in (grant(), refusal(), grant(policyVersion="9.9"), {"visitor": V4}, []):
                    async with session.post(f"{url}/events", json=event, headers=headers) as response:
                        answers.append(await response.read() if response.status != 422 else b"")
                visitor = {"Consent-Visitor": grant()["visitor"]}
                for call in ("consent", "consent?at=x", "nowhere"):
                    async with session.get(f"{url}/{call}", headers=headers | visitor) as response:
                        answers.append(await response.read())
                async with session.post(f"{url}/requests", json=BEGUN, headers=headers) as response:
                    answers.append(await response.read())
                async with session.post(f"{url}/cookies:observed", json={"names": ["a"]}, headers=headers) as response:
                    answers.append(await response.read())
        _send(server.url, f"GET / HTTP/9.9\r\nX-Forwarded-For: {V4}\r\n\r\n")
        _send(server.url, f"NONSENSE {V6}\r\nForwarded: for={V4}\r\n\r\n")
        async with session.get(f"{server.url}/metrics") as response:
            metrics = await response.text()
        assert 'consent_ledger_region_lookups_total{outcome="found"}' in metrics
        assert 'region_lookups_total{outcome="found"} 0.0' not in metrics
        await check_stream(nats.url, settings, site)
        assert (await browser.call("GET", "/readyz")).status == 200
        log = server.log
    assert hits(metrics.encode()) == []
    assert hits(log.encode()) == []
    assert hits(b"\n".join(answers)) == []
    assert [path for path in files(written, nats.data) if hits(path.read_bytes())] == []
    assert [table async for table in _tables(database) if hits(table[1])] == []
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("checkpoint")
    await admin.close()
    assert [path for path in files(postgres.data) if hits(_read(path))] == []
    assert hits(locations.read_bytes()) == []  # or the search would find what it brought along


def test_the_search_finds_what_is_there() -> None:
    assert hits(f"x{V4}y".encode()) == [V4.encode()]
    assert hits(V6.encode().hex().encode()) == [V6.encode()]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it went away meanwhile
        return b""


async def _tables(database: Database) -> AsyncIterator[tuple[str, bytes]]:
    connection = await asyncpg.connect(database.admin_url)
    names = await connection.fetch(
        "select relname from pg_class where relnamespace = 'ledger'::regnamespace and relkind = 'r'"
    )
    assert len(names) > 12
    for (name,) in names:
        rows = await connection.fetch(f"select t::text from ledger.{name} t")
        yield name, "\n".join(row[0] for row in rows).encode()
    await connection.close()


def _send(url: str, text: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(text.encode())
        connection.recv(65_536)
