"""The runbook of backups, followed to the letter: each of its commands, in its order."""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
from dataclasses import replace
from pathlib import Path

import asyncpg
from click.testing import CliRunner, Result

from ledger import cli
from ledger.backup.dump import LEFT_OUT
from ledger.config import Settings
from ledger.embedded.postgres import Postgres
from tests.conftest import SERVICE_LOGIN, Database, admin, service_url
from tests.harness import found, new_site_name

PAGE = (Path(__file__).resolve().parents[2] / "deploy/runbooks/backup.md").read_text(encoding="utf-8")
COMMANDS = [
    line for text in re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in text.splitlines()
]


async def run(settings: Settings, admin_url: str, words: list[str]) -> Result:
    environ = settings.environment() | {"LEDGER_ADMIN_DATABASE_URL": admin_url}
    return await asyncio.to_thread(lambda: CliRunner().invoke(cli.main, words, env=environ))


async def test_the_page_is_followed(postgres: Postgres, settings: Settings, database: Database, tmp_path: Path) -> None:
    site = (await found(settings, new_site_name())).site
    here, admin_url, made = settings, database.admin_url, []
    done: list[Result] = []
    for line in COMMANDS:
        program, *words = shlex.split(line)
        assert program == "consent-ledger"
        if words[0] == "restore":  # on another machine
            name = f"ledger_{secrets.token_hex(6)}"
            made.append(name)
            async with admin(postgres) as connection:
                await connection.execute(f"create database {name}")
            admin_url = postgres.url(name)
            here = replace(
                settings,
                database_url=service_url(admin_url),
                keys_dir=tmp_path / name / "keys",
                backup_dir=tmp_path / "backups",
                backup_keep="35d",
            )
        file = next((str(path) for path in (tmp_path / "backups").glob("*.backup")), "")
        given = {"BACKUPS": str(tmp_path / "backups"), "FILE": file}
        done.append(await run(here, admin_url, [given.get(word, word) for word in words]))
        if words[0] != "doctor":  # which misses a worker here
            assert done[-1].exit_code == 0, f"{line}: {done[-1].output}"
    taken, listed, checked, restored, doctor, again = (each.output for each in done)
    assert "what is erased now is in no backup here any more 35d from now" in taken
    assert site in listed
    assert ": whole, of " in checked
    for output in (restored, again):
        assert f"{site}: sound" in output
        assert "may be served again" in output
    assert re.search(r"^ok +backups: the newest was taken 0 hours ago", doctor, re.MULTILINE), doctor
    async with admin(postgres) as connection:
        for name in made:
            await connection.execute(f"drop database {name} with (force)")
    assert SERVICE_LOGIN in here.database_url


def test_the_page_names_what_is_beside_the_backups_and_what_is_said() -> None:
    for name in ("keyring", "erasures", "acts", "orders"):
        assert f"| `{name}` |" in PAGE
    source = "".join(path.read_text(encoding="utf-8") for path in (Path(cli.__file__).parent / "backup").glob("*.py"))
    for words in (
        "the backup is cut short",
        "was altered",
        "out of order",
        "something follows",
        "does not open the backup",
        "the keyring lacks data keys",
        "the database has a ledger already",
        "was not finished",
        "were recorded after the backup, and nothing here has them",
        "this is another log than the one that was signed",
    ):
        assert words in PAGE
        assert words in source


async def test_what_a_new_schema_holds_already_is_in_no_dump(database: Database) -> None:
    connection = await asyncpg.connect(database.admin_url)
    try:
        tables = await connection.fetch("select relname from pg_stat_user_tables where schemaname = 'ledger'")
        filled = {
            row[0] for row in tables if await connection.fetchval(f"select exists (select 1 from ledger.{row[0]})")
        }
    finally:
        await connection.close()
    assert filled <= set(LEFT_OUT), "loaded into a new schema, these rows would be there twice"
