"""The yardstick: `pgbench` of a bare prepared insert of as many bytes, on the very server that the ledger writes to.

The table has no index and no column beside the payload: nothing that stores a row durably can be cheaper. It lives in
a database of its own, which is dropped afterwards.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

from ledger.core.errors import ConfigInvalid
from ledger.embedded.binaries import find_postgres

DATABASE = "consent_ledger_bench"
THREADS = 2
LONGER = 15
GRACE_SECONDS = 60.0
_INSERT = "insert into bench (payload) values ('\\x{}');\n"
_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


class Baseline:
    """pgbench against a table that is made for it."""

    def __init__(self, admin_url: str, payload_bytes: int, script: Path) -> None:
        parts = urlsplit(admin_url)
        # By environment, not by argument: everybody can read a command line.
        self._environ = {
            **os.environ,
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port),
            "PGUSER": unquote(parts.username or ""),
            "PGPASSWORD": unquote(parts.password or ""),
            "PGDATABASE": DATABASE,
        }
        self._script = script
        script.write_text(_INSERT.format("5a" * payload_bytes), encoding="ascii")

    def rate(self, clients: int, seconds: float) -> float:
        """Inserts a second. On a busy machine a short run may end before its clients are connected: one more then."""
        for length in (seconds, LONGER * seconds):
            found = _TPS.search(self._run(clients, length))
            if found is not None:
                return float(found[1])
        raise ConfigInvalid("pgbench inserted nothing: the machine is too busy to measure anything")

    def _run(self, clients: int, seconds: float) -> str:
        command = [
            str(find_postgres().directory / "pgbench"),
            "--no-vacuum",
            "--protocol=prepared",
            f"--client={clients}",
            f"--jobs={min(clients, THREADS)}",
            f"--time={max(1, round(seconds))}",
            f"--file={self._script}",
        ]
        done = subprocess.run(
            command, env=self._environ, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS
        )
        if done.returncode != 0:
            raise ConfigInvalid(f"pgbench failed: {done.stderr.strip()[-500:]}")
        return done.stdout


@contextmanager
def baseline(admin_url: str, payload_bytes: int) -> Iterator[Baseline]:
    """A pgbench that is ready to run; its database is gone afterwards."""
    asyncio.run(_prepare(admin_url))
    try:
        with tempfile.TemporaryDirectory(prefix="consent-ledger-bench-") as directory:
            yield Baseline(admin_url, payload_bytes, Path(directory) / "insert.sql")
    finally:
        asyncio.run(_execute(admin_url, f"drop database if exists {DATABASE} with (force)"))


async def _prepare(admin_url: str) -> None:
    await _execute(admin_url, f"drop database if exists {DATABASE} with (force)")
    await _execute(admin_url, f"create database {DATABASE}")
    await _execute(admin_url, "create table bench (payload bytea not null)", DATABASE)


async def _execute(admin_url: str, statement: str, database: str | None = None) -> None:
    connection = await asyncpg.connect(admin_url, **({} if database is None else {"database": database}))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
