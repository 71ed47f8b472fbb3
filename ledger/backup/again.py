"""Who was forgotten since the backup is forgotten again: from the journal beside it, by new erasure entries.

Needed where the stream does not bring the erasures themselves back. A line of the journal names positions and the
beginning of each event's leaf hash, so that what it names is what was meant, in whatever continuation of the log. Whose
word a line is shows its signature: who may write beside the backups has nobody erased.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import asyncpg

from ledger.administration import Act, Administration, named
from ledger.backup.journal import ErasureLine
from ledger.core import ed25519
from ledger.core.encoding import decode_json, decode_time
from ledger.core.entry import MAX_ERASED_SEQS, Kind, commit_of, commitment, core_bytes, decode, key_hash
from ledger.core.erasing import events_hash
from ledger.core.errors import BadSignature, ConfigInvalid, LedgerError, SealBroken
from ledger.core.key_history import key_history
from ledger.core.merkle import leaf_hash
from ledger.erasing.execution import Record, append_erasure, erase_seqs
from ledger.erasing.messages import Reason
from ledger.recover.signed import key_entries
from ledger.site import Site
from ledger.store.append import Outcome
from ledger.store.erase import Effects
from ledger.store.sites import SiteRow

_OPEN = """
select e.seq from unnest($2::bigint[], $3::bytea[]) u(seq, leaf)
  join ledger.entry e on e.site_id = $1 and e.seq = u.seq
  join ledger.opening o on o.site_id = $1 and o.seq = u.seq and o.visitor is not null
 where substring(ledger.leaf_hash(e.entry) from 1 for octet_length(u.leaf)) = u.leaf order by e.seq
"""
_RENAME = "update ledger.erasure_entry set seq = $3 where site_id = $1 and seq = $2"
_ATTEMPTS = 3


class Again(NamedTuple):
    """How many events went, in how many erasure entries."""

    events: int
    entries: int


async def erase_again(
    connection: asyncpg.Connection,
    administration: Administration,
    row: SiteRow,
    site: Site,
    lines: Iterable[ErasureLine],
    actor: str,
    keys: Iterable[bytes] = (),
) -> Again:
    """Every event that a line names and that is open in this log goes; run again, it finds what is left.

    `keys`: public ingest keys whose files are here, for one that was introduced after the backup is not in the log.
    `ConfigInvalid` for a line that no ingest key of the log signed, before anything of it is done.
    """
    found = await key_entries(connection, row.site_id)
    history = key_history(row.origin, found[0], found[1:])
    signers = {key_hash(term.public): term.public for term in history.terms if term.role == "ingest"}
    signers |= {key_hash(public): public for public in keys}
    events = entries = 0
    for line in lines:
        if line.origin != row.origin:
            continue
        for _ in range(_ATTEMPTS):
            seqs = await _open_of(connection, row, line)
            if not seqs:
                break
            _check_signed(history.log_id, signers, line)
            done = await _erase(administration, site, line, seqs, actor)
            if done is not None:
                await connection.execute(_RENAME, row.site_id, -line.seq, done)
                events, entries = events + len(seqs), entries + 1
        else:
            raise ConfigInvalid(f"entry {line.seq} of the journal cannot be carried out again: stop every server first")
    return Again(events, entries)


def _check_signed(log_id: bytes, signers: Mapping[bytes, bytes], line: ErasureLine) -> None:
    entry = decode(line.entry)
    public = signers.get(entry.signer)
    if public is None:
        raise ConfigInvalid(
            f"the erasure at entry {line.seq} in the journal is signed by an ingest key that neither the log nor a key "
            "file here knows: put the file of that key back beside the others. Nothing was erased by it"
        )
    try:
        if entry.kind != Kind.ERASURE:
            raise BadSignature("it is no erasure")
        ed25519.verify(public, core_bytes(log_id, entry.kind, entry.commit, entry.public), entry.signature)
    except BadSignature as error:
        raise ConfigInvalid(
            f"the erasure at entry {line.seq} in the journal is not as the ledger signed it: somebody altered the file "
            "beside the backups. Put back a copy that is whole. Nothing was erased by it"
        ) from error


async def still_open(connection: asyncpg.Connection, row: SiteRow, lines: Iterable[ErasureLine]) -> int:
    """How many events were erased since the backup, and are here again."""
    found: set[int] = set()
    for line in lines:
        if line.origin == row.origin:
            found.update(await _open_of(connection, row, line))
    return len(found)


async def _open_of(connection: asyncpg.Connection, row: SiteRow, line: ErasureLine) -> list[int]:
    positions = line.positions()
    assert len(positions) <= MAX_ERASED_SEQS
    rows = await connection.fetch(_OPEN, row.site_id, [p[0] for p in positions], [p[1] for p in positions])
    return [each["seq"] for each in rows]


async def _erase(
    administration: Administration, site: Site, line: ErasureLine, seqs: Sequence[int], actor: str
) -> int | None:
    salt, payload = site.vault.open_opening(commit_of(line.entry), line.sealed)
    if commitment(salt, payload) != commit_of(line.entry):
        raise ConfigInvalid(f"the record of the erasure at entry {line.seq} in the journal is another's")
    record = cast("dict[str, str]", decode_json(payload))
    try:
        reason, evidence = cast(Reason, record["reason"]), record["evidence"]
        requested_ms = decode_time(record["requestedAt"])
    except (KeyError, LedgerError) as error:
        raise ConfigInvalid(f"the record of the erasure at entry {line.seq} in the journal cannot be read") from error
    # The same act, however often this is begun: which line it is about, and what was left of it.
    act_id = str(uuid.UUID(bytes=leaf_hash(line.entry + bytes.fromhex(events_hash(seqs)))[:16], version=5))
    details = {"reason": reason, "evidence": evidence, "count": str(len(seqs)), "events": events_hash(seqs)}
    instruction = f"carried out again after a restore; entry {decode(line.entry).seq} of the log before"
    act = Act("erasure.executed", actor, "ledger", instruction, details)
    receipt = await administration.record(site.site, act, act_id=act_id)
    try:
        return await erase_seqs(
            site, seqs, reason=reason, evidence=evidence, act=named(receipt), requested_ms=requested_ms
        )
    except SealBroken:  # their data key was destroyed since: nobody can read them, and they go all the same
        appended = await append_erasure(site, seqs, Record(reason, requested_ms, evidence, named(receipt)), Effects())
        return None if appended.outcome == Outcome.OVERTAKEN else appended.seq
