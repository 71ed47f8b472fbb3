"""What came after the backup, brought back byte for byte: of sites from their stream, of administrative logs from the
journal beside the backups. What can be brought back from neither is told, and never passed over in silence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import asyncpg

from ledger.backup.journal import ActLine
from ledger.bus import Bus
from ledger.core.admin_act import decode_act
from ledger.core.agreement import read_record
from ledger.core.entry import Kind, commit_of, decode
from ledger.core.errors import AuditFault, NotFound, SealBroken
from ledger.core.key_history import key_history
from ledger.core.merkle import leaf_hash
from ledger.core.note import Checkpoint
from ledger.core.sealing import Master
from ledger.progress import Progress
from ledger.recover.recovery import Recovery
from ledger.recover.signed import Signed, contradiction
from ledger.secrets import SiteHasher
from ledger.store.sites import SiteRow
from ledger.vault import read_vault

_LAST = "select entry from ledger.entry where site_id = $1 order by seq desc limit 1"
_KEYS = "select entry from ledger.entry where site_id = $1 and (seq = 0 or ledger.entry_kind(entry) = 2) order by seq"
_RECOVER = "select ledger.recover_entries($1, $2, $3, $4, $5, $6, $7, $8)"
_BATCH = 100


class Brought(NamedTuple):
    """How many entries came back, and why not more, if there were more."""

    entries: int
    refused: str | None


async def size_of(connection: asyncpg.Connection, site: SiteRow) -> int:
    last: bytes | None = await connection.fetchval(_LAST, site.site_id)
    return 0 if last is None else decode(last).seq + 1


async def from_stream(
    connection: asyncpg.Connection, bus: Bus, site: SiteRow, masters: Sequence[Master], progress: Progress
) -> Brought:
    """Verify what the stream holds beyond the log, and append it again (ledger/recover)."""
    recovery = Recovery(connection, bus, site, masters)
    try:
        survey = await recovery.survey(progress)
    except NotFound:
        return Brought(0, None)
    if survey.end > survey.first:
        await recovery.append(survey, progress)
    return Brought(survey.end - survey.first, None if survey.refused is None else str(survey.refused))


async def from_acts(
    connection: asyncpg.Connection, site: SiteRow, lines: Sequence[ActLine], masters: Sequence[Master]
) -> Brought:
    """Append what the journal has behind the end of an administrative log: the longest chain from there."""
    last: bytes | None = await connection.fetchval(_LAST, site.site_id)
    if last is None:
        return Brought(0, None)
    size = decode(last).seq + 1
    chain = _longest(lines, size, leaf_hash(last))
    vault = await read_vault(connection, site.site_id, masters)
    hasher = SiteHasher(vault.hasher_key)
    for at in range(0, len(chain), _BATCH):
        batch = chain[at : at + _BATCH]
        keys = []
        for line in batch:
            key = None
            if line.sealed is not None and decode(line.entry).kind == Kind.EVENT:
                with contextlib.suppress(SealBroken):  # its data key was destroyed: nobody knows the id any more
                    _, payload = vault.open_opening(commit_of(line.entry), line.sealed)
                    key = hasher.event_id(decode_act(payload).id)
            keys.append(key)
        async with connection.transaction():
            await connection.execute(
                _RECOVER,
                site.site_id,
                size,
                leaf_hash(last),
                [line.entry for line in batch],
                keys,
                [line.sealed for line in batch],
                [line.visitor for line in batch],
                [line.content for line in batch],
            )
        size, last = size + len(batch), batch[-1].entry
    return Brought(len(chain), None)


def _longest(lines: Sequence[ActLine], size: int, tip: bytes) -> list[ActLine]:
    """Of lines that may be of several continuations, those that follow upon the tip; the longest, if they part."""
    after: dict[tuple[int, bytes], list[ActLine]] = {}
    for line in lines:
        if line.seq >= size:
            after.setdefault((line.seq, decode(line.entry).prev), []).append(line)
    best: list[ActLine] = []
    waiting = [([], size, tip)] if after else []  # type: list[tuple[list[ActLine], int, bytes]]
    while waiting:
        chain, at, end = waiting.pop()
        following = after.get((at, end), [])
        if not following and len(chain) > len(best):
            best = chain
        waiting += [([*chain, line], at + 1, leaf_hash(line.entry)) for line in following]
    return best


async def signed_elsewhere(
    connection: asyncpg.Connection, site: SiteRow, notes: Mapping[str, bytes]
) -> tuple[AuditFault | None, Signed | None]:
    """Whether the log contradicts one of these checkpoints, and the greatest of them, whoever keeps it."""
    entries = [row["entry"] for row in await connection.fetch(_KEYS, site.site_id)]
    keys = key_history(site.origin, entries[0], entries[1:]).set
    read = {place: read_record(note, site.origin, keys) for place, note in notes.items() if note}
    signed = sorted(
        (Signed(place, record) for place, record in read.items() if isinstance(record, Checkpoint)),
        key=lambda each: -each.checkpoint.size,
    )
    return await contradiction(connection, site, signed), signed[0] if signed else None
