"""From the head that is known to a checkpoint that was served: tiles and entries are fetched, and judged on the way.

First the tiles at the trees' edges: they tell whether the log was only added to. Then every new bottom tile, and every
new entry where entries can be read. Nothing is kept here of what is not yet known to be signed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from ledger.config import (
    LOG_CLIENT_AHEAD_MAX_BYTES,
    MONITOR_AHEAD_TILES,
    MONITOR_FAULTS_TOLD,
    MONITOR_KEEP_ENTRIES,
)
from ledger.core.errors import LogGuarded, Malformed
from ledger.core.follow import Follower, Step
from ledger.core.merkle import HASH_BYTES, Frontier, leaf_hash
from ledger.core.note import Checkpoint
from ledger.core.proofs import tile_at
from ledger.core.tile import ENTRIES, MAX_BUNDLE_BYTES, TILE_HEIGHT, TILE_WIDTH, Tile, decode_bundle
from ledger.core.tree import complete_root
from ledger.core.watch import (
    Finding,
    Growth,
    Head,
    Kind,
    check_parents,
    compare_leaves,
    fork,
    judge_growth,
    parents,
    tiles_of_growth,
)
from ledger.log_client import LogClient

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Work that takes a while, beside the loop. Whoever is cancelled waits for its end: the memory has one user."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


class Found(Exception):
    """Ends the way to a checkpoint."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__(findings[0].detail)


class Start(NamedTuple):
    """What is known: the head with the edge of its tree, the checkpoint of it (None: nothing is known yet), and the
    follower, which may be behind; without one, tiles alone are looked at."""

    frontier: Frontier
    checkpoint: Checkpoint | None
    follower: Follower | None

    @property
    def head(self) -> Head:
        return Head(self.frontier.size, self.frontier.root())


class Fetched(NamedTuple):
    """Bottom tile `n`, and the entry bundle of it where that is read."""

    tile: Tile
    hashes: bytes | None
    bundle: bytes | None


class Tiles:
    """The hash tiles of one log at one size, each fetched once."""

    def __init__(self, client: LogClient, size: int, *, fresh: bool = False) -> None:
        self.hashes: dict[tuple[int, int], bytes] = {}
        self._client, self._size, self._fresh = client, size, fresh

    async def fetch(self, places: Iterable[tuple[int, int]]) -> None:
        """Have these (level, n) at hand, as far as they are there and as long as they should be."""
        wanted = [tile_at(level, n, self._size) for level, n in sorted(set(places) - self.hashes.keys())]

        async def one(tile: Tile) -> None:
            data = await read_tile(self._client, tile, fresh=self._fresh)
            self.hashes[tile.level, tile.n] = data or b""

        for i in range(0, len(wanted), MONITOR_AHEAD_TILES):
            await asyncio.gather(*(one(tile) for tile in wanted[i : i + MONITOR_AHEAD_TILES] if tile.width))


async def read_tile(client: LogClient, tile: Tile, *, fresh: bool = False) -> bytes | None:
    """A hash tile; None if it is missing, or longer than any is."""
    try:
        return await client.tile(tile, fresh=fresh)
    except Malformed:
        return None


async def judge_between(client: LogClient, old: Head, new: Head) -> tuple[Growth, dict[tuple[int, int], bytes]]:
    """How the log at `new` relates to the one at `old`, and the tiles that tell it, as `client` reads them."""
    tiles = Tiles(client, new.size)
    await tiles.fetch((tile.level, tile.n) for tile in tiles_of_growth(old.size, new.size))
    return judge_growth(old, new, tiles.hashes), tiles.hashes


class Advance:
    """One such way. `run` gives the tree's new edge, or raises `Found`; whoever calls it keeps or drops the follower's
    steps. `trusted`: a key that counts has signed the checkpoint, so what leads up to it may be saved on the way."""

    def __init__(
        self,
        client: LogClient,
        start: Start,
        checkpoint: Checkpoint,
        *,
        log_id: bytes | None = None,
        latest_ms: int | None = None,
        trusted: bool = True,
        fresh: bool = False,
    ) -> None:
        self.log_id = b""
        """Of this log, where its first leaf was seen."""
        self.guarded = False
        self._client, self._start, self._checkpoint = client, start, checkpoint
        self._pinned, self._latest_ms, self._trusted, self._fresh = log_id, latest_ms, trusted, fresh
        self._follower = start.follower
        self._new = Head(checkpoint.size, checkpoint.root)
        self._tiles = Tiles(client, checkpoint.size, fresh=fresh)
        self._tried: dict[Tile, bytes | None] = {}

    @property
    def followed(self) -> bool:
        """Whether every entry up to the checkpoint was judged."""
        return self._follower is not None and self._follower.size == self._new.size

    async def run(self) -> Frontier:
        old, new = self._start.head, self._new
        await self._tiles.fetch((tile.level, tile.n) for tile in tiles_of_growth(old.size, new.size))
        growth = judge_growth(old, new, self._tiles.hashes)
        if growth is Growth.FORK and self._start.checkpoint is not None:
            raise Found(fork(self._start.checkpoint, self._checkpoint, self._tiles.hashes))
        if growth is not Growth.SOUND:
            detail = f"the tiles are not those of the checkpoint of size {new.size}, or some are missing"
            raise Found(Finding(Kind.TILES, detail, 2, None, (self._checkpoint,)))
        frontier = self._start.frontier.copy()
        roots = await self._read(frontier)
        await self._check_parents(old.size, roots)
        if frontier.root() != new.root:
            detail = f"the bottom tiles do not lead to the root of the checkpoint of size {new.size}"
            raise Found(Finding(Kind.TILES, detail, 2, None, (self._checkpoint,)))
        if self.followed and self._follower is not None and self._follower.root() != new.root:
            detail = f"the entries do not lead to the root of the checkpoint of size {new.size}"
            raise Found(Finding(Kind.TILES, detail, 2, None, (self._checkpoint,)))
        return frontier

    async def _read(self, frontier: Frontier) -> dict[int, bytes]:
        """Every new bottom tile, and every entry that was not judged yet; the roots of full tiles by number."""
        new, roots = self._new.size, dict[int, bytes]()
        old = frontier.size
        await self._try_entries()
        begin = min(old, old if self._follower is None else self._follower.size)
        saved = begin
        async with aclosing(self._ahead(begin // TILE_WIDTH, -(-new // TILE_WIDTH))) as ahead:
            async for fetched in ahead:
                tile, hashes = fetched.tile, fetched.hashes
                first = tile.n * TILE_WIDTH
                if hashes is None or len(hashes) != tile.width * HASH_BYTES:
                    raise Found(Finding(Kind.TILES, f"{tile.path} is missing, or has not {tile.width} hashes", 2))
                if first == 0:
                    self._identify(hashes[:HASH_BYTES])
                if self._follower is not None and first + tile.width > self._follower.size:
                    await self._judge(self._follower, fetched, first)
                    if self._trusted and self._follower.size - saved >= MONITOR_KEEP_ENTRIES:
                        await self._save(self._follower)
                        saved = self._follower.size
                for at in range(max(0, frontier.size - first), tile.width):
                    frontier.add(hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES])
                if tile.width == TILE_WIDTH and tile.n >= old >> TILE_HEIGHT:
                    roots[tile.n] = complete_root(hashes)
        return roots

    def _identify(self, leaf: bytes) -> None:
        self.log_id = leaf
        if self._pinned not in (None, leaf):
            detail = f"the log id is {leaf.hex()}, not the one given: another log"
            raise Found(Finding(Kind.LOG_ID, detail, 4, 0, (self._checkpoint,)))

    async def _try_entries(self) -> None:
        """Go on without the follower if entries are guarded."""
        if self._follower is None or self._follower.size >= self._new.size:
            return
        tile = tile_at(0, self._follower.size // TILE_WIDTH, self._new.size)._replace(level=ENTRIES)
        try:
            self._tried[tile] = await self._bundle(tile)
        except LogGuarded:
            self.guarded, self._follower = True, None

    async def _ahead(self, begin: int, end: int) -> AsyncGenerator[Fetched, None]:
        """Bottom tiles [begin, end) in order, several on their way at a time."""
        pending: deque[asyncio.Task[Fetched]] = deque()
        try:
            for n in range(begin, end):
                pending.append(asyncio.create_task(self._fetch(n)))
                if len(pending) > MONITOR_AHEAD_TILES:
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _fetch(self, n: int) -> Fetched:
        tile = tile_at(0, n, self._new.size)
        hashes = self._tiles.hashes.get((0, n)) or await read_tile(self._client, tile, fresh=self._fresh)
        bundle = None
        if self._follower is not None and n * TILE_WIDTH + tile.width > self._follower.size:
            bundle = await self._bundle(tile._replace(level=ENTRIES))
        return Fetched(tile, hashes, bundle)

    async def _bundle(self, tile: Tile) -> bytes | None:
        if tile in self._tried:
            return self._tried.pop(tile)
        try:
            return await self._client.tile(tile, LOG_CLIENT_AHEAD_MAX_BYTES, fresh=self._fresh)
        except Malformed:
            return b""  # too large to be fetched ahead

    async def _judge(self, follower: Follower, fetched: Fetched, first: int) -> None:
        """Every rule that entries can be judged by without their openings."""
        tile = fetched.tile._replace(level=ENTRIES)
        bundle = fetched.bundle
        if bundle == b"":
            bundle = await self._large(tile)
        if bundle is None:
            raise Found(Finding(Kind.TILES, f"{tile.path} is missing", 2, first))
        try:
            entries = decode_bundle(bundle, tile.width)
        except Malformed as error:
            raise Found(Finding(Kind.ENTRIES, f"{tile.path}: {error}", 1, first)) from error
        mismatch = compare_leaves(fetched.tile, fetched.hashes, [leaf_hash(entry) for entry in entries])
        if mismatch is not None:
            raise Found(mismatch)
        new = entries[max(0, follower.size - first) :]
        step = await in_thread(follower.step, new, None, self._latest_ms)
        await self._look_again(follower, step)
        if step.faults:
            found = step.faults.first()[:MONITOR_FAULTS_TOLD]
            notes = (self._checkpoint,)
            raise Found(*(Finding(Kind.ENTRIES, fault.detail, fault.rule, fault.seq, notes) for fault in found))

    async def _large(self, tile: Tile) -> bytes | None:
        try:
            return await self._client.tile(tile, MAX_BUNDLE_BYTES, fresh=self._fresh)
        except Malformed as error:
            raise Found(Finding(Kind.ENTRIES, f"{tile.path}: {error}", 1, tile.n * TILE_WIDTH)) from error

    async def _look_again(self, follower: Follower, step: Step) -> None:
        """What seems to be in the log twice is compared with what it seems to repeat."""
        for suspect in step.suspects:
            n, at = divmod(suspect.earlier, TILE_WIDTH)
            tile = tile_at(0, n, self._new.size)._replace(level=ENTRIES)
            try:
                entry = decode_bundle(await self._client.tile(tile, fresh=self._fresh) or b"", tile.width)[at]
            except Malformed as error:
                raise Found(Finding(Kind.ENTRIES, f"{tile.path}: {error}", 1, n * TILE_WIDTH)) from error
            follower.recheck(step, suspect, entry, None)

    async def _save(self, follower: Follower) -> None:
        """Half way: what was judged so far is part of the log that was signed, so it need not be read again."""
        half = Head(follower.size, follower.root())
        await self._tiles.fetch((tile.level, tile.n) for tile in tiles_of_growth(half.size, self._new.size))
        if judge_growth(half, self._new, self._tiles.hashes) is not Growth.SOUND:
            raise Found(Finding(Kind.TILES, f"the first {half.size} entries are not those of the checkpoint", 2))
        await in_thread(follower.keep)

    async def _check_parents(self, old: int, roots: dict[int, bytes]) -> None:
        """Every new hash of the tiles above, level by level."""
        level, new = 1, self._new.size
        while new >> (TILE_HEIGHT * level):
            indices = parents(old, new, level)
            if level > 1:
                await self._tiles.fetch((level - 1, i) for i in indices)
                whole = {i: self._tiles.hashes.get((level - 1, i), b"") for i in indices}
                full = TILE_WIDTH * HASH_BYTES
                roots = {i: complete_root(data) if len(data) == full else b"" for i, data in whole.items()}
            await self._tiles.fetch((level, i >> TILE_HEIGHT) for i in indices)
            wrong = check_parents(level, roots, self._tiles.hashes, new)
            if wrong is not None:
                raise Found(wrong)
            level += 1
