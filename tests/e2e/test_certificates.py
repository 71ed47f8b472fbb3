"""An erasure is certified by the log itself, consumers confirm it, and a site leaves as a tar that verifies."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from ledger import spool
from ledger.administration import Who
from ledger.config import Settings
from ledger.core.admin_act import admin_log_of
from ledger.core.erasing import evidence_of
from ledger.core.errors import ConfigInvalid, InputRefused
from ledger.http.app import create_app
from ledger.http.server import serving
from ledger.keys.files import founding_key
from tests.checkpointing import checkpoint
from tests.conftest import Database
from tests.e2e.conftest import Shop
from tests.harness import grant, new_visitor, now_ms, refusal

ERASURE = "01980000-0000-7000-8000-000000000001"
EVIDENCE, ANOTHER = sha256(b"a request").digest(), sha256(b"another one").digest()


_GREW = """
select c.size <= (select max(e.seq) from ledger.entry e where e.site_id = c.site_id)
  from ledger.checkpointer c join ledger.site s using (site_id) where s.site = $1
"""


class Server:
    """The shop's server: `call` gives status, headers and body."""

    def __init__(self, session: aiohttp.ClientSession, url: str, shop: Shop) -> None:
        self._session, self.url, self.shop = session, url, shop

    async def call(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any, bytes]:
        url = self.url + (path if path.startswith("/") else f"/v1/sites/{self.shop.site.site}/{path}")
        headers = {"Authorization": f"Bearer {key or self.shop.credentials.secret}"}
        async with self._session.request(method, url, json=body, headers=headers) as response:
            return response.status, response.headers, await response.read()


@asynccontextmanager
async def served(shop: Shop, settings: Settings) -> AsyncIterator[Server]:
    app = create_app(shop.service, settings, CollectorRegistry())
    async with serving(app, "127.0.0.1", 0) as (host, port), aiohttp.ClientSession() as session:
        yield Server(session, f"http://{host}:{port}", shop)


@pytest_asyncio.fixture
async def server(shop: Shop, settings: Settings) -> AsyncIterator[Server]:
    async with served(shop, settings) as server:
        yield server


async def sign(shop: Shop, settings: Settings) -> None:
    """What a checkpointer does, for both logs of the site."""
    for name in (shop.site.site, admin_log_of(shop.site.site)):
        if not await shop.pool.fetchval(_GREW, name):
            continue
        key = founding_key(settings, f"{settings.origin_prefix}/{name}", "log")
        await checkpoint(settings.database_url, name, key)


async def order(database: Database, shop: Shop, by: int | None, events: int, **columns: Any) -> None:
    """The rows of an order, carried out by the entry `by` (None: still pending)."""
    row = {
        "site_id": shop.site.site_id,
        "id": UUID(ERASURE),
        "is_account": False,
        "level": "erase",
        "reason": "subject_request",
        "sealed": b"",
        "evidence": EVIDENCE,
        "act": f"{shop.site.site}.admin-log:1",
        "status": "pending" if by is None else "erased",
        "requested_ms": now_ms() - 60_000,
        "blocked_ms": now_ms() - 60_000,
        "due_ms": now_ms(),
        "ended_ms": None if by is None else now_ms() + 1_000,
        "events": events,
    } | columns
    connection = await asyncpg.connect(database.admin_url)
    names = ", ".join(row)
    holes = ", ".join(f"${n + 1}" for n in range(len(row)))
    await connection.execute(f"insert into ledger.erasure ({names}) values ({holes})", *row.values())
    if by is not None:
        await connection.execute(
            "insert into ledger.erasure_entry (site_id, erasure, seq, events) values ($1, $2, $3, $4)",
            *(shop.site.site_id, row["id"], by, events),
        )
    await connection.close()


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    words = [sys.executable, "-m", "ledger", *map(str, arguments)]
    return subprocess.run(words, env=environ, cwd=cwd, capture_output=True, text=True, check=False)


async def test_an_erasure_is_certified_and_confirmed(
    shop: Shop, server: Server, settings: Settings, database: Database, tmp_path: Path
) -> None:
    visitor, other = new_visitor(), new_visitor()
    mine = [(await shop.record(grant(visitor=visitor))).receipt, (await shop.record(refusal(visitor=visitor))).receipt]
    theirs = (await shop.record(grant(visitor=other))).receipt
    left = (await shop.record(grant())).receipt
    who = Who("the operator", "operator")
    acting = shop.service.administration.acting(shop.site.site, who)
    key = await shop.service.consumers.add(shop.site, "warehouse", acting)
    another = await shop.service.consumers.add(shop.site, "crm", acting)

    path = f"erasures/{ERASURE}/certificate"
    assert (await server.call("GET", path))[0] == 404
    seqs = sorted(receipt.seq for receipt in (*mine, theirs))
    entry = await shop.erase(seqs, evidence=evidence_of((EVIDENCE, ANOTHER)))
    await order(database, shop, entry, 2)
    await order(database, shop, entry, 1, id=UUID(ERASURE[:-1] + "7"), evidence=ANOTHER)
    await order(database, shop, None, 0, id=UUID(ERASURE[:-1] + "8"))
    assert (await server.call("GET", f"erasures/{ERASURE[:-1]}8/certificate"))[0] == 409
    assert (await server.call("GET", path))[0] == 503  # no checkpoint covers it
    await sign(shop, settings)

    status, headers, token = await server.call("GET", path)
    assert (status, headers["Content-Type"]) == (200, "application/jose"), token
    files = {"certificate": token, "jwks": (await server.call("GET", "/.well-known/jwks.json"))[2]}
    for name, receipt in (("mine", mine[0]), ("left", left)):
        files[name] = msgspec.json.encode(receipt)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    pins = ("--log-vkey", shop.credentials.log_vkey, "--jwks", tmp_path / "jwks")
    verified = await asyncio.to_thread(
        command, "certificate", "verify", tmp_path / "certificate", *pins, "--receipt", tmp_path / "mine"
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "warehouse    has NOT confirmed" in verified.stdout
    assert visitor not in verified.stdout
    not_mine = await asyncio.to_thread(
        command, "certificate", "verify", tmp_path / "certificate", *pins, "--receipt", tmp_path / "left", "--json"
    )
    assert not_mine.returncode == 1
    assert json.loads(not_mine.stdout)["verdict"] == "failed"
    assert b"VERIFIED" in (await server.call("GET", f"{path}?format=text"))[2]

    async def confirm(position: int, by: str) -> tuple[int, Any]:
        body = {"consumer": "warehouse", "position": f"{shop.site.site}:{position}"}
        answer = await server.call("POST", "erasures:confirm", body, by)
        return answer[0], json.loads(answer[2])

    assert (await confirm(entry, another))[0] == 422
    assert (await confirm(entry + 1, key))[0] == 422
    (found,) = [one for one in await shop.service.consumers.all(shop.site) if one.name == "warehouse"]
    assert found.next_seq == entry
    assert (await confirm(entry, key))[1]["position"] == f"{shop.site.site}:{entry}"
    assert (await confirm(1, key))[1]["position"] == f"{shop.site.site}:{entry}"  # what is confirmed stays so
    again = (await server.call("GET", f"{path}?format=text"))[2].decode()
    assert "warehouse    has confirmed" in again
    assert "crm          has NOT confirmed" in again
    await shop.service.consumers.remove(shop.site, "crm", acting)
    assert "crm" not in (await server.call("GET", f"{path}?format=text"))[2].decode()


async def test_evidence_that_the_records_are_not_made_of_is_never_certified(
    shop: Shop, server: Server, settings: Settings, database: Database
) -> None:
    receipt = (await shop.record(grant())).receipt
    entry = await shop.erase([receipt.seq], evidence=evidence_of((ANOTHER,)))
    await order(database, shop, entry, 1)
    await sign(shop, settings)
    status, _, body = await server.call("GET", f"erasures/{ERASURE}/certificate")
    assert status == 503
    assert b"evidence" in body


async def test_a_whole_site_leaves_as_a_tar_that_verifies(
    shop: Shop, server: Server, settings: Settings, database: Database, tmp_path: Path
) -> None:
    receipts = [(await shop.record(grant())).receipt for _ in range(3)]
    entry = await shop.erase([receipts[0].seq], evidence=evidence_of((EVIDENCE,)))
    await order(database, shop, entry, 1)
    url = json.loads((await server.call("POST", "downloads", {"what": "site"}))[2])["url"]
    fetching = asyncio.create_task(server.call("GET", url.removeprefix(server.url)))
    while not fetching.done():  # that the file was fetched is an act, which a checkpoint has to cover too
        await sign(shop, settings)
        await asyncio.wait([fetching], timeout=0.2)
    status, headers, body = await fetching
    assert status == 200, body
    assert headers["Content-Type"] == "application/x-tar"
    assert spool.left() == []
    with tarfile.open(fileobj=BytesIO(body)) as tar:
        assert tar.getnames()[0] == "README.txt"
        tar.extractall(tmp_path, filter="data")
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    sums = subprocess.run(check, cwd=tmp_path, capture_output=True, check=False)
    assert sums.returncode == 0, sums.stdout
    commands = [
        line.strip().replace("/ID.jws", f"/{ERASURE}.jws").split()
        for line in (tmp_path / "README.txt").read_text().splitlines()
        if line.strip().startswith("consent-ledger ")
    ]
    assert len(commands) == 4
    for words in commands:
        if "--admin" in words:
            continue  # the orders of this test were written past the ledger
        done = await asyncio.to_thread(command, *words[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_a_name_for_two_consumers_and_a_name_that_is_none_are_refused(shop: Shop) -> None:
    acting = shop.service.administration.acting(shop.site.site, Who("the operator", "operator"))
    await shop.service.consumers.add(shop.site, "warehouse", acting)
    with pytest.raises(ConfigInvalid, match="already"):
        await shop.service.consumers.add(shop.site, "warehouse", acting)
    with pytest.raises(ConfigInvalid, match="1 to 64"):
        await shop.service.consumers.add(shop.site, "the warehouse", acting)
    with pytest.raises(InputRefused):
        await shop.service.consumers.confirm(shop.site, "nobody", "sk_x", 1, acting)
