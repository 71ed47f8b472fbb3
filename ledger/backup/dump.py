"""The rows of the database, by PostgreSQL's own pg_dump and pg_restore, through pipes: no file is written in clear.

Rows alone, in the custom format: the schema with its roles, triggers and guard comes from `migrate`. Left out is what
is rebuilt (the visitors' state), what says nothing later (downloads, which tables were scrubbed when), and the data
keys, which are kept beside.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from ledger.config import BACKUP_PART_BYTES, BINARY_VERSION_TIMEOUT_SECONDS
from ledger.core.errors import ConfigInvalid
from ledger.embedded.binaries import INSTALL_HINT, postgres_directories

LEFT_OUT = ("data_key", "download", "migration", "projection", "restoring", "scrub", "state", "unfolded")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_NO_TLS = "SSL support is not compiled in"
_ERROR_BYTES = 4_096


def find_client(name: str, major: int = 0) -> Path:
    """`pg_dump` or `pg_restore` of at least that version, else the newest: the one on PATH (it can speak TLS, the
    wheel's cannot), the wheel's, Debian's."""
    on_path = shutil.which(name)
    places = [Path(on_path)] if on_path else []
    places += [directory / name for directory in postgres_directories()]
    found = [(version, path) for path in places if (version := _major(path)) is not None and version >= major]
    if not found:
        raise ConfigInvalid(f"no {name} of PostgreSQL {major or 15} or newer is here: {INSTALL_HINT} brings one")
    return found[0][1] if major else max(found, key=lambda each: each[0])[1]


def dumped(admin_url: str, snapshot: str, major: int) -> Iterator[bytes]:
    """The dump of a database as it is in that snapshot, in pieces. `ConfigInvalid` if it cannot be made."""
    client = find_client("pg_dump", major)
    command = [
        str(client), "--format=custom", "--compress=gzip:1" if major >= 16 else "--compress=1",
        "--data-only", "--schema=ledger", f"--snapshot={snapshot}", "--no-password", "--lock-wait-timeout=60s",
        *(f"--exclude-table-data=ledger.{table}" for table in LEFT_OUT),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as errors:
        process = _started(command, admin_url, errors, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            while piece := process.stdout.read(BACKUP_PART_BYTES):
                yield piece
            if process.wait() != 0:
                raise ConfigInvalid(f"pg_dump could not read the database: {_said(errors, client)}")
        finally:
            _ended(process)


class Load:
    """`pg_restore` in one transaction, fed by `write`; `finish` returns when all is committed."""

    def __init__(self, admin_url: str) -> None:
        self._client = find_client("pg_restore")
        command = [
            str(self._client), "--data-only", "--no-owner", "--no-privileges", "--single-transaction",
            "--exit-on-error", "--role=ledger_owner", "--no-password", "--dbname", _without_password(admin_url),
        ]  # fmt: skip
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        self._process = _started(command, admin_url, self._errors, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            self._process.wait()
            raise ConfigInvalid(
                f"the rows could not be loaded, and none was: {_said(self._errors, self._client)}"
            ) from None

    def finish(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.wait() != 0:
            raise ConfigInvalid(f"the rows could not be loaded, and none was: {_said(self._errors, self._client)}")

    def close(self) -> None:
        """Without `finish` nothing is committed."""
        _ended(self._process)
        self._errors.close()


def _started(
    command: list[str],
    admin_url: str,
    errors: IO[bytes],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """A client whose password stands in its environment: anybody may read a command line."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    parts = urlsplit(admin_url)
    password = unquote(parts.password or "") or dict(parse_qsl(parts.query)).get("password", "")
    environ["PGPASSWORD"] = password or environ.get("PGPASSWORD", "")
    environ["LC_ALL"] = "C"
    if "--dbname" not in command:
        command = [*command, "--dbname", _without_password(admin_url)]
    return subprocess.Popen(command, env=environ, stdin=stdin, stdout=stdout, stderr=errors)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    query = "&".join(each for each in parts.query.split("&") if not each.startswith("password="))
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query=query))


def _ended(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    if process.poll() is None:
        process.kill()
    process.wait()


def _said(errors: IO[bytes], client: Path) -> str:
    """The first lines of what the client said: no row, for those are in its context lines."""
    errors.seek(0)
    text = errors.read(_ERROR_BYTES).decode("utf-8", "replace")
    if _NO_TLS in text:
        return (
            f"{client} speaks no TLS, which the database's URL or PGSSLMODE asks for. Put a {client.name} that does, "
            "of the server's version or newer (Debian: postgresql-client), first on PATH"
        )
    lines = text.splitlines()
    return "; ".join(line for line in lines if "error:" in line or "ERROR:" in line)[:500] or "it does not say why"


def _major(path: Path) -> int | None:
    if not os.access(path, os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True, timeout=BINARY_VERSION_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(answer.stdout)
    return int(match[1]) if match else None
