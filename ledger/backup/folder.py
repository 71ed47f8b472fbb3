"""A directory of backups: names by time, the newest, those that are too old. It knows nothing of what they hold."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ledger.config import BACKUP_OLD_SECONDS
from ledger.core.duration import HOUR_MS
from ledger.core.errors import ConfigInvalid
from ledger.durable import sync_directory

SUFFIX, PARTIAL = ".backup", ".partial"
BESIDE = KEYRING, ERASURES, ACTS, ORDERS = "keyring", "erasures", "acts", "orders"
_NAME = re.compile(r"([0-9]{8}T[0-9]{6})\.([0-9]{3})Z\.backup")


class Age(NamedTuple):
    """Whether all is well, and what there is to say."""

    good: bool
    detail: str


class Kept(NamedTuple):
    """A backup in a directory, by the time in its name."""

    path: Path
    taken_ms: int


def name_of(taken_ms: int) -> str:
    moment = datetime.fromtimestamp(taken_ms / 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{taken_ms % 1000:03d}Z{SUFFIX}"


def kept_in(directory: Path) -> list[Kept]:
    """Finished backups, the oldest first; whatever else lies there is none."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is not None:
                with contextlib.suppress(ValueError):
                    moment = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
                    found.append(Kept(path, int(moment.timestamp()) * 1000 + int(match[2])))
    return sorted(found, key=lambda kept: kept.taken_ms)


def prune(directory: Path, keep_ms: int, now_ms: int) -> list[Path]:
    """Remove the backups that are older, never the newest one; which went."""
    old = [kept.path for kept in kept_in(directory)[:-1] if kept.taken_ms < now_ms - keep_ms]
    for path in old:
        path.unlink(missing_ok=True)
    if old:
        sync_directory(directory)
    return old


def age_of(directory: Path | None, now_ms: int) -> Age:
    """Of the backups in LEDGER_BACKUP_DIR, if that is set: how old they are, and how far back they reach."""
    if directory is None:
        return Age(False, "none are taken by this ledger (LEDGER_BACKUP_DIR): see deploy/runbooks/backup.md")
    kept = kept_in(directory)
    if not kept:
        return Age(False, f"none in {directory} yet: `consent-ledger backup`, and a timer for it")
    newest, oldest = (_ago(now_ms - each.taken_ms) for each in (kept[-1], kept[0]))
    detail = f"the newest was taken {newest} ago; the oldest {oldest} ago, so far back the erased are in backups"
    if now_ms - kept[-1].taken_ms > BACKUP_OLD_SECONDS * 1000:
        return Age(False, f"{detail}: does the timer run?")
    missing = ", ".join(name for name in BESIDE if not (directory / name).exists())
    if missing:
        return Age(False, f"{detail}; not beside them: {missing}: no backup can be restored without")
    return Age(True, detail)


def _ago(passed_ms: int) -> str:
    hours = max(0, passed_ms) // HOUR_MS
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """One backup at a time; what an earlier one left unfinished goes."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigInvalid(f"{directory} cannot be used for backups: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigInvalid(f"another backup into {directory} is under way: wait until it is done") from None
        for path in directory.glob(f"*{SUFFIX}{PARTIAL}"):
            path.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)
