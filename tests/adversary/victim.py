"""The ledger under attack: a real log in Postgres, the database superuser's hands on it, and what leaks of its keys.

The honest log is founded and filled once a session by the ledger's own code; every attack gets a copy of that
database. A `Victim` is the log as the attacker has loaded it, to be changed at will and stored back. `publish` writes
what the operator then shows to an auditor, as a bundle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from ledger.app import open_service
from ledger.config import Settings
from ledger.core import keys
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import (
    ZEROS,
    Entry,
    Kind,
    commit_of,
    commitment,
    core_bytes,
    decode,
    encode,
    encode_seqs,
    key_hash,
)
from ledger.core.event import ErasureRecord, EventInput, encode_payload
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_COSIGNATURE, Checkpoint, Signature, VerifierKey, cosignature_message
from ledger.core.opening import encode_line
from ledger.core.tile import ENTRIES, TILE_WIDTH, encode_bundle, tiles_of
from ledger.core.tree import TileTree
from ledger.keys.files import keys_here
from ledger.provision import SiteCredentials, create_site
from ledger.service import Principal
from ledger.store.append import ControlDraft, Head, append_one
from ledger.vault import Vault, read_vault
from tests.harness import document, now_ms
from tests.logbuilder import LogBuilder, key, put
from tests.openings import opening_at

SITE = "shop.example.com"
SIZE = 300
OLD_SIZE = 200
"""Of the checkpoint that an auditor may have kept."""

# Where things are in the honest log. Events are everywhere else, up to SIZE.
POLICY = 1
ERASED = 3
ERASURE = 8
KEY_INTRODUCED, KEY_RETIRED, LOG_KEY_INTRODUCED, LOG_KEY_RETIRED = 9, 10, 11, 12
EVENT, OTHER_EVENT = 100, 101

SMALL_ORDER = (1).to_bytes(32, "little")
WITNESS = "witness.example/w1"

GUARDED = ("site", "entry", "known", "erased", "document", "policy", "opening")


class Honest(NamedTuple):
    """The honest log: the database to copy, its settings, and who holds what."""

    database: str
    settings: Settings
    credentials: SiteCredentials
    retired_ingest: SigningKey
    retired_log: SigningKey
    erased: tuple[bytes, bytes]
    """Salt and payload of the erased event, as an old backup has them."""


def keys_of(settings: Settings) -> list[SigningKey]:
    """Root, ingest and log key, as they lie on the machine."""
    return [next(iter(keys_here(settings, SITE, role).keys.values())) for role in ("root", "ingest", "log")]


async def grow(settings: Settings, database: str) -> Honest:
    """Found a site and fill it, by the ledger's own code: events, an erasure, keys that come and go, a policy."""
    credentials = await create_site(settings, document(SITE))
    root, ingest, _ = keys_of(settings)
    log_id = bytes.fromhex(credentials.log_id)
    origin = credentials.log_vkey.partition("+")[0]
    retired_ingest, retired_log = key("ingest that was retired"), key("log key that was retired")
    retired_vkey = VerifierKey(origin, 1, retired_log.public)
    async with open_service(settings) as service:
        site = await service.site(SITE)
        principal = Principal(site.site_id, "secret", frozenset({"events"}))

        async def record(n: int) -> None:
            denial = EventInput("consent.refused", f"visitor-{n:020d}", {"analytics": "denied"}, "only_necessary")
            grant = EventInput(
                "consent.given", f"visitor-{n:020d}", {"analytics": "granted"}, "customize", policy_version="1.0"
            )
            await service.record(site, grant if n % 2 else denial, principal)

        for n in range(POLICY + 1, ERASURE):
            await record(n)
        connection = await asyncpg.connect(settings.database_url)
        backup = await opening_at(connection, settings.masters, ERASED)
        assert backup is not None

        async def append(signer: SigningKey, kind: Kind, public: bytes, salt: Any = None, payload: Any = None) -> None:
            row = await connection.fetchrow(_LAST, site.site_id)
            head = Head(row["seq"] + 1, leaf_hash(row["entry"]))
            commit = ZEROS if payload is None else commitment(salt, payload)
            signature = signer.sign(core_bytes(log_id, kind, commit, public))
            sealed = None if payload is None else site.vault.seal_record(commit, salt, payload)
            draft = ControlDraft(kind, commit, key_hash(signer.public), signature, public, sealed)
            await append_one(connection, site.site_id, now_ms(), head, draft, 30)

        evidence = ErasureRecord(
            site=SITE,
            reason="subject_request",
            requested_at="2026-11-21T03:00:00.000Z",
            evidence="bm90aGluZw==",
            instruction="ticket-1",
        )
        await append(ingest, Kind.ERASURE, encode_seqs([ERASED]), sha256(b"salt").digest(), encode_payload(evidence))
        for operation in (
            keys.introduce_ingest(log_id, retired_ingest),
            keys.retire_ingest(retired_ingest.public),
            keys.introduce_log(retired_vkey),
            keys.retire_log(retired_vkey),
        ):
            await append(root, Kind.KEY, operation)
        await connection.close()
        await record(LOG_KEY_RETIRED + 1)
        await asyncio.sleep(0.02)  # so that what follows is later
        await asyncio.gather(*(record(n) for n in range(LOG_KEY_RETIRED + 2, SIZE)))
    return Honest(database, settings, credentials, retired_ingest, retired_log, backup)


_LAST = "select seq, entry from ledger.entry where site_id = $1 order by seq desc limit 1"
_ROWS = """
select e.seq, e.entry, o.sealed from ledger.entry e left join ledger.opening o using (site_id, seq)
 where e.site_id = $1 order by e.seq
"""


@dataclass
class Auditor:
    """What the auditor brings along, as arguments of `verify`: the log's vkey always, the rest where it is told."""

    log_vkey: str
    log_id: str | None
    old: Checkpoint | None = None
    witnesses: tuple[VerifierKey, ...] = ()

    def arguments(self, directory: Path) -> list[str]:
        """`directory`: where to put the older checkpoint."""
        arguments = ["--log-vkey", self.log_vkey]
        if self.log_id is not None:
            arguments += ["--log-id", self.log_id]
        if self.old is not None:
            put(directory, "old", self.old.encode())
            arguments += ["--old", str(directory / "old")]
        for witness in self.witnesses:
            arguments += ["--witness", str(witness)]
        return arguments


class Victim(LogBuilder):
    """The log in the attacker's hands: `entries`, `openings`, `documents` and all keys; an attack says which it uses.

    What is appended, replaced or chained anew is in the database after `store`, and vouched for after `sign`.
    """

    def __init__(self, honest: Honest, connection: asyncpg.Connection, site_id: int, vault: Vault) -> None:
        settings, credentials = honest.settings, honest.credentials
        super().__init__(credentials.log_vkey.partition("+")[0], genesis=False)
        self.honest, self.connection, self.site_id, self.vault = honest, connection, site_id, vault
        self.root, self.ingest, self.log = keys_of(settings)
        self.thief = key("thief")
        self.witness = key(WITNESS)
        self.auditor = Auditor(credentials.log_vkey, credentials.log_id)

    @property
    def witness_vkey(self) -> VerifierKey:
        return VerifierKey(WITNESS, TYPE_COSIGNATURE, self.witness.public)

    async def load(self) -> None:
        for row in await self.connection.fetch(_ROWS, self.site_id):
            self.append_bytes(row["entry"])
            if row["sealed"] is not None:
                self.openings[row["seq"]] = self.vault.open_opening(commit_of(row["entry"]), row["sealed"])
        self.documents = {r["hash"].hex(): r["body"] for r in await self.connection.fetch(_DOCUMENTS)}
        self.now_ms = self.entry(-1).ms

    async def store(self) -> None:
        """Put the log in the place of the one that is there."""
        await self.connection.execute("delete from ledger.entry where site_id = $1", self.site_id)
        await self.connection.execute("delete from ledger.opening where site_id = $1", self.site_id)
        await self.connection.copy_records_to_table(
            "entry", schema_name="ledger", records=[(self.site_id, *each) for each in enumerate(self.entries)]
        )
        await self.connection.copy_records_to_table(
            "opening",
            schema_name="ledger",
            columns=["site_id", "seq", "sealed"],
            records=[(self.site_id, seq, self.sealed(seq, *opening)) for seq, opening in sorted(self.openings.items())],
        )
        await self.connection.executemany(
            "insert into ledger.document (hash, media_type, body) values ($1, 'application/json', $2) "
            "on conflict do nothing",
            [(bytes.fromhex(digest), body) for digest, body in self.documents.items()],
        )

    def sealed(self, seq: int, salt: bytes, payload: bytes) -> bytes:
        """An opening as it belongs beside an entry: the attacker has every secret."""
        return self.vault.seal_opening(commit_of(self.entries[seq]), salt, payload)

    def entry(self, seq: int) -> Entry:
        return decode(self.entries[seq])

    def change(self, at: int, /, **fields: Any) -> None:
        """An entry in its place with other fields; the chain behind it is broken then."""
        self.entries[at] = encode(self.entry(at)._replace(**fields))
        self.leaves[at] = leaf_hash(self.entries[at])

    def chain(self) -> None:
        """Number and chain everything anew. Signatures hold: they know neither position nor time."""
        for seq in range(1, len(self.entries)):
            self.change(seq, seq=seq, prev=self.leaves[seq - 1])

    def again(self, seq: int) -> int:
        """Append an entry once more, with its very core and signature, and its opening."""
        self.now_ms += 1000
        if seq in self.openings:
            self.openings[len(self.entries)] = self.openings[seq]
        fresh = {"seq": len(self.entries), "ms": self.now_ms, "prev": self.leaves[-1]}
        return self.append_bytes(encode(self.entry(seq)._replace(**fresh)))

    def remove(self, seq: int) -> None:
        """Take an entry out, opening and all; those behind it move up."""
        del self.entries[seq], self.leaves[seq]
        self.openings = {at - (at > seq): opening for at, opening in self.openings.items() if at != seq}

    def put_in(self, seq: int) -> None:
        """Move the last entry to `seq`; those from there on move down."""
        last = len(self.entries) - 1
        for kept in (self.entries, self.leaves):
            kept.insert(seq, kept.pop())
        moved = self.openings.pop(last, None)
        self.openings = {at + (at >= seq): opening for at, opening in self.openings.items()}
        if moved is not None:
            self.openings[seq] = moved

    def cosigned(self, checkpoint: Checkpoint, seconds: int | None = None) -> Checkpoint:
        """With the cosignature of a witness who looks at the clock, and not at entries."""
        seconds = int(time.time()) if seconds is None else seconds
        value = seconds.to_bytes(8, "big") + self.witness.sign(cosignature_message(checkpoint.body, seconds))
        line = Signature(WITNESS, self.witness_vkey.key_id, value)
        return checkpoint._replace(signatures=(*checkpoint.signatures, line))

    async def sign(self, checkpoint: Checkpoint | bytes | None = None) -> None:
        """Vouch for what is stored by now, with the log key in hand: tiles to match, and no older checkpoint left."""
        made = self.checkpoint() if checkpoint is None else checkpoint
        await self.connection.execute("delete from ledger.checkpoint where site_id = $1", self.site_id)
        await self.keep(made, len(self.entries) if isinstance(made, bytes) else made.size)
        await self.put_tiles()

    async def put_tiles(self) -> None:
        """The full hash tiles of what is there."""
        await self.connection.execute("delete from ledger.tile where site_id = $1", self.site_id)
        for tile, hashes in _hash_tiles(self.leaves):
            if tile.width == TILE_WIDTH:
                await self.connection.execute(
                    "insert into ledger.tile values ($1, $2, $3, $4)", self.site_id, tile.level, tile.n, hashes
                )

    async def keep(self, checkpoint: Checkpoint | bytes, size: int) -> None:
        note = checkpoint if isinstance(checkpoint, bytes) else checkpoint.encode()
        await self.connection.execute("delete from ledger.checkpoint where size = $1", size)
        await self.connection.execute(
            "insert into ledger.checkpoint values ($1, $2, $3, true)", self.site_id, size, note
        )

    async def publish(self, directory: Path) -> None:
        """The bundle that the operator shows: what the database holds, under the checkpoint that it holds."""
        rows = await self.connection.fetch(_ROWS, self.site_id)
        entries = [row["entry"] for row in rows]
        notes = await self.connection.fetch(
            "select size, note from ledger.checkpoint where site_id = $1 order by size", self.site_id
        )
        tiles = await self.connection.fetch("select level, n, hashes from ledger.tile where site_id = $1", self.site_id)
        put(directory, "checkpoint", notes[-1]["note"])
        for note in notes[:-1]:
            put(directory, f"checkpoints/{note['size']}", note["note"])
        for row in await self.connection.fetch(_DOCUMENTS):
            put(directory, f"documents/{row['hash'].hex()}", row["body"])
        sealed = [(row["seq"], commit_of(row["entry"]), row["sealed"]) for row in rows if row["sealed"] is not None]
        lines = [encode_line(opening) for opening in self.vault.openings(sealed)]
        put(directory, "payloads.ndjson", b"".join(lines))
        stored = {(row["level"], row["n"]): row["hashes"] for row in tiles}
        shown = LogBuilder(self.origin, genesis=False)
        for data in entries:
            shown.append_bytes(data)
        for tile, hashes in _hash_tiles(shown.leaves):
            put(directory, tile.path, stored.get((tile.level, tile.n), hashes) if tile.width == TILE_WIDTH else hashes)
        for tile in tiles_of(len(entries)):
            if tile.level == ENTRIES:
                first = tile.n * TILE_WIDTH
                put(directory, tile.path, encode_bundle(entries[first : first + tile.width]))


def _hash_tiles(leaves: Sequence[bytes]) -> list[Any]:
    tree, tiles = TileTree(), []
    for first in range(0, len(leaves), TILE_WIDTH):
        tiles += tree.add(b"".join(leaves[first : first + TILE_WIDTH]))
    return tiles + tree.partial()


_DOCUMENTS = "select hash, body from ledger.document"


@asynccontextmanager
async def victim(honest: Honest, admin_url: str) -> AsyncIterator[Victim]:
    """The attacker is connected as superuser, and has put every guard of the database out of action."""
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute("drop event trigger ledger_refuse_ddl; drop event trigger ledger_refuse_drop")
        for table in GUARDED:
            await connection.execute(f"alter table ledger.{table} disable trigger all")
        site_id = await connection.fetchval("select site_id from ledger.site where site = $1", SITE)
        made = Victim(honest, connection, site_id, await read_vault(connection, site_id, honest.settings.masters))
        await made.load()
        await made.keep(made.cosigned(made.checkpoint(OLD_SIZE)), OLD_SIZE)
        await made.keep(made.cosigned(made.checkpoint()), SIZE)
        await made.put_tiles()
        yield made
    finally:
        await connection.close()
