"""`verify --live`: what the database derives from the log, row by row against a log that was verified.

Beside the log, a ledger keeps rows that answer questions faster: each visitor's folded state, where an id was
recorded, what was erased, which keys and policies count, tiles and checkpoints. Whoever edits them changes answers
and leaves the log alone. Everything of them is made anew here, naively, from the entries and openings of the bundle,
and compared. Rows of entries beyond the bundle are left to the next audit. It changes nothing, and names no visitor:
a row is called by its seq, or by the beginning of the keyed hash that stands in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import asyncpg

from ledger.bundle import CHECKPOINT, PAYLOADS, OpeningLines, Source
from ledger.config import LIVE_MAX_DIFFERENCES, LIVE_PAGE_VISITORS
from ledger.core.admin_act import decode_logged
from ledger.core.decide import EMPTY_STATE, encode_state, fold
from ledger.core.encoding import MAX_INT
from ledger.core.entry import Entry, Kind, core_bytes, decode, decode_seqs, key_hash, origin_hash
from ledger.core.errors import BadSignature, LedgerError, Malformed, NotFound, SealBroken
from ledger.core.event import Event
from ledger.core.faults import Faults
from ledger.core.keys import INTRODUCE_INGEST, RETIRE_INGEST, KeySet, decode_genesis
from ledger.core.lapse import NOTHING_TOLD, encode_told, fold_told
from ledger.core.merkle import HASH_BYTES, leaf_hash
from ledger.core.note import MAX_CHECKPOINT_BYTES, Checkpoint, parse_checkpoint
from ledger.core.opening import Opening, decode_line, split_lines
from ledger.core.tile import ENTRIES, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile, decode_bundle
from ledger.core.tree import HashTile, TileTree
from ledger.progress import Progress
from ledger.secrets import SiteHasher
from ledger.site import recorded
from ledger.store.log import kept_checkpoints
from ledger.store.reads import event_rows
from ledger.vault import Vault, Vaults

_SITE = "select site_id from ledger.site where origin = $1"

_RANGE = """
select e.seq, e.entry, o.sealed, o.visitor, r.by_seq
  from ledger.entry e
  left join ledger.opening o on o.site_id = e.site_id and o.seq = e.seq
  left join ledger.erased r on r.site_id = e.site_id and r.seq = e.seq
 where e.site_id = $1 and e.seq >= $2 and e.seq < $3 order by e.seq
"""
_KNOWN = """
select d.i - 1 as i, k.seq from unnest($2::bytea[]) with ordinality d(key, i)
  left join lateral (select s.seq from ledger.known s where s.site_id = $1 and s.key = d.key offset 0) k on true
"""
_KNOWN_COUNT = "select count(*) from ledger.known where site_id = $1 and seq < $2"
_STRAY = """
select (select count(*) from ledger.opening where site_id = $1 and seq < $2) as openings,
       (select count(*) from ledger.erased where site_id = $1 and by_seq < $2) as erased
"""
_POLICIES = "select version, seq, document from ledger.policy where site_id = $1 and seq < $2"
_DOCUMENTS = "select hash from ledger.document where hash = any ($1::bytea[]) and sha256(body) = hash"
_SIGNERS = "select key_hash, role, public, since, until from ledger.signer where site_id = $1 and since < $2"
_TILES = "select level, n, hashes from ledger.tile where site_id = $1 and level = $2 and n = any ($3::bigint[])"
_TILE_COUNT = "select count(*) from ledger.tile where site_id = $1 and (n + 1) << (8 * (level + 1)) <= $2"

# A row is right if it is the fold of the visitor's events up to its own seq: whoever reads folds what comes after.
_STATES = """
select t.visitor, t.seq, t.body, t.told, r.seqs, r.entries, r.sealed,
       t.seq > p.position or t.seq >= (select max(h.seq) + 1 from ledger.entry h where h.site_id = $1) as ahead
  from (select s.version, s.visitor, s.seq, s.body, s.told from ledger.state s
          join ledger.projection v on v.site_id = s.site_id and v.version = s.version and v.live
         where s.site_id = $1 and s.visitor > $2 order by s.visitor limit $3) t
  join ledger.projection p on p.site_id = $1 and p.version = t.version
 cross join lateral (
      select array_agg(o.seq order by o.seq) as seqs, array_agg(e.entry order by o.seq) as entries,
             array_agg(o.sealed order by o.seq) as sealed
        from ledger.opening o join ledger.entry e on e.site_id = o.site_id and e.seq = o.seq
       where o.site_id = $1 and o.visitor = t.visitor and o.seq <= t.seq
  ) r
 order by t.visitor
"""


class Difference(NamedTuple):
    """A row that does not follow from the log."""

    table: str
    what: str


class Comparison(NamedTuple):
    """How many entries and visitors were compared; the first differences, and how many there are in all."""

    entries: int
    visitors: int
    differences: list[Difference]
    total: int


async def compare(pool: asyncpg.Pool, source: Source, vaults: Vaults, progress: Progress) -> Comparison:
    """Compare the ledger's database with a bundle that was found sound.

    `NotFound` if the database has no such log; `Malformed` if the bundle is not what it was when it was verified.
    """
    checkpoint = parse_checkpoint(source.read(CHECKPOINT, MAX_CHECKPOINT_BYTES) or b"")
    site_id = await pool.fetchval(_SITE, checkpoint.origin)
    if site_id is None:
        raise NotFound(f"this database has no log {checkpoint.origin}")
    return await _Comparing(pool, site_id, source, checkpoint, await vaults.of(site_id), progress).run()


class _Comparing:
    """One comparison, in the order of the log, then by visitors."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        site_id: int,
        source: Source,
        checkpoint: Checkpoint,
        vault: Vault,
        progress: Progress,
    ) -> None:
        self.pool, self.site_id, self.source = pool, site_id, source
        self.checkpoint, self.size, self.origin = checkpoint, checkpoint.size, checkpoint.origin
        self.site = checkpoint.origin.rpartition("/")[2]
        self.vault = vault
        self.progress = progress
        self.hasher = SiteHasher(vault.hasher_key)
        self.keys: KeySet
        self.log_id = b""
        self.differences: list[Difference] = []
        self.count = 0
        self.tree = TileTree()
        self.openings = self.tiles = 0
        self.erased: dict[int, int] = {}
        self.policies: dict[str, tuple[int, bytes]] = {}
        self.signers: dict[bytes, tuple[str, bytes, int, int | None]] = {}
        self.checkpoints: dict[int, list[Checkpoint]] = {}
        self.signed: list[tuple[int, Checkpoint]] = []

    def differ(self, table: str, what: str) -> None:
        self.count += 1
        if len(self.differences) < LIVE_MAX_DIFFERENCES:
            self.differences.append(Difference(table, what))

    async def run(self) -> Comparison:
        await self.read_checkpoints()
        await self.read_erasures()
        for first, entries, openings in self.ranges():
            await self.compare_range(first, entries, openings)
            self.progress(first + len(entries), self.size)
        await self.compare_counts()
        await self.compare_policies()
        await self.compare_signers()
        self.compare_signatures()
        visitors = await self.compare_states()
        return Comparison(self.size, visitors, self.differences, self.count)

    def ranges(self) -> Iterator[tuple[int, list[bytes], dict[int, Opening]]]:
        """The bundle, one entry bundle after another, with its openings by seq."""
        payloads = self.source.stream(PAYLOADS)
        if payloads is None:
            raise Malformed("without payloads there is nothing to compare the database with")
        with payloads:
            lines = OpeningLines(payloads, Faults())
            for first in range(0, self.size, TILE_WIDTH):
                width = min(TILE_WIDTH, self.size - first)
                data = self.source.read(Tile(ENTRIES, first // TILE_WIDTH, width).path, MAX_BUNDLE_BYTES)
                opened = map(decode_line, split_lines(lines.take(first, first + width)))
                yield first, decode_bundle(data or b"", width), {opening.seq: opening for opening in opened}

    async def read_checkpoints(self) -> None:
        """Checkpoints that are stored, by size; what is wrong with one by itself."""
        async for row in kept_checkpoints(self.pool, self.site_id, self.size):
            try:
                parsed = parse_checkpoint(row.note)
            except LedgerError:
                self.differ("checkpoint", f"of size {row.size}: it is none")
                continue
            if (parsed.origin, parsed.size) != (self.origin, row.size):
                self.differ("checkpoint", f"of size {row.size}: it is of another log or size")
                continue
            self.checkpoints.setdefault(row.size, []).append(parsed)
            self.signed.append((row.size, parsed))

    async def read_erasures(self) -> None:
        """What the log erases, ahead of everything: an erasure comes after what it names."""
        for first, entries, _ in self.ranges():
            for seq, data in enumerate(entries, first):
                if data[49] == Kind.ERASURE:
                    self.erased.update(dict.fromkeys(decode_seqs(decode(data).public), seq))

    async def compare_range(self, first: int, entries: list[bytes], openings: dict[int, Opening]) -> None:
        rows = {row["seq"]: row for row in await self.pool.fetch(_RANGE, self.site_id, first, first + len(entries))}
        known: list[tuple[int, bytes]] = []
        for seq, data in enumerate(entries, first):
            entry, row, opening = decode(data), rows.get(seq), openings.get(seq)
            if seq == 0:
                self.begin(entry, data)
            self.openings += opening is not None
            self.take_control(seq, entry)
            key = self.known_by(seq, entry, opening)
            if key is not None:
                known.append((seq, key))
            if row is None or row["entry"] != data:
                self.differ("entry", f"{seq}: it is not the log's")
                continue
            self.compare_opening(seq, entry, opening, row)
        found = await self.pool.fetch(_KNOWN, self.site_id, [key for _, key in known])
        for row in found:
            seq = known[row["i"]][0]
            if row["seq"] != seq:
                self.differ("known", f"entry {seq} is not found by its id or core")
        await self.compare_tree(first, b"".join(map(leaf_hash, entries)))

    def begin(self, genesis: Entry, data: bytes) -> None:
        declared = decode_genesis(genesis.public, self.origin)
        self.log_id = leaf_hash(data)
        self.keys = KeySet(self.origin, self.log_id, declared)
        for role, public in (("root", declared.root), ("ingest", declared.ingest)):
            self.signers[key_hash(public)] = (role, public, 0, None)

    def compare_opening(self, seq: int, entry: Entry, opening: Opening | None, row: asyncpg.Record) -> None:
        by_seq = self.erased.get(seq)
        if row["by_seq"] != by_seq and (by_seq is not None or row["by_seq"] < self.size):
            self.differ("erased", f"entry {seq} is {'not ' if row['by_seq'] is None else ''}said to be erased")
        if opening is None:
            if row["sealed"] is not None:
                self.differ("opening", f"entry {seq} has one, and should have none")
            return
        if row["sealed"] is None:
            if row["by_seq"] is None or row["by_seq"] < self.size:
                self.differ("opening", f"entry {seq} has lost its own")
            return
        try:
            stored = self.vault.open_opening(entry.commit, row["sealed"])
        except SealBroken:
            stored = None
        if stored != (opening.salt, opening.payload):
            self.differ("opening", f"entry {seq} has another one")
        visitor = None if entry.kind != Kind.EVENT else self.filed_under(opening.payload)
        if row["visitor"] != visitor:
            self.differ("opening", f"entry {seq} is filed under another visitor")

    def filed_under(self, payload: bytes) -> bytes:
        event = decode_logged(payload, self.site)
        return self.hasher.subject(event) if isinstance(event, Event) else self.hasher.visitor(event.actor)

    def take_control(self, seq: int, entry: Entry) -> None:
        public = entry.public
        if entry.kind == Kind.POLICY:
            self.policies[public[HASH_BYTES:].decode("ascii")] = (seq, public[:HASH_BYTES])
        elif entry.kind == Kind.KEY:
            self.keys.apply(public)
            if public[0] == INTRODUCE_INGEST:
                new = public[1 : 1 + HASH_BYTES]
                self.signers[key_hash(new)] = ("ingest", new, seq, None)
            elif public[0] == RETIRE_INGEST:
                role, old, since, _ = self.signers[public[1:]]
                self.signers[public[1:]] = (role, old, since, seq)

    def known_by(self, seq: int, entry: Entry, opening: Opening | None) -> bytes | None:
        """By which key a retry finds this entry; None for an erased event, whose id nobody knows any more."""
        if entry.kind == Kind.EVENT:
            return None if opening is None else self.hasher.event_id(decode_logged(opening.payload, self.site).id)
        log = self.log_id if seq else origin_hash(self.origin)
        return sha256(core_bytes(log, entry.kind, entry.commit, entry.public)).digest()

    async def compare_tree(self, first: int, leaves: bytes) -> None:
        width = len(leaves) // HASH_BYTES
        for size in range(first + (first > 0), first + width + 1):
            for checkpoint in self.checkpoints.pop(size, ()):
                if checkpoint.root != self.tree.root_with(leaves, size - first):
                    self.differ("checkpoint", f"of size {size}: it has another root than the log")
        due: dict[int, list[HashTile]] = {}
        for tile in self.tree.add(leaves):
            self.tiles += 1
            due.setdefault(tile.tile.level, []).append(tile)
        for level, tiles in due.items():
            numbers = [tile.tile.n for tile in tiles]
            rows = await self.pool.fetch(_TILES, self.site_id, level, numbers)
            stored = {row["n"]: row["hashes"] for row in rows}
            for tile in tiles:
                if stored.get(tile.tile.n) != tile.hashes:
                    missing = "is not there" if tile.tile.n not in stored else "does not hold the log's hashes"
                    self.differ("tile", f"{tile.tile.path} {missing}")

    async def compare_counts(self) -> None:
        """Each row that should be there was; so more of them are rows that should not."""
        known = await self.pool.fetchval(_KNOWN_COUNT, self.site_id, self.size)
        if not self.size - len(self.erased) <= known <= self.size:  # ids of the erased are forgotten after a while
            self.differ("known", f"{known} rows for {self.size} entries, of which {len(self.erased)} are erased")
        row = await self.pool.fetchrow(_STRAY, self.site_id, self.size)
        if row["openings"] > self.openings:
            self.differ("opening", f"{row['openings']} rows, and the log opens {self.openings}")
        if row["erased"] != len(self.erased):
            self.differ("erased", f"{row['erased']} rows, and the log erases {len(self.erased)}")
        tiles = await self.pool.fetchval(_TILE_COUNT, self.site_id, self.size)
        if tiles > self.tiles:
            self.differ("tile", f"{tiles} rows, and the log has {self.tiles} full tiles")
        for size in sorted(self.checkpoints):
            self.differ("checkpoint", f"of size {size}: the log has no such size")

    async def compare_policies(self) -> None:
        rows = await self.pool.fetch(_POLICIES, self.site_id, self.size)
        stored = {row["version"]: (row["seq"], row["document"]) for row in rows}
        for version in sorted(stored.keys() | self.policies.keys()):
            if stored.get(version) != self.policies.get(version):
                self.differ("policy", f"version {version} is not as it was published")
        wanted = {document for _, document in self.policies.values()}
        found = {row["hash"] for row in await self.pool.fetch(_DOCUMENTS, list(wanted))}
        for digest in sorted(wanted - found):
            self.differ("document", f"{digest.hex()} is missing or altered")

    async def compare_signers(self) -> None:
        rows = await self.pool.fetch(_SIGNERS, self.site_id, self.size)
        stored = {
            row["key_hash"]: (
                row["role"],
                row["public"],
                row["since"],
                None if (row["until"] or MAX_INT) >= self.size else row["until"],
            )
            for row in rows
        }
        for digest in sorted(stored.keys() | self.signers.keys()):
            if stored.get(digest) != self.signers.get(digest):
                self.differ("signer", f"key {digest[:4].hex()} is not as the log says")

    def compare_signatures(self) -> None:
        """Checkpoints are signed by a key that the log knows."""
        for size, checkpoint in self.signed:
            try:
                good = any(checkpoint.signed_by(vkey) for vkey in self.keys.ever_log_keys)
            except BadSignature:
                good = False
            if not good:
                self.differ("checkpoint", f"of size {size}: no key of the log signed it")

    async def compare_states(self) -> int:
        """Every row of the living projection; how many there are."""
        after, visitors = b"", 0
        while rows := await self.pool.fetch(_STATES, self.site_id, after, LIVE_PAGE_VISITORS):
            for row in rows:
                self.compare_state(row)
            visitors += len(rows)
            after = rows[-1]["visitor"]
        return visitors

    def compare_state(self, row: asyncpg.Record) -> None:
        try:
            events = [recorded(self.vault, event) for event in event_rows(row)]
            right = (encode_state(fold(EMPTY_STATE, events)), encode_told(fold_told(NOTHING_TOLD, events))) == (
                row["body"],
                row["told"],
            )
        except LedgerError:  # an edited opening, told above
            right = False
        if row["ahead"] or row["seq"] not in (row["seqs"] or ()) or not right:
            self.differ("state", f"visitor {row['visitor'][:4].hex()} at entry {row['seq']}: not what the log comes to")
