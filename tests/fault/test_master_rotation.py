"""The master secret replaced: under load and twice, broken off at every step, and of an `up`'s data directory."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger import durable
from ledger.administration import Who
from ledger.config import Settings, load_settings
from ledger.core.encoding import encode_base64
from ledger.core.errors import ConfigInvalid
from ledger.core.sealing import Master
from ledger.data_keys import newest_keys
from ledger.embedded.installation import DataDirectory
from ledger.keys import files, master
from ledger.keys.files import open_key_file, paths_of
from ledger.keys.master import rotate_master
from ledger.keys.sealed import ROLES
from ledger.store.pool import open_pool
from ledger.vault import make_key, read_vault
from tests.conftest import Database
from tests.harness import Load, Process, check_log, found

EVENTS_BETWEEN = 40
WHO = Who("somebody", "operator")


def with_next(settings: Settings) -> Settings:
    return replace(settings, next_master_secret=secrets.token_bytes(32))


def taken(settings: Settings) -> Settings:
    """As the operator sets it when the rotation is done."""
    version = settings.master_key_version + 1
    return replace(
        settings, master_secret=settings.next_master_secret, master_key_version=version, next_master_secret=b""
    )


async def command(settings: Settings, database: Database) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ledger", "key", "rotate-master", "--as", "somebody"),
        env={**os.environ, **settings.environment(), "LEDGER_ADMIN_DATABASE_URL": database.admin_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def assert_only(settings: Settings, site: str, *others: Master) -> None:
    """The master secret in force opens every data key and key file, and none of the others any of them."""
    connection = await asyncpg.connect(settings.database_url)
    try:
        sites = await connection.fetch("select site_id, site from ledger.site")
        assert len(sites) == 2, "with the administrative log"
        for row in sites:
            await read_vault(connection, row["site_id"], settings.masters)
            for other in others:
                for version in (other.version, settings.master_key_version):
                    with pytest.raises(ConfigInvalid):
                        await read_vault(connection, row["site_id"], [Master(version, other.secret)])
            for role in ROLES:
                for path in paths_of(settings, row["site"], role):
                    open_key_file(path, settings.master_secret)
                    for other in others:
                        with pytest.raises(ConfigInvalid):
                            open_key_file(path, other.secret)
    finally:
        await connection.close()


@pytest.mark.slow
async def test_it_is_replaced_twice_under_load_and_nobody_notices(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    site = await found(settings)
    old: list[Master] = []
    async with Process(settings, tmp_path) as server, Load([server.url], site) as load:
        for _ in range(2):
            await load.more(EVENTS_BETWEEN)
            settings = with_next(settings)
            await server.restart(settings)
            await load.more(EVENTS_BETWEEN)
            assert "data keys and" in await command(settings, database)
            await load.more(EVENTS_BETWEEN)
            assert "0 data keys and 0 key files" in await command(settings, database)
            old.append(settings.masters[0])
            settings = taken(settings)
            await server.restart(settings)
            await load.more(EVENTS_BETWEEN)
    await assert_only(settings, site.site, *old)
    log = await check_log(settings, site, load.receipts)
    assert log.seq_of.keys() == load.receipts.keys()


class Killed(Exception):
    """The process ends here."""


def dying(function: Callable[..., Any], call: int, *, after: bool = False) -> Callable[..., Any]:
    """The function, whose process is killed before or after that call of it."""
    calls = itertools.count(1)

    def died(*arguments: Any) -> Any:
        this = next(calls)
        if this == call and not after:
            raise Killed
        result = function(*arguments)
        if this == call and after:
            raise Killed
        return result

    return died


async def assert_both_read(settings: Settings, paths: list[Path]) -> None:
    """Who knows both secrets opens everything, wherever the rotation stands."""
    connection = await asyncpg.connect(settings.database_url)
    try:
        for site_id in (1, 2):
            await read_vault(connection, site_id, settings.masters)
    finally:
        await connection.close()
    for path in paths:
        open_key_file(path, *settings.master_secrets)


async def test_broken_off_at_every_step_it_completes_when_it_is_run_again(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = (await found(settings)).site
    settings = with_next(settings)
    paths = sorted(settings.keys_dir.glob("*/*.key"))
    assert {path.parent.name for path in paths} == {site, f"{site}.admin-log"}
    steps = [
        (master, "_record", dying(master._record, 1)),
        (master, "rewrap", dying(master.rewrap, 1)),
        (master, "reseal_key_files", dying(master.reseal_key_files, 1)),
        (files, "_replace", dying(files._replace, 1)),
        (files, "_replace", dying(files._replace, 2, after=True)),
        (durable, "sync_directory", dying(durable.sync_directory, 1)),
        (durable, "write_new", dying(durable.write_new, 1, after=True)),
    ]
    for module, name, step in steps:
        with monkeypatch.context() as patched:
            patched.setattr(module, name, step)
            with pytest.raises(Killed):
                await rotate_master(settings, database.admin_url, WHO)
        await assert_both_read(settings, paths)
    done = await rotate_master(settings, database.admin_url, WHO)
    assert (done.version, done.data_keys, len(done.key_files)) == (2, 0, len(paths) - 3)
    await assert_only(taken(settings), site, settings.masters[0])
    pool = await open_pool(settings.database_url, size=2)
    try:
        acts = await pool.fetchval("select max(seq) from ledger.entry where site_id = 2")
        await rotate_master(settings, database.admin_url, WHO)
        assert acts == await pool.fetchval("select max(seq) from ledger.entry where site_id = 2"), "told once"

        key, _ = await newest_keys(pool)
        made = await make_key(pool, key.site_id, key.log_id, "hold", *settings.masters)
        version = await pool.fetchval(
            "select master_version from ledger.data_key where site_id = 1 and key_no = $1", made
        )
        assert version == 2, "a process that knows both wraps under the one that is in force by now"
        with pytest.raises(ConfigInvalid, match="under version 2 of the master secret, and version 1 is known here"):
            await make_key(pool, key.site_id, key.log_id, "hold", settings.masters[0])
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("select ledger.rewrap_data_keys(3, '{}', '{}', '{}')")
    finally:
        await pool.close()


async def test_a_secret_that_is_not_the_one_in_force_changes_nothing(settings: Settings, database: Database) -> None:
    await found(settings)
    paths = sorted(settings.keys_dir.glob("*/*.key"))
    before = [path.read_bytes() for path in paths]
    with pytest.raises(ConfigInvalid, match="LEDGER_NEXT_MASTER_SECRET"):
        await rotate_master(settings, database.admin_url, WHO)
    wrong = with_next(replace(settings, master_secret=bytes(32)))
    with pytest.raises(ConfigInvalid, match="LEDGER_MASTER_SECRET"):
        await rotate_master(wrong, database.admin_url, WHO)
    assert [path.read_bytes() for path in paths] == before
    await assert_both_read(settings, paths)


def test_an_up_has_its_next_secret_made_once_and_takes_it_when_it_starts(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    first = directory.installation()
    assert directory.prepare_next_master()
    assert not directory.prepare_next_master()
    old, following = directory.settings().masters
    assert (old.version, following.version) == (1, 2)
    assert encode_base64(old.secret) == first.master_secret
    directory.take_next_master()
    assert directory.settings().masters == (following,)
    assert load_settings(directory.settings().environment()).masters == (following,)
