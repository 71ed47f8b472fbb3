"""The runbooks of key loss, followed to the letter: every command in them is given, in order, to a running ledger."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import pytest
from click.testing import Result

from ledger.config import Settings
from ledger.embedded.postgres import Postgres
from ledger.keys import files as key_files
from ledger.provision import SiteCredentials
from tests.conftest import Database, admin, service_url
from tests.fault.keys import PASSPHRASE, command, ids, key, listed
from tests.harness import Load, Process, check_log, document, found, until

RUNBOOKS = Path(__file__).resolve().parents[2] / "deploy/runbooks"
BLOCK = re.compile(r"^```(text|sql)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BOUGHT_TIME = 40
"""Events that are posted between two steps."""


@dataclass
class Reader:
    """Somebody who reads a runbook: puts real names where it says `SITE`, and gives the commands."""

    settings: Settings
    text: str
    words: dict[str, str]
    given: list[str] = field(default_factory=list)

    def blocks(self) -> list[tuple[str, str]]:
        return BLOCK.findall(self.text)

    def lines(self) -> list[str]:
        """Every command of the page, as it stands there."""
        return [line for kind, text in self.blocks() if kind == "text" for line in text.splitlines()]

    def filled(self, text: str) -> str:
        return re.sub(r"\b[A-Z_]+\b", lambda found: self.words.get(found[0], found[0]), text)

    async def give(self, line: str, **environ: str) -> Result:
        program, *arguments = shlex.split(self.filled(line))
        assert program == "consent-ledger"
        answer = PASSPHRASE + "\n" if "--root-key" in arguments else ""
        self.given.append(line)
        return await command(self.settings, *arguments, answer=answer, **environ)

    async def expect(self, line: str, **environ: str) -> str:
        done = await self.give(line, **environ)
        assert done.exit_code == 0, f"{line}\n{done.output}"
        return done.output

    async def asks(self) -> list[asyncpg.Record]:
        """What the page's SQL answers."""
        (query,) = [text for kind, text in self.blocks() if kind == "sql"]
        connection = await asyncpg.connect(self.settings.database_url)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(self.filled(query))
            return rows
        finally:
            await connection.close()


async def reader_of(page: str, settings: Settings, site: SiteCredentials, offline: Path) -> Reader:
    """With the root key offline, as the installation's page told."""
    await key(settings, "take-offline", site.site, str(offline), answer=PASSPHRASE + "\n")
    words = {"SITE": site.site, "FILE": str(offline), "VKEY": site.log_vkey, "LOG_ID": site.log_id}
    return Reader(settings, (RUNBOOKS / page).read_text(encoding="utf-8"), words)


async def checkpointed(settings: Settings, size: int) -> None:
    """Until the newest checkpoint covers so many entries."""
    connection = await asyncpg.connect(settings.database_url)

    async def covers() -> bool:
        newest = await connection.fetchval("select max(size) from ledger.checkpoint where site_id = 1")
        return newest is not None and newest >= size

    try:
        await until(covers)
    finally:
        await connection.close()


async def size_of(settings: Settings, site: SiteCredentials) -> int:
    return len((await check_log(settings, site)).entries)


@pytest.mark.slow
async def test_a_stolen_ingest_key(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = await found(settings)
    (old,) = await ids(settings, site, "ingest")
    reader = await reader_of("ingest-key-stolen.md", settings, site, tmp_path / "root.key")
    look, new, introduce, retire, export, verify = reader.lines()
    async with Process(settings, tmp_path) as server:
        async with Load([server.url], site) as load:
            await load.more(BOUGHT_TIME)
            assert old in await reader.expect(look)
            await reader.expect(new)
            reader.words |= {"OLD": old, "NEW": (await ids(settings, site, "ingest", "not introduced"))[0]}
            await reader.expect(introduce)
            await load.more(BOUGHT_TIME)
            await reader.expect(retire)
            await load.more(BOUGHT_TIME)
        assert (load.refused, load.broken) == (0, 0), "one machine that has the file fails no post"
        reader.words["FROM"] = "2"
        log = await check_log(settings, site, load.receipts)
        expected = [entry.seq for entry in log.entries if entry.seq >= 2 and entry.signer[:4].hex() == old]
        assert [row["seq"] for row in await reader.asks()] == expected
        assert expected
        await checkpointed(settings, len(log.entries))
    await reader.expect(export)
    await reader.expect(verify)
    assert reader.given == reader.lines()


@pytest.mark.slow
async def test_a_stolen_log_key(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = await found(settings)
    (old,) = await ids(settings, site, "log")
    connection = await asyncpg.connect(settings.database_url)
    first = "select note from ledger.checkpoint where site_id = 1 and size = 1"
    (tmp_path / "kept").write_bytes(await connection.fetchval(first))
    await connection.close()
    reader = await reader_of("log-key-stolen.md", settings, site, tmp_path / "root.key")
    reader.words["CHECKPOINT"] = str(tmp_path / "kept")
    export, verify, look, new, introduce, retire, export_again, verify_again = reader.lines()
    async with Process(settings, tmp_path) as server:
        async with Load([server.url], site) as load:
            await load.more(BOUGHT_TIME)
            await reader.expect(export)
            await reader.expect(verify)
            assert old in await reader.expect(look)
            await reader.expect(new)
            reader.words |= {"OLD": old, "NEW": (await ids(settings, site, "log", "not introduced"))[0]}
            told = await reader.expect(introduce)
            (vkey,) = [row["vkey"] for row in await listed(settings, site) if row["keyId"] == reader.words["NEW"]]
            assert vkey in told
            await checkpointed(settings, await size_of(settings, site))
            await reader.expect(retire)
            await load.more(BOUGHT_TIME)
        assert (load.refused, load.broken) == (0, 0)
        await checkpointed(settings, await size_of(settings, site))
    reader.words["VKEY"] = vkey
    await reader.expect(export_again)
    await reader.expect(verify_again)
    reader.words["VKEY"] = site.log_vkey
    reader.given.pop()
    await reader.expect(verify_again)  # who still pins the old one goes over by the same command
    assert reader.given == reader.lines()


@pytest.mark.slow
async def test_a_lost_root_key(
    settings: Settings,
    postgres: Postgres,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    site = await found(settings)
    reader = await reader_of("root-key-lost.md", settings, site, tmp_path / "root.key")
    look, check, export, verify, migrate, add = reader.lines()
    async with Process(settings, tmp_path) as server:
        async with Load([server.url], site) as load:
            await load.more(BOUGHT_TIME)
        await reader.expect(look)
        assert "it is the root key of" in await reader.expect(check)
        (tmp_path / "root.key").unlink()
        lost = await reader.give(check)
        assert lost.exit_code == 2
        reader.given.pop()
        await checkpointed(settings, await size_of(settings, site))
    await reader.expect(export)
    await reader.expect(verify)

    name = f"{database.url.rpartition('/')[2]}_anew"
    async with admin(postgres) as connection:
        await connection.execute(f"create database {name}")
    try:
        (tmp_path / "site.yaml").write_bytes(document(site.site))
        anew = replace(
            settings,
            database_url=service_url(postgres.url(name)),
            keys_dir=tmp_path / "keys anew",
            anchor_dir=tmp_path / "anchors anew",
            origin_prefix="ledger-2.test",
        )
        reader.settings = anew
        reader.words["NEW_FILE"] = str(tmp_path / "new-root.key")
        applied = await reader.expect(migrate, LEDGER_ADMIN_DATABASE_URL=postgres.url(name))
        assert "applied 0001" in applied
        told = await reader.expect(add)
        assert f"ledger-2.test/{site.site}+" in told
        assert not key_files.root_path(anew, site.site).exists()
    finally:
        async with admin(postgres) as connection:
            await connection.execute(f"drop database {name} with (force)")
    assert reader.given == reader.lines()


def test_every_command_that_a_runbook_names_in_its_text_exists() -> None:
    from ledger.keys.command import key_command

    for page in ("ingest-key-stolen.md", "log-key-stolen.md", "root-key-lost.md"):
        named = re.findall(r"consent-ledger key ([a-z-]+)", (RUNBOOKS / page).read_text(encoding="utf-8"))
        assert named
        assert set(named) <= key_command.commands.keys()  # type: ignore[attr-defined]
