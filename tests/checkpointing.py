"""Signs checkpoints for tests that have no checkpointer: over what the database holds, unchecked, at any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import asyncpg

from ledger.core.ed25519 import SigningKey
from ledger.core.entry import decode
from ledger.core.keys import decode_genesis
from ledger.core.merkle import HASH_BYTES, leaf_hash
from ledger.core.note import Checkpoint, sign_checkpoint
from ledger.core.tile import TILE_WIDTH
from ledger.core.tree import HashTile, TileTree

_SITE = "select site_id, origin from ledger.site where site = $1"
_ENTRIES = "select entry from ledger.entry where site_id = $1 and seq < $2 order by seq"
_LAST = "select coalesce(max(size), 0) from ledger.checkpointer where site_id = $1"
_PUT = "select ledger.put_checkpoint($1, $2, $3, $4, $5, $6, $7, $8)"

Cosign = Callable[[Checkpoint], Checkpoint]


def unchanged(checkpoint: Checkpoint) -> Checkpoint:
    """No cosignatures."""
    return checkpoint


class Signed(NamedTuple):
    """A checkpoint that was stored, and the leaf hashes that it covers."""

    checkpoint: Checkpoint
    leaves: list[bytes]


async def checkpoint(
    database_url: str,
    site: str,
    key: SigningKey,
    size: int | None = None,
    *,
    cosigned: bool = True,
    store_tiles: bool = True,
    cosign: Cosign = unchanged,
) -> Signed:
    """Sign and store a checkpoint over the first `size` entries (None: all that there are now), with its full tiles."""
    connection = await asyncpg.connect(database_url)
    try:
        row = await connection.fetchrow(_SITE, site)
        entries = [
            r["entry"] for r in await connection.fetch(_ENTRIES, row["site_id"], 2**53 if size is None else size)
        ]
        assert size in (None, len(entries)), "the log is shorter"
        leaves = [leaf_hash(entry) for entry in entries]
        root, tiles = tree_of(leaves)
        vkey = decode_genesis(decode(entries[0]).public, row["origin"]).log
        signed = cosign(sign_checkpoint(Checkpoint(row["origin"], len(leaves), root), vkey, key))
        stored = tiles if store_tiles else []
        put = await connection.fetchval(
            _PUT,
            row["site_id"],
            await connection.fetchval(_LAST, row["site_id"]),
            len(leaves),
            signed.encode(),
            cosigned,
            [tile.level for tile, _ in stored],
            [tile.n for tile, _ in stored],
            [hashes for _, hashes in stored],
        )
        assert put, "somebody else signed a checkpoint, or there is one of this size"
        return Signed(signed, leaves)
    finally:
        await connection.close()


def tree_of(leaves: Sequence[bytes]) -> tuple[bytes, list[HashTile]]:
    """The root over these leaf hashes, and every full tile."""
    tree = TileTree()
    full = [
        tile for at in range(0, len(leaves), TILE_WIDTH) for tile in tree.add(b"".join(leaves[at : at + TILE_WIDTH]))
    ]
    assert all(len(hashes) == TILE_WIDTH * HASH_BYTES for _, hashes in full)
    return tree.root(), full
