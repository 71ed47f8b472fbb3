"""A Postgres server of our own: make its cluster, start it, know when it answers, stop it.

It listens on 127.0.0.1 alone, without a Unix socket, and every connection gives a password (SCRAM). Its log never
holds a statement, a parameter or a row: errors are told to the client, which knows what may be said of them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from ledger import config
from ledger.core.errors import ConfigInvalid
from ledger.embedded.accounts import postgres_account, reachable
from ledger.embedded.binaries import find_postgres
from ledger.embedded.child import Account, Child, Step

SUPERUSER = "postgres"
_PAUSE_SECONDS = 0.05

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_init_zero": "off",  # filling new WAL files with zeros makes p99.9 of a commit 48 ms instead of 3 ms
    "wal_recycle": "off",  # a file that is used again keeps what was in it, also of those who were erased since
    "max_wal_size": "2GB",
    **(
        {"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}
    ),  # else a file at a time, for seconds
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Errors quote values ("invalid input syntax …", "Failing row contains …"): they go to the client, not into the log.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_min_duration_statement": "-1",
    "log_destination": "stderr",
    "logging_collector": "off",
}


@dataclass(eq=False)
class Postgres:
    """One server over the cluster in `data`, which is made at the first start. `settings` override SETTINGS."""

    data: Path
    port: int
    password: str = field(repr=False)
    log: Path
    run_dir: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    child: Child | None = field(default=None, init=False, repr=False)

    def url(self, database: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """A connection URL; by default the superuser's."""
        return database_url(user, self.password if password is None else password, self.port, database)

    async def initialise(self) -> None:
        """Make the cluster if there is none: beside its place, and moved there when it is whole."""
        if self.data.exists():
            return
        self.data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        account = postgres_account(self.data)
        unfinished = self.data.with_name(self.data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if account is not None:
            os.chown(unfinished, account.uid, account.gid)
        await self._initdb(unfinished, account)
        unfinished.rename(self.data)

    async def start(self) -> None:
        """Return when it takes connections. `ConfigInvalid` tells why it does not. Call it in the main thread."""
        account = postgres_account(self.data)
        binaries = reachable(find_postgres(self._major()), account)
        command = [str(binaries.directory / "postgres"), "-D", _place(self.data, account), "-p", str(self.port)]
        for name, value in {**SETTINGS, **self.settings}.items():
            command += ["-c", f"{name}={value}"]
        # SIGQUIT: an immediate shutdown, which also ends the server's own children.
        self.child = self._child("postgres", command, account, death_signal=signal.SIGQUIT)
        await self._until_ready(self.child)

    async def stop(self) -> None:
        """A fast shutdown, an immediate one where that takes too long, and SIGKILL."""
        if self.child is not None:
            await self.child.stop(
                Step(signal.SIGINT, config.POSTGRES_FAST_SHUTDOWN_SECONDS),
                Step(signal.SIGQUIT, config.POSTGRES_IMMEDIATE_SHUTDOWN_SECONDS),
            )

    def _major(self) -> int:
        """The version that made the cluster. Data that is gone is never replaced by an empty cluster."""
        try:
            return int((self.data / "PG_VERSION").read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise ConfigInvalid(
                f"{self.data} holds no Postgres cluster: put it back, or begin anew elsewhere"
            ) from error

    async def _initdb(self, directory: Path, account: Account | None) -> None:
        binaries = reachable(find_postgres(), account)
        readable, writable = os.pipe()
        try:
            os.write(writable, self.password.encode() + b"\n")
            if account is not None:
                os.fchown(readable, account.uid, account.gid)
            os.close(writable)
            command = [
                str(binaries.directory / "initdb"), "-D", _place(directory, account), "--username", SUPERUSER,
                "--auth=scram-sha-256", f"--pwfile=/dev/fd/{readable}", "--encoding=UTF8", "--no-locale",
                "--data-checksums", "--no-instructions",
            ]  # fmt: skip
            child = self._child("initdb", command, account, directory=directory, pass_fds=(readable,))
            child.start()
            try:
                code = await child.wait(config.INITDB_TIMEOUT_SECONDS)
            finally:
                await child.stop()
        finally:
            os.close(readable)
        if code != 0:
            raise ConfigInvalid(f"initdb could not make a Postgres cluster in {self.data}:\n{child.log_tail()}")

    def _child(
        self,
        name: str,
        command: list[str],
        account: Account | None,
        *,
        directory: Path | None = None,
        pass_fds: tuple[int, ...] = (),
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> Child:
        return Child(
            name=name,
            command=command,
            log=self.log,
            environ={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},  # no PGDATA, PGPORT, …
            run_dir=self.run_dir,
            directory=directory or self.data,
            account=account,
            pass_fds=pass_fds,
            death_signal=death_signal,
        )

    async def _until_ready(self, child: Child) -> None:
        began = time.monotonic()
        child.start()
        while not self._ready(child):
            waited = time.monotonic() - began
            if child.poll() is not None:
                if waited > config.POSTGRES_LOCK_RETRY_SECONDS:
                    raise ConfigInvalid(f"Postgres does not start:\n{child.log_tail()}")
                await asyncio.sleep(4 * _PAUSE_SECONDS)
                child.start()
            elif waited > config.POSTGRES_START_TIMEOUT_SECONDS:
                await self.stop()
                raise ConfigInvalid(
                    f"Postgres was not ready in {config.POSTGRES_START_TIMEOUT_SECONDS:.0f} s:\n{child.log_tail()}"
                )
            await asyncio.sleep(_PAUSE_SECONDS)

    def _ready(self, child: Child) -> bool:
        """Whether its lock file says so: a connection that comes too early would be logged as an error."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(child.pid) and lines[7].strip() == "ready"


def database_url(user: str, password: str, port: int, database: str) -> str:
    return f"postgresql://{quote(user)}:{quote(password, safe='')}@127.0.0.1:{port}/{quote(database)}"


def _place(data: Path, account: Account | None) -> str:
    """The data directory as the server names it. Another user may not reach it by path, but by where it stands."""
    return "/proc/self/cwd" if account is not None and sys.platform == "linux" else str(data)
