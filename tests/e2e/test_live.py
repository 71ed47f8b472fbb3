"""`verify --live` finds what was edited beside the log: rows that answer questions, not borne out by the log."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from ledger.bundle import Directory
from ledger.config import Settings
from ledger.core.tile import TILE_WIDTH
from ledger.export import export
from ledger.keys.files import log_keys
from ledger.live import Comparison, compare
from ledger.projector import rebuild
from ledger.secrets import new_event_id
from tests.checkpointing import checkpoint
from tests.conftest import Database
from tests.e2e.conftest import Shop
from tests.harness import grant, new_visitor, now_ms, refusal

VISITORS = 40
SUBJECTS = VISITORS + 1
"""One visitor has chosen for an account."""
EVENTS = TILE_WIDTH + 60
"""More than a tile holds."""


class Audited(NamedTuple):
    """A shop with a projection up to its head, exported, and a superuser's connection."""

    shop: Shop
    settings: Settings
    superuser: asyncpg.Connection
    bundle: Path

    @property
    def site(self) -> str:
        return self.shop.site.site

    async def sign(self) -> None:
        await checkpoint(self.settings.database_url, self.site, log_keys(self.settings, self.site)[0])

    async def compare(self) -> Comparison:
        source = Directory(self.bundle)
        return await compare(self.shop.pool, source, self.shop.vaults, lambda done, size: None)


@pytest_asyncio.fixture
async def audited(shop: Shop, settings: Settings, database: Database, tmp_path: Path) -> AsyncIterator[Audited]:
    visitors = [new_visitor() for _ in range(VISITORS)]
    events = [(grant if n % 3 else refusal)(visitor=visitors[n % VISITORS]) for n in range(EVENTS)]
    await asyncio.gather(*map(shop.record, events[:100]))
    await shop.erase([20, 30, 40])
    await shop.publish("1.1")
    await asyncio.gather(*map(shop.record, events[100:-2]))
    linked = {"id": new_event_id(now_ms()), "type": "account.linked", "visitor": visitors[0], "account": "user-7"}
    await shop.record(linked, secret=True)
    await shop.record(grant(visitor=visitors[0], scope="account"))
    await shop.project()
    superuser = await asyncpg.connect(database.admin_url)
    for trigger in ("ledger_refuse_ddl", "ledger_refuse_drop"):
        await superuser.execute(f"drop event trigger {trigger}")
    for table in ("entry", "opening", "erased", "document", "policy", "known", "signer", "tile", "checkpoint", "state"):
        await superuser.execute(f"alter table ledger.{table} disable trigger all")
    made = Audited(shop, settings, superuser, tmp_path / "bundle")
    await made.sign()
    await export(shop.pool, shop.vaults, made.site, made.bundle, lambda done, size: None)
    yield made
    await superuser.close()


async def test_a_database_as_the_log_says_shows_no_difference_also_when_it_has_grown(audited: Audited) -> None:
    found = await audited.compare()
    assert (found.entries, found.visitors) == (EVENTS + 4, SUBJECTS)
    assert (found.differences, found.total) == ([], 0)
    shop = audited.shop
    for _ in range(20):
        await shop.record(refusal())
    await shop.erase([50, EVENTS + 6])
    await shop.publish("1.2")
    await shop.project()
    await audited.sign()
    assert (await audited.compare()).differences == []
    await rebuild(shop.pool, shop.vaults, shop.site.site_id)
    assert (await audited.compare()).differences == []


STATE = "(select visitor from ledger.state order by visitor limit 1)"
OTHER = "(select visitor from ledger.state order by visitor desc limit 1)"
EDITS = {
    f"update ledger.state set body = (select body from ledger.state where visitor = {OTHER}) where visitor = {STATE}": (
        "state"
    ),
    f"update ledger.state set body = 'junk' where visitor = {STATE}": "state",
    f"update ledger.state set told = '\\x81a16105' where visitor = {STATE}": "state",
    f"update ledger.state set seq = seq + 1000000 where visitor = {STATE}": "state",
    f"update ledger.state set seq = seq - 1 where visitor = {STATE}": "state",
    "insert into ledger.state select site_id, version, sha256('x'), 5, body from ledger.state limit 1": "state",
    f"update ledger.opening set visitor = {OTHER} where visitor = {STATE}": "opening",
    "update ledger.opening set sealed = 'x' where seq = 60": "opening",
    "update ledger.opening o set sealed = p.sealed from ledger.opening p where o.seq = 60 and p.seq = 61": "opening",
    "delete from ledger.opening where seq = 60": "opening",
    "insert into ledger.opening select site_id, 20, sealed from ledger.opening where seq = 60": "opening",
    "insert into ledger.erased select site_id, 60, 104 from ledger.site": "erased",
    "insert into ledger.erased select site_id, 60, 60 from ledger.site": "erased",
    "delete from ledger.erased where seq = 20": "erased",
    "update ledger.erased set by_seq = 60 where seq = 20": "erased",
    "update ledger.known set seq = 61 where seq = 60": "known",
    "delete from ledger.known where seq = 60": "known",
    "insert into ledger.known select site_id, sha256('x'), 60 from ledger.site": "known",
    "update ledger.policy set seq = 50 where version = '1.1'": "policy",
    "update ledger.policy set version = '9' where version = '1.1'": "policy",
    "insert into ledger.policy select site_id, '7', 60, document from ledger.policy limit 1": "policy",
    "update ledger.signer set until = 50 where role = 'ingest'": "signer",
    "update ledger.signer set role = 'ingest'": "signer",
    "insert into ledger.signer select site_id, sha256('x'), 'ingest', sha256('y'), 60 from ledger.site": "signer",
    "update ledger.tile set hashes = overlay(hashes placing sha256('x') from 33)": "tile",
    "delete from ledger.tile": "tile",
    "insert into ledger.tile select site_id, 0, -1, hashes from ledger.tile": "tile",
    "update ledger.checkpoint set note = 'x' where size > 1": "checkpoint",
    "update ledger.checkpoint set size = size - 1 where size > 1": "checkpoint",
    "update ledger.entry set entry = overlay(entry placing 'x' from 100) where seq = 60": "entry",
}


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edited_row_is_found_and_named_without_a_visitor(audited: Audited, edit: str) -> None:
    before = await audited.shop.events()
    assert (await audited.superuser.execute(edit)).split()[-1] != "0"
    found = await audited.compare()
    assert EDITS[edit] in {each.table for each in found.differences}
    assert found.total == len(found.differences)
    told = " ".join(f"{each.table} {each.what}" for each in found.differences)
    assert not any(event.event.visitor in told for event in before)


async def test_a_document_that_was_altered_is_found(audited: Audited) -> None:
    await audited.superuser.execute("alter table ledger.policy drop constraint policy_document_fkey")
    await audited.superuser.execute("delete from ledger.document")
    assert {each.table for each in (await audited.compare()).differences} == {"document"}


async def test_a_checkpoint_that_another_key_signed_is_found(audited: Audited) -> None:
    size, note = await audited.superuser.fetchrow("select size, note from ledger.checkpoint order by size desc limit 1")
    forged = note.rpartition(b" ")[0] + b" " + b"A" * 92 + b"\n"
    await audited.superuser.execute("update ledger.checkpoint set note = $2 where size = $1", size, forged)
    assert {each.table for each in (await audited.compare()).differences} == {"checkpoint"}


def run(audited: Audited, *arguments: str) -> subprocess.CompletedProcess[str]:
    pins = ("--log-vkey", audited.shop.site.log_vkey)
    return subprocess.run(
        [sys.executable, "-m", "ledger", "verify", str(audited.bundle), *pins, "--live", *arguments],
        env={**os.environ, **audited.settings.environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


async def test_the_command_tells_a_sound_log_from_a_sound_database(audited: Audited) -> None:
    done = run(audited)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{EVENTS + 4:,} entries and {SUBJECTS} visitors compared with the database" in done.stdout
    await audited.superuser.execute(f"update ledger.state set body = 'junk' where visitor = {STATE}")
    done = run(audited)
    assert done.returncode == 1
    assert "the database was edited beside the log" in done.stdout
    assert "differs    state: visitor " in done.stdout
    report = json.loads(run(audited, "--json").stdout)
    assert (report["verdict"], report["live"]["differenceCount"]) == ("sound", 1)
    (audited.bundle / "payloads.ndjson").unlink()
    done = run(audited)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a bundle with its payloads" in done.stderr
