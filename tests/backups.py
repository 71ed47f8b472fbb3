"""A ledger with a history, as tests of `restore` want it: a backup, then events and ten erasures, then it is gone.

Made once a module: what restores read of it, they leave as it is.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
from click.testing import CliRunner

from ledger import cli
from ledger.backup.journal import ErasureLine, Journal
from ledger.backup.load import judge
from ledger.backup.restore import restore
from ledger.backup.settle import Options
from ledger.bus import Bus
from ledger.config import Settings
from ledger.core.admin_act import admin_log_of
from ledger.core.note import Checkpoint, parse_checkpoint
from ledger.core.stream import names
from ledger.embedded.postgres import Postgres
from ledger.provision import SiteCredentials
from tests.conftest import admin
from tests.fault.streams import Broker
from tests.harness import Browser, Process, found, grant, new_visitor, own_postgres, own_settings, refusal, until

ERASED = 10


def quiet(done: int, total: int) -> None:
    """No progress to tell."""


class Story(NamedTuple):
    """What is left: the servers, the backup, what lies beside it, and who was whom."""

    directory: Path
    postgres: Postgres
    broker: Broker
    settings: Settings
    site: SiteCredentials
    backup: Path
    size: int
    erased: list[str]
    refused: str
    """One of the erased, who had said no."""
    living: list[str]
    later: str
    """Who came after the backup."""
    fleeting: str
    """Who came after it, and was erased before the end: no stream has the event any more."""
    last: str
    """Who refused after that."""
    hole: int
    """The seq of what is gone from the stream."""
    signed: Checkpoint

    @property
    def beside(self) -> Path:
        return self.directory / "backups"

    async def machine(self, name: str, *, nats: bool) -> tuple[Settings, str]:
        """An empty database and empty directories, and the URL of its superuser."""
        async with admin(self.postgres) as connection:
            await connection.execute(f"create database {name}")
        settings = replace(
            self.settings,
            database_url=self.postgres.url(name, user="shop", password="shop"),
            keys_dir=self.directory / name / "keys",
            nats_url=self.broker.url if nats else "",
            backup_dir=None,
        )
        return settings, self.postgres.url(name)

    async def restore(
        self, settings: Settings, admin_url: str, *, accept_loss: bool = False, file: Path | None = None, **options: Any
    ) -> list[str]:
        """What the command does; the lines that it told."""
        told: list[str] = []
        given = Options(options.get("beside", self.beside), accept_loss, "a test")
        with (file or self.backup).open("rb") as source:
            judged = judge(source, dict(settings.masters), quiet)
            await restore(settings, admin_url, judged, given, told.append)
        return told


async def command(settings: Settings, admin_url: str, *words: str) -> tuple[int, str]:
    """`consent-ledger …` in a thread, for it has a loop of its own; exit code and what it said."""
    environ = settings.environment() | {"LEDGER_ADMIN_DATABASE_URL": admin_url}
    done = await asyncio.to_thread(lambda: CliRunner().invoke(cli.main, words, env=environ))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


async def piped(settings: Settings, admin_url: str, *words: str, given: bytes) -> tuple[int, str]:
    """The same as a process of its own, with a pipe for standard input."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ledger", *words),
        env=environ | settings.environment() | {"LEDGER_ADMIN_DATABASE_URL": admin_url},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def erase(browser: Browser, visitors: Sequence[str]) -> None:
    """Order it, as a controller does; the worker carries it out."""
    for visitor in visitors:
        body = {"visitor": visitor, "reason": "subject_request", "instruction": "letter-of-the-controller"}
        reply = await browser.call("POST", "erasures", body, secret=True)
        assert reply.status == 202, reply


async def tell(directory: Path) -> Story:
    """Live it through; the caller stops the servers."""
    postgres = await own_postgres(directory)
    broker = Broker(directory / "nats")
    await broker.start()
    settings = replace(own_settings(postgres, directory, broker.url), backup_dir=directory / "backups")
    site = await found(settings)
    connection = await asyncpg.connect(postgres.url())
    size_of = "select max(seq) + 1 from ledger.entry e join ledger.site s using (site_id) where s.site = $1"
    async with Process(settings, directory) as server, aiohttp.ClientSession() as session:
        browser = Browser(session, server.url, site)
        visitors = [new_visitor() for _ in range(2 * ERASED)]
        refused = visitors[0]
        replies = [await browser.post(refusal(visitor=refused, policyVersion="1.0"))]
        replies += [await browser.post(grant(visitor=visitor)) for visitor in visitors]
        replies += [await browser.post(refusal(visitor=refused, policyVersion="1.0"))]
        assert [reply.status for reply in replies] == [201] * len(replies), replies
        await covered(browser, site, replies[-1].json["seq"] + 1)
        status, told = await command(settings, postgres.url(), "backup", "--as", "a test")
        assert status == 0, told
        (backup,) = (directory / "backups").glob("*.backup")
        size = await connection.fetchval(size_of, site.site)
        later, fleeting, last = (new_visitor() for _ in range(3))
        bus = await Bus.connect(broker.url)

        async def published(seq: int) -> bool:
            info = await bus.stream_info(names(site.site).stream, names(site.site).tombstones)
            return info is not None and info.state.last_seq >= seq

        assert (await browser.post(grant(visitor=later))).status == 201
        hole: int = (await browser.post(grant(visitor=fleeting))).json["seq"]
        await until(lambda: published(hole))
        await erase(browser, [*visitors[:ERASED], fleeting])

        async def gone() -> bool:
            lines = list(Journal(directory / "backups" / "erasures", ErasureLine).read())
            named = [seq for line in lines for seq, _ in line.positions()]
            return len(named) == ERASED + 2 + 1

        await until(gone)
        assert (await browser.post(refusal(visitor=last, policyVersion="1.0"))).status == 201
        now: int = await connection.fetchval(size_of, site.site)
        signed = await covered(browser, site, now)

        await until(lambda: published(now - 1))
        assert await bus.message(names(site.site).stream, hole) is None
        await bus.close()
    await connection.close()
    return Story(
        directory, postgres, broker, settings, site, backup, size, visitors[:ERASED], refused, visitors[ERASED:],
        later, fleeting, last, hole, signed,
    )  # fmt: skip


async def covered(browser: Browser, site: SiteCredentials, size: int) -> Checkpoint:
    """Wait until a checkpoint covers so many entries."""
    found: list[Checkpoint] = []

    async def covers() -> bool:
        reply = await browser.call("GET", f"/logs/{site.site}/checkpoint")
        found[:] = [parse_checkpoint(reply.json.encode())]
        return found[0].size >= size

    await until(covers)
    return found[0]


async def verified(settings: Settings, site: SiteCredentials, directory: Path, *words: str) -> dict[str, Any]:
    """The report of `verify` on exports of now, with the administrative log beside it; a server has to run."""
    acts = directory.with_name(f"{directory.name}-acts")
    for log, to in ((site.site, directory), (admin_log_of(site.site), acts)):
        status, told = await command(settings, "", "export", log, str(to), "--wait", "60")
        assert status == 0, told
    pins = ("--log-vkey", site.log_vkey, "--log-id", site.log_id, "--admin", str(acts))
    _, told = await command(settings, "", "verify", str(directory), *pins, "--json", *words)
    report: dict[str, Any] = json.loads(told)
    return report
