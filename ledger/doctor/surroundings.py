"""What lies outside the database: the stream, the proxies, the backups, and files that a killed command left behind."""

from __future__ import annotations

import time

import nats
import nats.errors

from ledger import config, spool
from ledger.backup.folder import age_of
from ledger.config import Settings
from ledger.doctor.finding import Finding, advice, bad, good

_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


async def stream(settings: Settings) -> Finding:
    """Whether NATS answers, with JetStream."""
    if not settings.nats_url:
        return advice("NATS", "not set up: nothing is published until LEDGER_NATS_URL is set")
    timeout = int(config.CONNECT_TIMEOUT_SECONDS)
    try:
        client = await nats.connect(settings.nats_url, connect_timeout=timeout, allow_reconnect=False)
    except (OSError, TimeoutError, nats.errors.Error) as error:
        return bad("NATS", f"does not answer ({type(error).__name__}): events are kept, and published later")
    try:
        account = await client.jetstream().account_info()
        return good("NATS", f"JetStream answers, {account.streams} streams")
    except (TimeoutError, nats.errors.Error) as error:
        return bad("NATS", f"JetStream does not answer ({type(error).__name__}): is it enabled?")
    finally:
        await client.close()


def callers(settings: Settings) -> Finding:
    """Whether those who call are told apart: requests of people are bounded by address."""
    if settings.trusted_proxies:
        return good("callers", "told apart by what trusted proxies say")
    if settings.host in _LOOPBACK_HOSTS and settings.demo is None:
        return advice(
            "callers",
            "the server listens on this machine alone: if a proxy is in front, name it in LEDGER_TRUSTED_PROXIES, or "
            "all people who ask about their data count as one caller, of which few are answered at once",
        )
    return good("callers", "told apart by their addresses; a proxy in front has to be in LEDGER_TRUSTED_PROXIES")


def backups(settings: Settings) -> Finding:
    """Whether they are taken, and are whole with what lies beside them."""
    age = age_of(settings.backup_dir, time.time_ns() // 1_000_000)
    if settings.backup_dir is not None and settings.backup_keep_ms is None:
        return advice("backups", f"{age.detail}; LEDGER_BACKUP_KEEP is not set, so no certificate tells until when")
    return (good if age.good else advice)("backups", age.detail)


def temporary_files() -> Finding:
    """Whether any holds openings that should be gone."""
    left = ", ".join(map(str, spool.left()))
    if left:
        detail = f"{left}: of an export that was killed, with openings in it: remove it (the next export does)"
        return advice("temporary files", detail)
    return good("temporary files", "nothing was left behind by commands that were killed")
