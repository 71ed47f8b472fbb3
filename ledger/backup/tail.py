"""What came after the backup, brought back byte for byte: of sites from their stream (where an erasure took a message
from it, with the entry in the journal of erasures), of administrative logs from the journal of acts. What can be
brought back from neither is told, and never passed over in silence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import asyncpg
import msgspec

from ledger.backup.journal import ActLine, ErasureLine, gone_of
from ledger.bus import Bus
from ledger.core.admin_act import AdminAct, decode_act, encode_act
from ledger.core.encoding import encode_base64, encode_time
from ledger.core.entry import Kind, commit_of, decode
from ledger.core.errors import AuditFault, NotFound, SealBroken
from ledger.core.merkle import leaf_hash
from ledger.core.sealing import Master
from ledger.core.tail import Ledger, Tail, TailEntry, TailMessage
from ledger.progress import Progress
from ledger.recover.recovery import Recovery
from ledger.recover.signed import Signed, contradiction, key_entries, read_notes
from ledger.secrets import SiteHasher
from ledger.store.sites import SiteRow
from ledger.vault import Vault, read_vault

_LAST = "select entry from ledger.entry where site_id = $1 order by seq desc limit 1"
_NOW_MS = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"
_RECOVER = "select ledger.recover_entries($1, $2, $3, $4, $5, $6, $7, $8)"
_BATCH = 100


class Brought(NamedTuple):
    """How many entries came back, and why not more, if there were more. `known`: how many a stream tells of."""

    entries: int
    refused: str | None
    known: int = 0


async def size_of(connection: asyncpg.Connection, site: SiteRow) -> int:
    last: bytes | None = await connection.fetchval(_LAST, site.site_id)
    return 0 if last is None else decode(last).seq + 1


async def from_stream(
    connection: asyncpg.Connection,
    bus: Bus,
    site: SiteRow,
    masters: Sequence[Master],
    journal: Iterable[ErasureLine],
    progress: Progress,
) -> Brought:
    """Verify what the stream holds beyond the log, and append it again (ledger/recover); over what was erased since,
    with the entries in the journal."""
    gone = gone_of(journal, site.origin, await size_of(connection, site))
    recovery = Recovery(connection, bus, site, masters, gone=gone)
    try:
        survey = await recovery.survey(progress)
    except NotFound:
        return Brought(0, None)
    if survey.end > survey.first:
        await recovery.append(survey, progress)
    refused = None if survey.refused is None else str(survey.refused)
    return Brought(survey.end - survey.first, refused, survey.last + 1)


async def from_acts(
    connection: asyncpg.Connection, site: SiteRow, lines: Sequence[ActLine], masters: Sequence[Master]
) -> Brought:
    """Append what the journal has behind the end of an administrative log: the longest chain from there, as far as it
    verifies as in an audit."""
    last: bytes | None = await connection.fetchval(_LAST, site.site_id)
    if last is None:
        return Brought(0, None)
    keys = await key_entries(connection, site.site_id)
    now_ms: int = await connection.fetchval(_NOW_MS)
    tail = Tail(Ledger(site.origin, last, keys, {}, frozenset(), now_ms))
    size, tip = tail.size, tail.tip
    vault = await read_vault(connection, site.site_id, masters)
    hasher = SiteHasher(vault.hasher_key)
    chain = _longest(lines, size, tip)
    found, refused = _verified(tail, chain, vault)
    rows = [(line.entry, *_filed(each, line, hasher)) for each, line in zip(found, chain, strict=False)]
    for at in range(0, len(rows), _BATCH):
        columns = [list(column) for column in zip(*rows[at : at + _BATCH], strict=True)]
        async with connection.transaction():
            await connection.execute(_RECOVER, site.site_id, size + at, tip, *columns)
        tip = leaf_hash(rows[min(at + _BATCH, len(rows)) - 1][0])
    return Brought(len(rows), None if refused is None else str(refused))


def _longest(lines: Sequence[ActLine], size: int, tip: bytes) -> list[ActLine]:
    """Of lines that may be of several continuations, or be there twice, those that follow upon the tip; the longest, if
    they part."""
    longest: dict[tuple[int, bytes], tuple[int, ActLine]] = {}
    for line in sorted(lines, key=lambda line: -line.seq):
        length = 1 + longest.get((line.seq + 1, leaf_hash(line.entry)), (0, line))[0]
        place = (line.seq, decode(line.entry).prev)
        if length > longest.get(place, (0, line))[0]:
            longest[place] = (length, line)
    chain: list[ActLine] = []
    while (following := longest.get((size, tip))) is not None:
        chain.append(following[1])
        size, tip = size + 1, leaf_hash(following[1].entry)
    return chain


def _verified(tail: Tail, chain: Sequence[ActLine], vault: Vault) -> tuple[list[TailEntry], AuditFault | None]:
    """Its entries up to the first that an audit would not take, and why not that one."""
    found: list[TailEntry] = []
    refused: AuditFault | None = None
    for at in range(0, len(chain), _BATCH):
        taken = tail.take([_message(line, vault) for line in chain[at : at + _BATCH]])
        found += taken.entries
        if taken.fault is not None:
            refused = taken.fault
            break
    end = tail.first + len(found)
    for each in reversed(found):
        if each.is_tombstone and each.seq < end <= tail.erased.get(each.seq, end):
            refused, end = AuditFault(12, "nothing opens it, and no entry says that it was erased", each.seq), each.seq
    return found[: end - tail.first], refused


def _message(line: ActLine, vault: Vault) -> TailMessage:
    """As a stream would hold it; without what its data key took along."""
    entry = encode_base64(line.entry)
    if line.sealed is not None:
        with contextlib.suppress(SealBroken):
            salt, payload = vault.open_opening(commit_of(line.entry), line.sealed)
            return TailMessage(entry, encode_base64(salt), payload)
    return TailMessage(entry, None, line.entry if decode(line.entry).kind == Kind.KEY else b"")


def _filed(
    entry: TailEntry, line: ActLine, hasher: SiteHasher
) -> tuple[bytes | None, bytes | None, bytes | None, bytes | None]:
    """By which key it is known, its opening, and how an act is filed (as `Administration.record` does)."""
    if entry.kind != Kind.EVENT:
        return None, line.sealed, None, None
    if entry.payload is None:
        return None, None, None, None
    act = decode_act(entry.payload)
    return hasher.event_id(act.id), line.sealed, hasher.visitor(act.actor), hasher.content(_told(act))


def _told(act: AdminAct) -> bytes:
    return encode_act(msgspec.structs.replace(act, occurred_at=encode_time(0)))


async def signed_elsewhere(
    connection: asyncpg.Connection, site: SiteRow, notes: Mapping[str, bytes]
) -> tuple[AuditFault | None, Signed | None]:
    """Whether the log contradicts one of these checkpoints, and the greatest of them, whoever keeps it."""
    signed = await read_notes(connection, site, notes)
    return await contradiction(connection, site, signed), signed[0] if signed else None
