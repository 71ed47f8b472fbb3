"""`consent-ledger export`: a site's log, with its openings and documents, as a bundle that anybody can verify.

It writes what is stored, byte for byte, and judges nothing but the chain: a checkpoint is signed only over entries
that follow from each other. If they do not, the bundle is written all the same, without a signature, so that `verify`
can say what is wrong.

One moment without one long transaction. Entries never change, openings vanish with an erasure. So ranges are read in
one short statement each, until one of them reaches the head as that same statement sees it: there the export ends, and
whatever is missing is explained by an erasure entry that is inside. What was read before and erased meanwhile is known
from the erasure entries too, and taken out again; so nothing erased leaves in an export either.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg
import click
import msgspec
from msgspec import Struct

from ledger.bundle import Writer
from ledger.config import EXPORT_RANGE_ENTRIES, READ_TIMEOUT_SECONDS, Settings
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import ZEROS, Entry, Kind, decode, decode_seqs
from ledger.core.errors import ConfigInvalid, LedgerError, Malformed, NotFound
from ledger.core.keys import KeySet, decode_genesis
from ledger.core.merkle import HASH_BYTES
from ledger.core.note import TYPE_ED25519, Checkpoint, VerifierKey, sign_checkpoint
from ledger.core.opening import Opening
from ledger.key_files import log_keys
from ledger.progress import Progress, bar
from ledger.store.pool import open_pool

_SITE = "select site_id, origin from ledger.site where site = $1"

# One statement, so one snapshot: the head it names is the head at which its openings were there, or gone.
_RANGE = """
select e.seq, e.entry, o.salt, o.payload,
       (select h.seq + 1 from ledger.entry h where h.site_id = $1 order by h.seq desc limit 1) as head
  from ledger.entry e left join ledger.opening o on o.site_id = e.site_id and o.seq = e.seq
 where e.site_id = $1 and e.seq > $2 order by e.seq limit $3
"""

_DOCUMENT = "select body from ledger.document where hash = $1"


class Exported(NamedTuple):
    """What was written. `problem` says why the checkpoint is not signed; `erased` counts what was taken out again."""

    directory: Path
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


async def export(
    pool: asyncpg.Pool, site: str, log_keys: Sequence[SigningKey], directory: Path, progress: Progress
) -> Exported:
    """Write a site's bundle, signed by those of `log_keys` that are active. All or nothing: DIR is whole, or absent."""
    row = await pool.fetchrow(_SITE, site)
    if row is None:
        raise NotFound(f"this ledger has no site {site}")
    writer = Writer(directory)
    try:
        return await _Export(pool, row["site_id"], row["origin"], log_keys, writer, progress).run()
    except BaseException:
        writer.abandon()
        raise


class _Export:
    """One export."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        site_id: int,
        origin: str,
        log_keys: Sequence[SigningKey],
        writer: Writer,
        progress: Progress,
    ) -> None:
        self.pool = pool
        self.site_id = site_id
        self.log_keys = {VerifierKey(origin, TYPE_ED25519, key.public): key for key in log_keys}
        self.writer = writer
        self.progress = progress
        self.chain = _Chain(origin)
        self.documents: set[bytes] = set()
        self.range_starts: list[int] = []
        self.range_heads: list[int] = []
        self.forgotten: set[int] = set()

    async def run(self) -> Exported:
        last, head = -1, 0
        while rows := await self.pool.fetch(_RANGE, self.site_id, last, EXPORT_RANGE_ENTRIES):
            head = rows[0]["head"]
            self.range_starts.append(rows[0]["seq"])
            self.range_heads.append(head)
            for row in rows:
                await self.take(row)
            last = rows[-1]["seq"]
            self.progress(self.writer.size, head)
            if last + 1 == head:
                break
        if not self.writer.size:
            raise NotFound("the log is empty: there is nothing to export yet")
        checkpoint = Checkpoint(self.chain.origin, self.writer.size, self.writer.root())
        if self.chain.problem is None:
            checkpoint = self.sign(checkpoint)
        self.writer.finish(checkpoint.encode(), self.forgotten)
        return Exported(
            self.writer.directory,
            self.writer.size,
            self.chain.log_id,
            str(self.signers()[0] if self.signers() else next(iter(self.log_keys))),
            len(self.forgotten),
            self.chain.problem,
        )

    def sign(self, checkpoint: Checkpoint) -> Checkpoint:
        if not self.signers():
            raise ConfigInvalid("no log key on this machine is active in the log: none can sign the checkpoint")
        for vkey in self.signers():
            checkpoint = sign_checkpoint(checkpoint, vkey, self.log_keys[vkey])
        return checkpoint

    def signers(self) -> list[VerifierKey]:
        """The active log keys that are at hand, oldest first."""
        return [vkey for vkey in self.chain.keys.log_keys if vkey in self.log_keys] if self.chain.keys else []

    async def take(self, row: asyncpg.Record) -> None:
        entry = self.chain.take(row["entry"], self.writer.entry(row["entry"]))
        if row["payload"] is not None:
            self.writer.opening(Opening(row["seq"], row["salt"], row["payload"]))
            await self.take_shown(row["payload"])
        if entry is not None and entry.kind == Kind.POLICY:
            await self.take_document(entry.public[:HASH_BYTES])
        elif entry is not None and entry.kind == Kind.ERASURE:
            self.forget(entry)

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
        if body is not None:
            self.writer.document(digest, body)


async def _export(settings: Settings, site: str, directory: Path, progress: Progress) -> Exported:
    keys = log_keys(settings, site)
    pool = await open_pool(settings.database_url, size=1, timeout_seconds=READ_TIMEOUT_SECONDS)
    try:
        return await export(pool, site, keys, directory, progress)
    finally:
        await pool.close()


def run_export(settings: Settings, site: str, directory: Path) -> int:
    """The command. It answers for the writing alone (0): whether the log is sound is `verify`'s to say."""
    with bar("Exporting", "entries") as progress:
        done = asyncio.run(_export(settings, site, directory, progress))
    click.echo(f"{done.size:,} entries of {site} are in {directory}")
    if done.erased:
        click.echo(f"{done.erased:,} events were erased meanwhile, and taken out again")
    if done.problem is not None:
        click.echo(
            f"warning: the checkpoint is NOT signed, the stored log is broken: {done.problem}. `verify` tells more.",
            err=True,
        )
    click.echo(f"consent-ledger verify {directory} --log-vkey {done.log_vkey} --log-id {done.log_id.hex()}")
    return 0
