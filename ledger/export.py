"""`consent-ledger export`: a site's log, with its openings and documents, as a bundle that anybody can verify.

It writes what is stored, byte for byte, and signs nothing: the bundle stands under a checkpoint that the checkpointer
signed, of a size that covers whatever was in the log when the export began. It judges nothing but the chain. If that
is broken, the bundle is written all the same, so that `verify` can say what is wrong; and where the checkpointer
refuses to sign for that very reason, under a checkpoint without a signature.

One moment without one long transaction. Entries never change, openings vanish with an erasure. So ranges are read in
one short statement each, up to the checkpoint's size. An erasure entry beyond that size would leave an event neither
opened nor erased; so the statement that reads the last range looks for one too, and if there is one, the export goes
on to a later checkpoint. Then whatever is missing is explained by an erasure entry that is inside. What was read before
and erased meanwhile is known from the erasure entries too, and taken out again; so nothing erased leaves in an export
either.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec
from msgspec import Struct

from ledger.bundle import Writer
from ledger.config import EXPORT_RANGE_ENTRIES, EXPORT_WAIT_SECONDS
from ledger.core.entry import ZEROS, Entry, Kind, commit_of, decode, decode_seqs
from ledger.core.errors import BadSignature, LedgerError, Malformed, NotFound, SealBroken, Unavailable
from ledger.core.keys import KeySet, decode_genesis
from ledger.core.merkle import HASH_BYTES
from ledger.core.note import Checkpoint, parse_checkpoint
from ledger.core.opening import Opening
from ledger.core.policy import documents_named_in
from ledger.covering import Covering, Refused
from ledger.progress import Progress
from ledger.store.log import CheckpointRow
from ledger.vault import Vault, Vaults

_SITE = "select site_id, origin from ledger.site where site = $1"

_HEAD = "select coalesce(max(e.seq) + 1, 0) from ledger.entry e where e.site_id = $1"

# One statement, so one snapshot: the head it names is the head at which its openings were there, or gone, and `needed`
# the size at which every erasure so far, of what lies below $3, is inside.
_RANGE = """
select e.seq, e.entry, o.sealed,
       (select h.seq + 1 from ledger.entry h where h.site_id = $1 order by h.seq desc limit 1) as head,
       (select max(r.by_seq) + 1 from ledger.erased r
         where r.site_id = $1 and r.by_seq >= $3 and r.seq < $3) as needed
  from ledger.entry e left join ledger.opening o on o.site_id = e.site_id and o.seq = e.seq
 where e.site_id = $1 and e.seq > $2 and e.seq < $3 order by e.seq limit $4
"""

_DOCUMENT = "select body from ledger.document where hash = $1"


class Exported(NamedTuple):
    """What was written. `problem` says what is wrong with the log; `erased` counts what was taken out again.

    `log_vkey` is an active log key that signed the checkpoint; empty if there is none.
    """

    size: int
    log_id: bytes
    log_vkey: str
    erased: int
    problem: str | None


class _Shown(Struct):
    """The one member of a payload that matters here."""

    shown: str | None = None


_shown = msgspec.json.Decoder(_Shown)


class _Chain:
    """Whether stored entries follow from each other, and which keys count at their end."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.log_id = b""
        self.keys: KeySet | None = None
        self.problem: str | None = None
        self._size = 0
        self._tip = ZEROS
        self._ms = 0

    def take(self, data: bytes, leaf: bytes) -> Entry | None:
        """The next entry, parsed; the first thing that is wrong is kept as `problem`."""
        index, tip = self._size, self._tip
        self._size, self._tip = index + 1, leaf
        try:
            entry = decode(data)
            if entry.seq != index:
                raise Malformed(f"it claims seq {entry.seq}")
            if entry.prev != tip:
                raise Malformed("it does not follow from the entry before")
            if entry.ms < self._ms:
                raise Malformed("its time is before the entry before")
            self._ms = entry.ms
            if index == 0:
                self.log_id = leaf
                self.keys = KeySet(self.origin, leaf, decode_genesis(entry.public, self.origin))
            elif entry.kind == Kind.KEY and self.keys is not None:
                self.keys.apply(entry.public)
        except LedgerError as error:
            self.problem = self.problem or f"entry {index}: {error}"
            return None
        return entry

    def signer_of(self, checkpoint: Checkpoint | None) -> str:
        """The vkey of the first active log key that signed; empty if none did."""
        if checkpoint is None or self.keys is None:
            return ""
        for vkey in self.keys.log_keys:
            with suppress(BadSignature):
                if checkpoint.signed_by(vkey):
                    return str(vkey)
        return ""


async def export(
    pool: asyncpg.Pool,
    vaults: Vaults,
    site: str,
    directory: Path,
    progress: Progress,
    *,
    wait_seconds: float = EXPORT_WAIT_SECONDS,
    at_checkpoint: int | None = None,
) -> Exported:
    """Write the bundle of a site. All or nothing: DIR is complete, or not there.

    `at_checkpoint`: the size of a kept checkpoint to take instead of one that covers the log as it is now.
    `Unavailable` if there is no checkpoint to be had in time.
    """
    row = await pool.fetchrow(_SITE, site)
    if row is None:
        raise NotFound(f"this ledger has no site {site}")
    writer = Writer(directory)
    try:
        covering = Covering(pool, row["site_id"], wait_seconds)
        return await _Export(pool, vaults, row["site_id"], row["origin"], covering, writer, progress).run(at_checkpoint)
    except BaseException:
        writer.abandon()
        raise


class _Export:
    """One export."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        vaults: Vaults,
        site_id: int,
        origin: str,
        covering: Covering,
        writer: Writer,
        progress: Progress,
    ) -> None:
        self.pool = pool
        self.vaults = vaults
        self.vault: Vault
        self.site_id = site_id
        self.covering = covering
        self.writer = writer
        self.progress = progress
        self.chain = _Chain(origin)
        self.documents: set[bytes] = set()
        self.range_starts: list[int] = []
        self.range_heads: list[int] = []
        self.forgotten: set[int] = set()
        self.last = -1

    async def run(self, at_checkpoint: int | None) -> Exported:
        head: int = await self.pool.fetchval(_HEAD, self.site_id)
        if not head:
            raise NotFound("the log is empty: there is nothing to export yet")
        self.vault = await self.vaults.of(self.site_id)
        if at_checkpoint is None:
            found = await self.covering.at_least(head)
        else:
            found = await self.covering.exactly(at_checkpoint)
        while not isinstance(found, Refused) and (needed := await self.read_to(found.size)):
            if at_checkpoint is not None:
                raise Unavailable(
                    "no-checkpoint",
                    f"Events below {at_checkpoint} were erased by entries beyond it, so that no sound bundle of this "
                    "size can be made any more: take a later checkpoint.",
                )
            found = await self.covering.at_least(needed)
        if isinstance(found, Refused):
            await self.read_to_head()
            broken = f" ({self.chain.problem})" if self.chain.problem else ""
            self.chain.problem = f"the checkpoint is NOT signed, for the checkpointer refuses: {found.why}{broken}"
            return await self.finish(None)
        return await self.finish(found)

    async def read_to(self, size: int) -> int | None:
        """Every entry below `size`. The size that is needed, if an erasure of what was read lies beyond this one."""
        needed: int | None = None
        while rows := await self.pool.fetch(_RANGE, self.site_id, self.last, size, EXPORT_RANGE_ENTRIES):
            self.range_starts.append(rows[0]["seq"])
            self.range_heads.append(rows[0]["head"])
            for row in rows:
                await self.take(row)
            self.last = rows[-1]["seq"]
            self.progress(self.writer.size, size)
            needed = rows[0]["needed"] if (rows[0]["needed"] or 0) <= rows[0]["head"] else None
            if self.last + 1 >= size:
                break
        return needed

    async def read_to_head(self) -> None:
        """Whatever there is, as far as the statement that reads it last sees."""
        size: int = await self.pool.fetchval(_HEAD, self.site_id)
        while needed := await self.read_to(size):
            size = needed

    async def finish(self, found: CheckpointRow | None) -> Exported:
        """The bundle under this checkpoint; None: under one without a signature."""
        root, chain = self.writer.root(), self.chain
        note = Checkpoint(chain.origin, self.writer.size, root).encode() if found is None else found.note
        try:
            checkpoint = None if found is None else parse_checkpoint(note)
        except Malformed as error:
            checkpoint = None
            chain.problem = chain.problem or f"the stored checkpoint cannot be read: {error}"
        if checkpoint is not None and (checkpoint.size, checkpoint.root) != (self.writer.size, root):
            chain.problem = chain.problem or "the stored entries are not those that the checkpoint covers"
        for kept in await self.covering.kept(self.writer.size):
            self.writer.kept_checkpoint(kept.size, kept.note)
        self.writer.finish(note, self.forgotten)
        return Exported(self.writer.size, chain.log_id, chain.signer_of(checkpoint), len(self.forgotten), chain.problem)

    async def take(self, row: asyncpg.Record) -> None:
        entry = self.chain.take(row["entry"], self.writer.entry(row["entry"]))
        opening = self.opening_of(row)
        if opening is not None:
            self.writer.opening(opening)
            await self.take_shown(opening.payload)
        if entry is not None and entry.kind == Kind.POLICY:
            await self.take_document(entry.public[:HASH_BYTES])
        elif entry is not None and entry.kind == Kind.ERASURE:
            self.forget(entry)

    def opening_of(self, row: asyncpg.Record) -> Opening | None:
        """Salt and payload of an entry that has them. Altered ones are left out, and `verify` finds them missing."""
        if row["sealed"] is None:
            return None
        try:
            return Opening(row["seq"], *self.vault.open_opening(commit_of(row["entry"]), row["sealed"]))
        except SealBroken as error:
            self.chain.problem = self.chain.problem or f"the opening of entry {row['seq']} is left out: {error}"
            return None

    def forget(self, erasure: Entry) -> None:
        """What this erasure names was written above if its range was read before the erasure was there.

        Otherwise it was gone by then; and if it was not, that is for `verify` to find, not for us to tidy up.
        """
        try:
            named = decode_seqs(erasure.public)
        except Malformed:
            return
        for seq in named:
            index = bisect_right(self.range_starts, seq) - 1
            if seq < erasure.seq and index >= 0 and erasure.seq >= self.range_heads[index]:
                self.forgotten.add(seq)

    async def take_shown(self, payload: bytes) -> None:
        try:
            shown = _shown.decode(payload).shown
            digest = b"" if shown is None else bytes.fromhex(shown)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            return  # stored otherwise than it was appended: `verify` tells
        if len(digest) == HASH_BYTES:
            await self.take_document(digest)

    async def take_document(self, digest: bytes) -> None:
        if digest in self.documents:
            return
        self.documents.add(digest)
        body = await self.pool.fetchval(_DOCUMENT, digest)
        if body is None:
            return  # `verify` tells
        self.writer.document(digest, body)
        for named in documents_named_in(body):
            await self.take_document(bytes.fromhex(named))
