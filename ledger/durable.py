"""Small files that are there whole or not at all, for their owner alone, and outlive a power cut."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_new(path: Path, data: bytes) -> None:
    """A file with mode 0600; `FileExistsError` where there is one. Call `sync_directory` when its name has to last."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def replace(path: Path, data: bytes) -> None:
    """The file with these bytes in place of what it was, if it was; others may be replacing it at the same time."""
    unfinished = unfinished_name(path)
    try:
        write_new(unfinished, data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_directory(path.parent)


def unfinished_name(path: Path) -> Path:
    """A name beside the file that nobody else takes."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def sync_directory(directory: Path) -> None:
    """What was linked, renamed or removed there outlives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
