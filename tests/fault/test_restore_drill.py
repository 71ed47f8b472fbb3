"""The restore drill: Postgres put back behind the last signed checkpoint, then NATS, then both.

Each time the checkpointer refuses to sign and says what happened, and deploy/runbooks/older-copy.md tells the way out,
which is gone here step by step with the commands that it names. Copies are of stopped servers, as cold backups are.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from ledger.bus import Bus
from ledger.config import Settings
from ledger.core.note import Checkpoint, parse_checkpoint
from ledger.core.stream import names
from ledger.embedded.ports import free_port
from ledger.embedded.postgres import Postgres
from ledger.provision import SiteCredentials
from tests.fault.keys import command
from tests.fault.streams import Broker
from tests.harness import Browser, Process, Reply, document, found, grant, own_postgres, own_settings, refusal, until

pytestmark = pytest.mark.slow

RUNBOOK = Path(__file__).resolve().parents[2] / "deploy" / "runbooks" / "older-copy.md"


class Ledger:
    """Postgres, NATS and one server of the test's own, each to be put back to an older copy."""

    def __init__(self, directory: Path, postgres: Postgres, broker: Broker, session: aiohttp.ClientSession) -> None:
        self.directory, self.postgres, self.broker, self.session = directory, postgres, broker, session
        self.settings: Settings = own_settings(postgres, directory, broker.url)
        self.server = Process(self.settings, directory)
        self.site: SiteCredentials

    @classmethod
    def copied(cls, ledger: Ledger, directory: Path, session: aiohttp.ClientSession) -> Ledger:
        """Another one at the same point, with the same cold backups; of a ledger that was stopped."""
        postgres = Postgres(
            directory / "postgres", free_port(), ledger.postgres.password, directory / "postgres.log", directory / "run"
        )
        made = cls(directory, postgres, Broker(directory / "nats"), session)
        for data, copy in ((ledger.postgres.data, postgres.data), (ledger.broker.store, made.broker.store)):
            _copy_tree(data, copy)
        made.settings = replace(made.settings, master_secret=ledger.settings.master_secret)
        made.server = Process(made.settings, directory)
        shutil.copytree(ledger.settings.keys_dir, made.settings.keys_dir)
        shutil.copytree(ledger.settings.anchors, made.settings.anchors)
        (directory / "older").symlink_to(ledger.directory / "older")
        made.site = ledger.site
        return made

    @property
    def browser(self) -> Browser:
        return Browser(self.session, self.server.url, self.site)

    async def restart(self) -> None:
        """A server that remembers nothing, as after a reboot."""
        await self.server.stop()
        self.server = Process(self.settings, self.directory)
        await self.server.launch()

    async def copy(self, name: str) -> None:
        """Take a cold backup of Postgres and of NATS."""
        await self.server.stop()
        for server, data in ((self.postgres, self.postgres.data), (self.broker, self.broker.store)):
            await server.stop()
            _copy_tree(data, self.directory / name / data.name)
            await server.start()
        self.server = Process(self.settings, self.directory)
        await self.server.start()

    async def put_back(self, name: str, *, postgres: bool = False, nats: bool = False) -> None:
        await self.server.stop()
        for wanted, server, data in (
            (postgres, self.postgres, self.postgres.data),
            (nats, self.broker, self.broker.store),
        ):
            if wanted:
                await server.stop()
                shutil.rmtree(data)
                _copy_tree(self.directory / name / data.name, data)
                await server.start()
        self.server = Process(self.settings, self.directory)
        await self.server.launch()

    async def events(self, count: int) -> list[dict[str, Any]]:
        """Post events, the refusals of a version that nobody knows and by a clock that is decades slow; receipts."""
        slow = {"policyVersion": "none", "occurredAt": "2001-01-01T00:00:00.000Z"}
        events = [event for _ in range(count // 2) for event in (grant(), refusal(**slow))]
        replies = [await self.browser.post(event) for event in events]
        assert [reply.status for reply in replies] == [201] * count, replies
        return [reply.json for reply in replies]

    async def post_lines(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Post a batch; the answer's lines."""
        url = f"{self.server.url}/v1/sites/{self.site.site}/events:batch"
        headers = {"Authorization": f"Bearer {self.site.secret}", "Content-Type": "application/x-ndjson"}
        body = "".join(json.dumps(event) + "\n" for event in events)
        async with self.session.post(url, data=body, headers=headers) as response:
            return [json.loads(line) for line in (await response.text()).splitlines()]

    async def checkpoint(self) -> Checkpoint:
        reply = await self.browser.call("GET", f"/logs/{self.site.site}/checkpoint")
        assert reply.status == 200, reply
        return parse_checkpoint(reply.json.encode())

    async def signed(self, size: int) -> Checkpoint:
        """Wait until a checkpoint covers the log up to this size."""

        async def covers() -> bool:
            return (await self.checkpoint()).size >= size

        await until(covers)
        return await self.checkpoint()

    async def published(self, seq: int) -> None:
        """Wait until the stream holds the entry."""
        bus = await Bus.connect(self.broker.url)

        async def holds() -> bool:
            info = await bus.stream_info(names(self.site.site).stream, names(self.site.site).tombstones)
            return info is not None and info.state.last_seq >= seq

        try:
            await until(holds)
        finally:
            await bus.close()

    async def refused(self, reason: str) -> str:
        """Wait until /readyz says that no checkpoint is signed, and why; what it says."""
        said = ""

        async def says() -> bool:
            nonlocal said
            ready = await self.browser.ready()
            said = ready.json["checks"].get(f"checkpoint {self.site.site}", {}).get("detail", "")
            return reason in said

        await until(says)
        return said

    async def signing(self) -> None:
        """Wait until checkpoints are signed, and nobody complains."""

        async def says() -> bool:
            ready = await self.browser.ready()
            return bool(ready.json["checks"].get(f"checkpoint {self.site.site}", {}).get("ok"))

        await until(says)

    async def is_ready(self) -> bool:
        return (await self.browser.ready()).status == 200

    async def command(self, *words: str, answer: str = "", settings: Settings | None = None) -> tuple[int, str]:
        """A command, as an operator gives it at the machine."""
        admin = {"LEDGER_ADMIN_DATABASE_URL": self.postgres.url()}
        done = await command(settings or self.settings, *words, answer=answer, **admin)
        return done.exit_code, done.output

    async def verified(self, old: Checkpoint) -> dict[str, Any]:
        """The report of `verify` on an export of now, with a checkpoint from before."""
        bundle = self.directory / f"bundle-{len(list(self.directory.glob('bundle-*')))}"
        status, output = await self.command("export", self.site.site, str(bundle))
        assert status == 0, output
        (self.directory / "old").write_bytes(old.encode())
        status, output = await self.command(
            *("verify", str(bundle), "--log-vkey", self.site.log_vkey, "--log-id", self.site.log_id),
            *("--old", str(self.directory / "old"), "--json"),
        )
        report: dict[str, Any] = json.loads(output)
        return report


def _copy_tree(source: Path, target: Path) -> None:
    """With its owners: the servers run under an account of their own where the tests are root."""
    shutil.copytree(source, target)
    for path in [target, *target.rglob("*")]:
        like = (source / path.relative_to(target)).stat()
        os.chown(path, like.st_uid, like.st_gid)


async def lived(directory: Path) -> Ledger:
    """A ledger with a site, some events under a checkpoint, and a cold backup named `older`; then more of both. Its
    servers are stopped."""
    postgres = await own_postgres(directory)
    broker = Broker(directory / "nats")
    await broker.start()
    async with aiohttp.ClientSession() as session:
        ledger = Ledger(directory, postgres, broker, session)
        try:
            ledger.site = await found(ledger.settings)
            await ledger.server.start()
            await ledger.signed((await ledger.events(10))[-1]["seq"] + 1)
            await ledger.copy("older")
            last = (await ledger.events(20))[-1]["seq"]
            await ledger.signed(last + 1)
            await ledger.published(last)
        finally:
            await ledger.server.stop()
            await broker.stop()
            await postgres.stop()
    return ledger


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return asyncio.run(lived(tmp_path_factory.mktemp("template")))


@pytest_asyncio.fixture
async def ledger(template: Ledger, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with aiohttp.ClientSession() as session:
        ledger = Ledger.copied(template, tmp_path, session)
        try:
            await ledger.postgres.start()
            await ledger.broker.start()
            await ledger.server.start()
            yield ledger
        finally:
            await ledger.server.stop()
            await ledger.broker.stop()
            await ledger.postgres.stop()


async def test_postgres_put_back_is_refused_and_recovered_from_the_stream(ledger: Ledger) -> None:
    before = await ledger.checkpoint()
    events = await ledger.events(4)
    last = events[-1]["seq"]
    await ledger.signed(last + 1)
    await ledger.published(last)
    signed = await ledger.checkpoint()

    await ledger.put_back("older", postgres=True)
    said = await ledger.refused("-ahead")
    assert "older copy" in said
    assert str(signed.size) in said
    status, told = await ledger.command("doctor")
    assert (status, said.split(":")[0] in told) == (1, True), told
    assert "no checkpoint is signed" in ledger.server.log
    assert_behind(await ledger.browser.post(grant()))
    assert (await ledger.checkpoint()).size < before.size  # what the older copy has; monitors call it rewound

    status, told = await ledger.command("recover", ledger.site.site, "--from-stream", "--dry-run")
    assert (status, f"to {last} verify" in told) == (0, True), told
    status, told = await ledger.command("recover", ledger.site.site, "--from-stream")
    assert status == 0, told
    await ledger.signing()
    again = await ledger.signed(signed.size)
    assert (again.size, again.root) == (signed.size, signed.root)
    await until(ledger.is_ready)
    assert (await ledger.signed((await ledger.events(4))[-1]["seq"] + 1)).size > signed.size
    for old in (before, signed):
        report = await ledger.verified(old)
        assert (report["verdict"], report["rootKey"]) == ("sound", "pinned")


def test_the_runbook_names_the_commands_that_are_gone_through_here() -> None:
    runbook = RUNBOOK.read_text(encoding="utf-8")
    for typed in (
        "consent-ledger recover SITE --from-stream --dry-run",
        "consent-ledger recover SITE --from-stream",
        "consent-ledger recover SITE --accept-loss",
        "consent-ledger backup replay BACKUPS",
        "consent-ledger export SITE old-log --wait 0",
        "select note from checkpoint",
        "consent-ledger migrate",
        "consent-ledger site add",
        "-f carry-over.sql",
        "consent-ledger checkpoint restore-record SITE --to nats",
        "consent-ledger checkpoint status SITE",
    ):
        assert typed in runbook
    for reason in ("memory-ahead", "anchor-ahead", "stream-ahead", "nats-lost"):
        assert f"`{reason}`" in runbook


def assert_behind(reply: Reply) -> None:
    """Nothing is appended to an older copy, not even by a server that remembers nothing."""
    assert (reply.status, reply.json["type"]) == (503, "urn:consent-ledger:problem:log-behind"), reply


async def test_nats_put_back_is_caught_up_with_and_signing_goes_on(ledger: Ledger) -> None:
    """An older record is no lost one: it is of this log, and the anchor knows the rest."""
    before = await ledger.checkpoint()
    await ledger.put_back("older", nats=True)
    await until(ledger.is_ready)
    last = (await ledger.events(4))[-1]["seq"]
    after = await ledger.signed(last + 1)
    assert after.size > before.size
    await ledger.published(last)
    await ledger.signing()
    assert (await ledger.verified(before))["verdict"] == "sound"


async def test_nats_wiped_is_refused_until_the_record_is_put_back(ledger: Ledger) -> None:
    before = await ledger.checkpoint()
    await ledger.server.stop()
    await ledger.broker.stop()
    shutil.rmtree(ledger.broker.store)
    await ledger.broker.start()
    await ledger.restart()
    assert "restore-record" in await ledger.refused("nats-lost")
    last = (await ledger.events(4))[-1]["seq"]  # PostgreSQL has everything: recording goes on
    assert (await ledger.checkpoint()).size == before.size
    status, told = await ledger.command("checkpoint", "restore-record", ledger.site.site, "--to", "nats", "--yes")
    assert status == 0, told
    await ledger.signing()
    assert (await ledger.signed(last + 1)).size > before.size
    assert (await ledger.verified(before))["verdict"] == "sound"


async def test_both_put_back_leaves_a_newer_postgres_or_a_log_begun_anew(ledger: Ledger) -> None:
    await ledger.copy("newest")
    last = (await ledger.events(4))[-1]["seq"]
    signed = await ledger.signed(last + 1)
    await ledger.copy("lost")

    await ledger.put_back("older", postgres=True, nats=True)
    said = await ledger.refused("-ahead")
    assert str(signed.size) in said
    assert_behind(await ledger.browser.post(grant()))
    status, told = await ledger.command("recover", ledger.site.site, "--from-stream")
    assert (status, "nothing that the ledger lacks" in told) == (0, True), told
    status, told = await ledger.command("recover", ledger.site.site, "--accept-loss", answer=f"{ledger.site.site}\n")
    assert (status, f"over {signed.size} entries" in told, "another prefix" in told) == (2, True, True), told

    # Step 1: a newer PostgreSQL. One that lacks a signed entry is not new enough, one that has all of them is.
    await ledger.put_back("newest", postgres=True)
    assert str(signed.size) in await ledger.refused("-ahead")
    await ledger.put_back("lost", postgres=True)
    await ledger.signing()
    assert (await ledger.signed((await ledger.events(4))[-1]["seq"] + 1)).size > signed.size
    assert (await ledger.verified(signed))["verdict"] == "sound"


async def test_a_log_whose_signed_entries_are_lost_for_good_is_begun_anew_under_another_prefix(ledger: Ledger) -> None:
    signed = await ledger.checkpoint()
    await ledger.put_back("older", postgres=True, nats=True)
    await ledger.refused("-ahead")

    # 4.1: what is left of the old log, and the last checkpoint that it cannot reach any more
    old_log = ledger.directory / "old-log"
    status, told = await ledger.command("export", ledger.site.site, str(old_log), "--wait", "0")
    assert status == 0, told
    with sqlite3.connect(ledger.settings.anchors / f"{ledger.site.site}.anchor") as anchor:
        (note,) = anchor.execute("select note from checkpoint").fetchone()
    assert parse_checkpoint(note).body == signed.body
    await ledger.server.stop()

    # 4.2: another database, keys, NATS and prefix
    directory = ledger.directory / "anew"
    broker = Broker(directory / "nats")
    postgres = await own_postgres(directory)
    await broker.start()
    anew = Ledger(directory, postgres, broker, ledger.session)
    anew.settings = replace(anew.settings, origin_prefix=f"{anew.settings.origin_prefix}/2026-11")
    anew.server = Process(anew.settings, directory)
    (directory / "site.yaml").write_bytes(document(ledger.site.site))
    try:
        assert (await anew.command("migrate"))[0] == 0
        status, told = await anew.command("site", "add", str(directory / "site.yaml"))
        assert status == 0, told
        said = dict(re.findall(r"^(site|log id|log vkey|publishable|secret) +(\S+)$", told, flags=re.MULTILINE))
        anew.site = SiteCredentials(*(said[name] for name in ("site", "log id", "log vkey", "publishable", "secret")))
        assert anew.site.log_vkey.partition("+")[0] == f"ledger.test/2026-11/{ledger.site.site}"
        assert anew.site.log_id != ledger.site.log_id
        await anew.server.start()

        # 4.3: what the old log still has is carried over
        kept = await carried_over(ledger)
        assert len(kept) == 10
        assert all(event["occurredAt"] > "2026" for event in kept)
        carried = await anew.post_lines(kept)
        assert [line["status"] for line in carried] == [201] * len(kept), carried
        state = await anew.browser.consent(kept[0]["visitor"], secret=True)
        assert state.json["decisions"]["analytics"]["decision"] == kept[0]["decisions"]["analytics"]
        head = await anew.signed(2 + len(kept))

        # 4.5: the new log is sound, and nobody can take it for the old one
        report = await anew.verified(head)
        assert (report["verdict"], report["rootKey"]) == ("sound", "pinned")
        report = await anew.verified(signed)
        assert (report["verdict"], {fault["rule"] for fault in report["faults"]}) == ("fault", {4})
    finally:
        await anew.server.stop()
        await broker.stop()
        await postgres.stop()


async def carried_over(ledger: Ledger) -> list[dict[str, Any]]:
    """What the runbook's question makes of the old database: every choice as an import."""
    question = re.search(r"`carry-over.sql`:\s+```sql\n(.*?)```", RUNBOOK.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert question is not None
    table, copy, select = (each.strip().rstrip(";") for each in question[1].split("\n\n"))
    assert copy == "\\copy opening (line) from 'old-log/payloads.ndjson'"
    connection = await asyncpg.connect(ledger.settings.database_url)
    try:
        await connection.execute(table)
        payloads = ledger.directory / "old-log" / "payloads.ndjson"
        await connection.copy_to_table("opening", source=payloads, columns=["line"])
        rows = await connection.fetch(select.replace(":'site'", "$1"), ledger.site.site)
    finally:
        await connection.close()
    return [json.loads(row[0]) for row in rows]
