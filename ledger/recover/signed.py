"""What was signed of a log, beside what there is of it, so that nothing is put back or given up against a checkpoint.

Whoever may write to the stream can drop, reorder or re-time what others signed, and no entry shows it; the tree head
that the anchor and the record in NATS hold does. It writes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import asyncpg

from ledger.bus import Bus
from ledger.checkpointer.records import Anchor, NatsRecord, RecordUnreachable
from ledger.config import EXPORT_RANGE_ENTRIES
from ledger.core.agreement import read_record
from ledger.core.errors import AuditFault
from ledger.core.key_history import key_history
from ledger.core.merkle import HASH_BYTES, Frontier, leaf_hash
from ledger.core.note import Checkpoint
from ledger.store.sites import SiteRow

_KEYS = "select entry from ledger.entry where site_id = $1 and (seq = 0 or ledger.entry_kind(entry) = 2) order by seq"
_ENTRIES = "select entry from ledger.entry where site_id = $1 and seq >= $2 order by seq limit $3"


class Signed(NamedTuple):
    """A checkpoint that a key of the log signed, and who keeps it."""

    place: str
    checkpoint: Checkpoint


async def read_signed(connection: asyncpg.Connection, bus: Bus, site: SiteRow, anchor: Path) -> list[Signed]:
    """What the anchor of this machine and the record in NATS know, the greatest first. What cannot be read, or is not
    signed by a key of the log, says nothing."""
    notes = {"the record in NATS": (await NatsRecord(site.origin).read(bus)).note}
    with contextlib.suppress(RecordUnreachable):
        notes[f"the anchor {anchor}"] = Anchor(anchor).read().note
    return await read_notes(connection, site, notes)


async def read_notes(connection: asyncpg.Connection, site: SiteRow, notes: Mapping[str, bytes | None]) -> list[Signed]:
    """The same of these, by who keeps each; empty ones are none."""
    entries = await key_entries(connection, site.site_id)
    keys = key_history(site.origin, entries[0], entries[1:]).set
    read = {place: read_record(note, site.origin, keys) for place, note in notes.items() if note}
    found = [Signed(place, record) for place, record in read.items() if isinstance(record, Checkpoint)]
    return sorted(found, key=lambda signed: -signed.checkpoint.size)


async def key_entries(connection: asyncpg.Connection, site_id: int) -> list[bytes]:
    """The entries of a log that say which keys count: its genesis and those of kind 2, in order."""
    return [row["entry"] for row in await connection.fetch(_KEYS, site_id)]


async def contradiction(
    connection: asyncpg.Connection, site: SiteRow, signed: list[Signed], leaves: bytes = b""
) -> AuditFault | None:
    """Rule 4: a checkpoint whose root is not that of the ledger's entries with `leaves` (hashes) behind them. Those
    over more than all that are left out."""
    frontier = Frontier()

    def add(leaf: bytes) -> AuditFault | None:
        frontier.add(leaf)
        for place, checkpoint in signed:
            if checkpoint.size == frontier.size and checkpoint.root != frontier.root():
                detail = f"the entries up to here are not those of the checkpoint that was signed ({place})"
                return AuditFault(4, detail, frontier.size - 1)
        return None

    while rows := await connection.fetch(_ENTRIES, site.site_id, frontier.size, EXPORT_RANGE_ENTRIES):
        for row in rows:
            if (fault := add(leaf_hash(row["entry"]))) is not None:
                return fault
    for start in range(0, len(leaves), HASH_BYTES):
        if (fault := add(leaves[start : start + HASH_BYTES])) is not None:
            return fault
    return None
