"""Directories for what is written on its way out of the ledger: openings lie in them, so none may outlive its writer.

A directory is locked by whoever writes to it, and a lock ends with its process, however that ends. So one that nobody
has locked was left by a process that was killed: the next one of its kind takes it away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".consent-ledger-export-"
"""Of directories beside a tar that is written, and in the directory for temporary files."""


def lock(directory: Path) -> int | None:
    """A descriptor that holds the directory's lock until it is closed; None where another process has it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def claim(directory: Path, names: Collection[str]) -> int | None:
    """Make a directory for its owner alone, and lock it; what a killed writer left there is taken away first.

    `names`: what a writer of this kind may have left in it. None where another writer is at it, or more is in it.
    """
    for _ in range(2):
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700, parents=True)
            return lock(directory)
        if not directory.is_dir() or not {path.name for path in directory.iterdir()} <= set(names):
            return None
        if not remove_left(directory):
            return None
    return None


def remove_left(directory: Path) -> bool:
    """Take away what was left by a writer that is gone; False where one is at it."""
    if directory.is_symlink() or not directory.is_dir():
        return False
    descriptor = lock(directory)
    if descriptor is None:
        return False
    try:
        shutil.rmtree(directory)
    finally:
        os.close(descriptor)
    return True


def left(parent: Path | None = None) -> list[Path]:
    """Directories of ours in `parent` (else among temporary files) that no writer has locked."""
    found = []
    for directory in sorted((parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")):
        with suppress(OSError):  # gone meanwhile, or another user's
            if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
                continue
            descriptor = lock(directory)
            if descriptor is not None:
                os.close(descriptor)
                found.append(directory)
    return found


@contextmanager
def spooled(parent: Path | None = None) -> Iterator[Path]:
    """A directory in `parent`, else among temporary files, for as long as the block runs."""
    where = parent or Path(tempfile.gettempdir())
    for directory in left(where):
        with suppress(OSError):
            remove_left(directory)
    directory, descriptor = _made(where)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _made(where: Path) -> tuple[Path, int]:
    """A new directory, locked. Between making and locking it another one may have taken it for left, and away."""
    while True:
        directory = Path(tempfile.mkdtemp(dir=where, prefix=PREFIX))
        with suppress(FileNotFoundError):
            descriptor = lock(directory)
            if descriptor is not None and directory.exists():
                return directory, descriptor
            if descriptor is not None:
                os.close(descriptor)
