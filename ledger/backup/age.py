"""How old backups are, and how far back they reach: what `doctor` tells of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ledger.backup.folder import ERASURES, KEYRING, kept_in
from ledger.config import BACKUP_OLD_SECONDS

_HOUR_MS = 3_600_000


class Age(NamedTuple):
    """Whether all is well, and what there is to say."""

    good: bool
    detail: str


def age_of(directory: Path | None, now_ms: int) -> Age:
    """Of the backups in LEDGER_BACKUP_DIR, if that is set."""
    if directory is None:
        return Age(False, "none are taken by this ledger (LEDGER_BACKUP_DIR): see deploy/runbooks/backup.md")
    kept = kept_in(directory)
    if not kept:
        return Age(False, f"none in {directory} yet: `consent-ledger backup`, and a timer for it")
    newest, oldest = (_ago(now_ms - each.taken_ms) for each in (kept[-1], kept[0]))
    detail = f"the newest was taken {newest} ago; the oldest {oldest} ago, so far back the erased are in backups"
    if now_ms - kept[-1].taken_ms > BACKUP_OLD_SECONDS * 1000:
        return Age(False, f"{detail}: does the timer run?")
    missing = [name for name in (KEYRING, ERASURES) if not (directory / name).exists()]
    if missing:
        return Age(False, f"{detail}; {' and '.join(missing)} not beside them: no backup can be restored without")
    return Age(True, detail)


def _ago(passed_ms: int) -> str:
    hours = max(0, passed_ms) // _HOUR_MS
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"
