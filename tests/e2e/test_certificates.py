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
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry

from ledger import spool
from ledger.administration import Who
from ledger.cli import main
from ledger.config import Settings
from ledger.core import jws
from ledger.core.admin_act import admin_log_of
from ledger.core.certificate import JWS_TYPE, decode_certificate
from ledger.core.encoding import decode_time
from ledger.core.errors import ConfigInvalid, InputRefused
from ledger.erasing.eraser import Eraser
from ledger.erasing.messages import ErasureInput
from ledger.http.app import create_app
from ledger.http.server import serving
from ledger.keys.files import founding_key
from ledger.site import SiteRegistry
from tests.checkpointing import checkpoint
from tests.conftest import Database
from tests.e2e.conftest import Shop
from tests.harness import grant, new_visitor, refusal

ERASURE = "01980000-0000-7000-8000-000000000001"


_GREW = """
select c.size <= (select max(e.seq) from ledger.entry e where e.site_id = c.site_id)
  from ledger.checkpointer c join ledger.site s using (site_id) where s.site = $1
"""


class Server:
    """The shop's server: `call` gives status, headers and body."""

    def __init__(self, session: aiohttp.ClientSession, url: str, shop: Shop) -> None:
        self._session, self.url, self.shop = session, url, shop

    async def call(
        self, method: str, path: str, body: Any = None, key: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        url = self.url + (path if path.startswith("/") else f"/v1/sites/{self.shop.site.site}/{path}")
        sent = {"Authorization": f"Bearer {key or self.shop.credentials.secret}", **(headers or {})}
        async with self._session.request(method, url, json=body, headers=sent) as response:
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


async def order(shop: Shop, visitor: str, erasure: str = ERASURE, **members: Any) -> None:
    request = ErasureInput("subject_request", "ticket-7", visitor=visitor, id=erasure, **members)
    await shop.service.erasures.order(shop.site, request, Who("counsel", "controller"))


async def carry_out(shop: Shop, settings: Settings) -> None:
    """What the eraser does, for all orders that wait."""
    await Eraser(settings, shop.pool).carry_out(shop.service.sites, shop.site)


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    words = [sys.executable, "-m", "ledger", *map(str, arguments)]
    return subprocess.run(words, env=environ, cwd=cwd, capture_output=True, text=True, check=False)


async def test_an_erasure_is_certified_and_confirmed(
    shop: Shop, server: Server, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor, other = new_visitor(), new_visitor()
    mine = [(await shop.record(grant(visitor=visitor))).receipt, (await shop.record(refusal(visitor=visitor))).receipt]
    await shop.record(grant(visitor=other))
    left = (await shop.record(grant())).receipt
    who = Who("the operator", "operator")
    acting = shop.service.administration.acting(shop.site.site, who)
    key = await shop.service.consumers.add(shop.site, "warehouse", acting)
    another = await shop.service.consumers.add(shop.site, "crm", acting)

    kept = replace(settings, backup_keep="35d")
    monkeypatch.setattr(SiteRegistry, "settings", property(lambda sites: kept))
    path = f"erasures/{ERASURE}/certificate"
    assert (await server.call("GET", path))[0] == 404
    await order(shop, visitor, evidence=sha256(b"a request").hexdigest())
    await order(shop, other, ERASURE[:-1] + "7")
    assert (await server.call("GET", path))[0] == 409  # it waits
    exported = await server.call("GET", "export", headers={"Consent-Visitor": visitor})
    assert (exported[0], json.loads(exported[2])["type"]) == (410, "urn:consent-ledger:problem:visitor-erased")
    assert (await server.call("POST", "downloads", {"what": "person", "visitor": visitor}))[0] == 410
    await carry_out(shop, settings)
    entry = await shop.size() - 1
    assert (await server.call("GET", "export", headers={"Consent-Visitor": visitor}))[0] == 410
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
    told = decode_certificate(jws.parse(token.strip(), JWS_TYPE).payload)
    assert decode_time(told.backups_until or "") == decode_time(told.erased_at) + 35 * 86_400_000
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


async def test_what_the_log_does_not_bear_out_is_never_certified(
    shop: Shop, server: Server, settings: Settings, database: Database
) -> None:
    visitor = new_visitor()
    await shop.record(grant(visitor=visitor))
    await order(shop, visitor)
    await carry_out(shop, settings)
    await sign(shop, settings)
    status, _, token = await server.call("GET", f"erasures/{ERASURE}/certificate")
    assert status == 200, token
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute("update ledger.erasure set evidence = sha256('another')")
    await connection.close()
    status, _, body = await server.call("GET", f"erasures/{ERASURE}/certificate")
    assert status == 503
    assert b"evidence" in body


async def test_a_whole_site_leaves_as_a_tar_that_verifies(
    shop: Shop, server: Server, settings: Settings, tmp_path: Path
) -> None:
    visitor = new_visitor()
    for event in (grant(visitor=visitor), grant(), refusal()):
        await shop.record(event)
    await order(shop, visitor)
    await carry_out(shop, settings)
    url = json.loads((await server.call("POST", "downloads", {"what": "site"}))[2])["url"]
    fetching = asyncio.create_task(server.call("GET", url.removeprefix(server.url)))
    while not fetching.done():  # that the file was fetched is an act, which a checkpoint has to cover too
        await sign(shop, settings)
        await asyncio.wait([fetching], timeout=0.2)
    status, headers, body = await fetching
    assert status == 200, body
    assert headers["Content-Type"] == "application/x-tar"
    assert spool.left() == []
    assert visitor.encode() not in body
    with tarfile.open(fileobj=BytesIO(body)) as tar:
        assert tar.getnames()[0] == "README.txt"
    untarred = await asyncio.to_thread(subprocess.run, ["tar", "-x"], cwd=tmp_path, input=body, check=False)
    assert untarred.returncode == 0
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    sums = await asyncio.to_thread(subprocess.run, check, cwd=tmp_path, capture_output=True, check=False)
    assert sums.returncode == 0, sums.stdout
    commands = [
        line.strip().replace("/ID.jws", f"/{ERASURE}.jws").split()
        for line in (tmp_path / "README.txt").read_text().splitlines()
        if line.strip().startswith("consent-ledger ")
    ]
    assert len(commands) == 4
    for words in commands:
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


async def test_the_commands_do_what_the_server_does(shop: Shop, settings: Settings, tmp_path: Path) -> None:
    visitor = new_visitor()
    await shop.record(grant(visitor=visitor))
    await sign(shop, settings)
    site = shop.site.site

    async def run(*words: str, fed: str = "") -> Result:
        running = asyncio.create_task(
            asyncio.to_thread(CliRunner(env=settings.environment()).invoke, main, words, input=fed)
        )
        while not running.done():  # each act wants a checkpoint over it before the site leaves whole
            await sign(shop, settings)
            await asyncio.wait([running], timeout=0.2)
        return await running

    added = await run("consumer", "add", site, "warehouse", "--as", "operator", "--instruction", "ticket 1")
    assert added.stdout.startswith("sk_"), added.stderr
    listed = await run("consumer", "list", site, "--json", "--check")
    assert (listed.exit_code, [one["name"] for one in json.loads(listed.stdout)]) == (0, ["warehouse"])
    assert (await run("consumer", "remove", site, "warehouse")).exit_code == 0
    told = await run("export-person", site, str(tmp_path / "person.json"), fed=visitor)
    assert told.exit_code == 0, told.stderr
    export = json.loads((tmp_path / "person.json").read_text())
    assert (export["visitor"], len(export["events"])) == (visitor, 1)
    assert "proof" in export["events"][0]["receipt"]
    assert (tmp_path / "person.json").stat().st_mode & 0o777 == 0o600
    nobody = await run("export-person", site, "-", fed=new_visitor())
    assert (nobody.exit_code, "nothing is on record under this id" in nobody.stderr) == (0, True)
    page = await run("export-person", site, "-", "--format", "html", "--language", "kk", fed=visitor)
    assert '<html lang="kk">' in page.stdout
    assert (await run("export-person", site, str(tmp_path / "person.json"), fed=visitor)).exit_code == 2
    whole = await run("export", "--whole", site, str(tmp_path / "site.tar.gz"))
    assert whole.exit_code == 0, whole.stderr
    with tarfile.open(tmp_path / "site.tar.gz") as tar:
        assert {"README.txt", "SHA256SUMS", "log/checkpoint", "admin-log/checkpoint"} <= set(tar.getnames())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(spool.PREFIX)] == []
