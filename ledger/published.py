"""What of a log is given out: that which a served checkpoint covers. Tiles, bundles, proofs, and the wait for a proof.

It signs nothing and stores nothing. A proof of inclusion leaves only if it leads to the root that was signed; tiles
leave as they are stored, for whoever asks for them compares them himself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.core.errors import LedgerError, NotFound, ProofInvalid, Unavailable
from ledger.core.merkle import check_inclusion, leaf_hash
from ledger.core.note import Checkpoint, parse_checkpoint
from ledger.core.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile
from ledger.core.tlog_proof import encode_proof
from ledger.log_tree import KeptTiles, LogTree
from ledger.store import log as store
from ledger.store.log import CheckpointRow

log = logging.getLogger(__name__)


class Leaf(NamedTuple):
    """An entry's seq and its leaf hash."""

    seq: int
    hash: bytes


class Proven(NamedTuple):
    """The text of a proof (c2sp.org/tlog-proof), None while no served checkpoint covers the entry. `pending`: no
    checkpoint with its quorum covers the entry yet; another question later may be answered with more cosignatures.
    """

    proof: str | None
    pending: bool


class _Head(NamedTuple):
    """A checkpoint as stored, and parsed."""

    row: CheckpointRow
    checkpoint: Checkpoint


@dataclass
class _Served:
    """What is known of a site's checkpoints here, and since when."""

    head: _Head | None = None
    cosigned: _Head | None = None
    read_at: float = float("-inf")
    reading: asyncio.Task[None] | None = None


@dataclass
class _Waiting:
    """Who waits for a checkpoint of one site, and who looks for it on behalf of them all."""

    waiters: dict[asyncio.Future[Proven], Leaf] = field(default_factory=dict)
    looking: asyncio.Task[None] | None = None


class Published:
    """The logs of one ledger as the public sees them. Sites are told by their `site_id`.

    Every call raises `Unavailable` if the database does not answer.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._kept = KeptTiles()
        self._served: dict[int, _Served] = {}
        self._waiting: dict[int, _Waiting] = {}

    # --- the served checkpoint -------------------------------------------------------------------------------------

    async def checkpoint(self, site_id: int) -> CheckpointRow:
        """The served checkpoint; `NotFound` before a site's first one."""
        return (await self._head(site_id)).row

    async def _head(self, site_id: int, at_least: int = 0) -> _Head:
        """The served checkpoint as of a moment ago, or as of now where that one covers fewer entries than wanted."""
        served = await self._look(site_id, at_least)
        if served.head is None:
            raise NotFound("The log has no checkpoint yet: the checkpointer signs the first one when the site begins.")
        return served.head

    async def _look(self, site_id: int, at_least: int = 0) -> _Served:
        served = self._served.setdefault(site_id, _Served())
        asked_at = time.monotonic()
        while served.read_at < asked_at:
            size = -1 if served.head is None else served.head.row.size
            if size >= at_least and asked_at - served.read_at < config.SERVED_CHECKPOINT_CACHE_SECONDS:
                break
            # Whoever asks while a question is under way shares its answer, unless it was put too early for him.
            if served.reading is None:
                served.reading = asyncio.create_task(self._read(site_id, served), name=f"served checkpoint {site_id}")
            await asyncio.shield(served.reading)
        return served

    async def _read(self, site_id: int, served: _Served) -> None:
        try:
            read_at = time.monotonic()
            row = await store.served_checkpoint(self._pool, site_id)
            cosigned = row
            if row is not None and not row.cosigned:
                cosigned = await store.cosigned_checkpoint(self._pool, site_id)
            served.head = _parsed(row, served.head)
            served.cosigned = _parsed(cosigned, served.cosigned)
            served.read_at = read_at
        finally:
            served.reading = None

    # --- the tree --------------------------------------------------------------------------------------------------

    async def hash_tile(self, site_id: int, tile: Tile) -> bytes:
        """A hash tile, full or partial; `NotFound` where the served checkpoint does not reach to its end."""
        await self._cover(site_id, tile)
        return _there(tile, await LogTree(self._pool, site_id).hash_tile(tile))

    async def entry_bundle(self, site_id: int, tile: Tile) -> bytes:
        """An entry bundle; `NotFound` where the served checkpoint does not reach to its end."""
        await self._cover(site_id, tile)
        return _there(tile, await LogTree(self._pool, site_id).entry_bundle(tile))

    async def _cover(self, site_id: int, tile: Tile) -> None:
        end = tile.n * TILE_WIDTH + tile.width
        size = end if tile.level == ENTRIES else end << (TILE_HEIGHT * tile.level)
        if (await self._head(site_id, size)).row.size < size:
            _there(tile, None)

    async def consistency(self, site_id: int, old: int, new: int | None) -> tuple[int, list[bytes]]:
        """The size proven (`new`, else the served one) and the hashes of PROOF(old, D[new]), RFC 6962 section 2.1.2.

        `NotFound` where the served checkpoint does not reach so far; `ValueError` unless 0 <= old <= new.
        """
        served = (await self._head(site_id, max(old, new or 0))).row.size
        size = served if new is None else new
        if max(old, size) > served:
            raise NotFound(f"The served checkpoint covers {served} entries.")
        return size, await LogTree(self._pool, site_id).consistency(old, size)

    # --- proofs of entries -----------------------------------------------------------------------------------------

    async def prove_index(self, site_id: int, index: int) -> str:
        """The proof of the entry at an index, whatever it is; `NotFound` where no served checkpoint covers it."""
        served = await self._head(site_id, index + 1)
        entries = await store.entries(self._pool, site_id, index, index + 1)
        if served.row.size <= index or not entries:
            raise NotFound(f"The served checkpoint covers {served.row.size} entries.")
        return (await self._prove(site_id, [Leaf(index, leaf_hash(entries[0]))], served))[0]

    async def prove(self, site_id: int, leaf: Leaf) -> Proven:
        """The best proof there is now: under the newest checkpoint with its quorum, else under the one that is served.

        `Unavailable` where the tree does not lead to the root that was signed.
        """
        return (await self.prove_all(site_id, [leaf]))[0]

    async def prove_all(self, site_id: int, leaves: Sequence[Leaf]) -> list[Proven]:
        """The same of several entries, for not much more than the cost of one: at most `PROOFS_AT_ONCE`."""
        served = await self._look(site_id, max(leaf.seq for leaf in leaves) + 1)
        proven = {leaf: Proven(None, True) for leaf in leaves}
        for head in (served.cosigned, served.head):
            size = 0 if head is None else head.row.size
            covered = [leaf for leaf in leaves if leaf.seq < size and proven[leaf].proof is None]
            if head is not None and covered:
                proofs = await self._prove(site_id, covered, head)
                for leaf, proof in zip(covered, proofs, strict=True):
                    proven[leaf] = Proven(proof, not head.row.cosigned)
        return [proven[leaf] for leaf in leaves]

    async def _prove(self, site_id: int, leaves: list[Leaf], head: _Head) -> list[str]:
        size, note = head.row.size, head.row.note
        tree, indexes = LogTree(self._pool, site_id, self._kept), [leaf.seq for leaf in leaves]
        proofs = await tree.inclusions(indexes, size)
        if not _lead_to_root(leaves, proofs, head):
            self._kept.forget(site_id)
            proofs = await tree.inclusions(indexes, size)
            if not _lead_to_root(leaves, proofs, head):
                log.error("site %d: what is stored does not lead to the root of checkpoint %d", site_id, size)
                detail = "What is stored does not lead to the root that was signed: run `verify`."
                raise Unavailable("tree-altered", detail, 60)
        return [encode_proof(leaf.seq, hashes, note).decode() for leaf, hashes in zip(leaves, proofs, strict=True)]

    async def wait(self, site_id: int, leaf: Leaf, seconds: float = config.CHECKPOINT_WAIT_SECONDS) -> Proven:
        """The proof of an entry once a checkpoint with its quorum covers it; after `seconds` whatever there is.

        It raises nothing: the entry is recorded, and a proof can be had later.
        """
        waiting = self._waiting.setdefault(site_id, _Waiting())
        if len(waiting.waiters) >= config.CHECKPOINT_WAITERS_MAX:
            return await self._now(site_id, leaf)
        waiter: asyncio.Future[Proven] = asyncio.get_running_loop().create_future()
        waiting.waiters[waiter] = leaf
        if waiting.looking is None:
            waiting.looking = asyncio.create_task(self._look_for(site_id, waiting), name=f"checkpoint {site_id}")
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            return await self._now(site_id, leaf)
        finally:
            waiting.waiters.pop(waiter, None)

    async def _now(self, site_id: int, leaf: Leaf) -> Proven:
        try:
            return await self.prove(site_id, leaf)
        except LedgerError:
            return Proven(None, True)

    async def _look_for(self, site_id: int, waiting: _Waiting) -> None:
        """Look for checkpoints as long as somebody waits, and prove to all at once who is covered."""
        try:
            while waiting.waiters:
                try:
                    await self._answer(site_id, waiting)
                except Unavailable as error:
                    log.warning("site %d: no proof for those who wait: %s", site_id, error)
                await asyncio.sleep(config.CHECKPOINT_POLL_SECONDS)
        except Exception:
            log.exception("site %d: those who wait for a checkpoint get no proof", site_id)
        finally:
            waiting.looking = None

    async def _answer(self, site_id: int, waiting: _Waiting) -> None:
        served = await self._look(site_id, min(leaf.seq for leaf in waiting.waiters.values()) + 1)
        head = served.cosigned
        if head is None:
            return
        covered = [(waiter, leaf) for waiter, leaf in waiting.waiters.items() if leaf.seq < head.row.size]
        for at in range(0, len(covered), config.PROOFS_AT_ONCE):
            page = covered[at : at + config.PROOFS_AT_ONCE]
            proofs = await self._prove(site_id, [leaf for _, leaf in page], head)
            for (waiter, _), proof in zip(page, proofs, strict=True):
                waiting.waiters.pop(waiter, None)
                if not waiter.done():
                    waiter.set_result(Proven(proof, False))

    async def stop(self) -> None:
        """End every search; who still waits is answered with what there is when his time is over."""
        tasks = [task for waiting in self._waiting.values() if (task := waiting.looking) is not None]
        tasks += [task for served in self._served.values() if (task := served.reading) is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _parsed(row: CheckpointRow | None, known: _Head | None) -> _Head | None:
    if row is None:
        return None
    return known if known is not None and known.row == row else _Head(row, parse_checkpoint(row.note))


def _lead_to_root(leaves: list[Leaf], proofs: list[list[bytes]], head: _Head) -> bool:
    try:
        for leaf, hashes in zip(leaves, proofs, strict=True):
            check_inclusion(leaf.hash, leaf.seq, head.row.size, hashes, head.checkpoint.root)
    except ProofInvalid:
        return False
    return True


def _there(tile: Tile, data: bytes | None) -> bytes:
    if data is None:
        raise NotFound(f"No checkpoint of this log covers {tile.path}.")
    return data
