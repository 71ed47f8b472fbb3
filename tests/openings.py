"""What tests see of stored openings: salt and payload in clear, opened with the site's own keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from ledger.core.entry import commit_of
from ledger.core.sealing import Master
from ledger.vault import Fetches, Vault, read_vault


def opened(vault: Vault, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `entry` and `sealed`, with `salt` and `payload` (None where there is no opening)."""
    salt, payload = (None, None)
    if row["sealed"] is not None:
        salt, payload = vault.open_opening(commit_of(row["entry"]), row["sealed"])
    return {**row, "salt": salt, "payload": payload}


async def opening_at(
    connection: Fetches, masters: Sequence[Master], seq: int, site_id: int = 1
) -> tuple[bytes, bytes] | None:
    """Salt and payload of one entry; None where there is no opening."""
    vault = await read_vault(connection, site_id, masters)
    row = (await connection.fetch(_AT, site_id, seq))[0]
    return None if row["sealed"] is None else vault.open_opening(commit_of(row["entry"]), row["sealed"])


_AT = """
select e.entry, o.sealed from ledger.entry e left join ledger.opening o using (site_id, seq)
 where e.site_id = $1 and e.seq = $2
"""


async def reseal(
    connection: asyncpg.Connection, masters: Sequence[Master], seq: int, payload: bytes, site_id: int = 1
) -> None:
    """Put another payload beside an entry, sealed as it should be: what somebody with every secret could do."""
    vault = await read_vault(connection, site_id, masters)
    row = (await connection.fetch(_AT, site_id, seq))[0]
    commit = commit_of(row["entry"])
    salt, _ = vault.open_opening(commit, row["sealed"])
    sealed = vault.seal_opening(commit, salt, payload)
    update = "update ledger.opening set sealed = $3 where site_id = $1 and seq = $2"
    await connection.execute(update, site_id, seq, sealed)
