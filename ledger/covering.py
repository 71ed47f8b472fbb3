"""The stored checkpoint that an export is written under: chosen, waited for, and explained where there is none.

Only the checkpointer signs. So whoever wants to write a bundle takes what it has signed already, or waits for it; what
the checkpoint says is not judged here.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.core.errors import Malformed, Unavailable
from ledger.core.heads import MAX_KEPT_CHECKPOINTS
from ledger.core.note import parse_checkpoint
from ledger.store.log import CheckpointRow, checkpoint_at, kept_checkpoints, newest_checkpoint, served_checkpoint

_STATE = """
select c.state, c.detail, extract(epoch from now() - c.seen_at)::bigint as age_seconds
  from ledger.checkpointer c where c.site_id = $1
"""

_AGAIN = "Export again, with a longer --wait if need be"


class Refused(NamedTuple):
    """The checkpointer will not sign, for this reason."""

    why: str


class Covering:
    """Finds checkpoints of one site until its time is over."""

    def __init__(self, pool: asyncpg.Pool, site_id: int, wait_seconds: float) -> None:
        self._pool, self._site_id = pool, site_id
        self._deadline = time.monotonic() + wait_seconds

    async def at_least(self, size: int) -> CheckpointRow | Refused:
        """The checkpoint that is served, once it covers `size` entries. `Unavailable` if it does not in time."""
        while True:
            served = await served_checkpoint(self._pool, self._site_id)
            if served is not None and served.size >= size:
                return served
            state = await self._pool.fetchrow(_STATE, self._site_id)
            if state is not None and state["state"] == "refused":
                return Refused(state["detail"] or "it gives no reason")
            if time.monotonic() >= self._deadline:
                raise await self._late(size, state)
            await asyncio.sleep(config.EXPORT_POLL_SECONDS)

    async def _late(self, size: int, state: asyncpg.Record | None) -> Unavailable:
        newest = await newest_checkpoint(self._pool, self._site_id)
        text = f"No checkpoint covers the {size:,} entries of the log"
        text += "." if newest is None else f": the newest one covers {newest.size:,}."
        if state is None or state["age_seconds"] > config.EXPORT_CHECKPOINTER_SILENT_SECONDS:
            text += " No checkpointer seems to be running: start `consent-ledger serve` (or `up`), and export again"
        else:
            text += f" {_AGAIN}"
        if newest is not None:
            text += f"; or take the older one with --at-checkpoint {newest.size}"
        return Unavailable("no-checkpoint", text + ".")

    async def exactly(self, size: int) -> CheckpointRow:
        """The one of this very size."""
        found = await checkpoint_at(self._pool, self._site_id, size)
        if found is None:
            newest = await newest_checkpoint(self._pool, self._site_id)
            known = "there is none yet" if newest is None else f"the newest covers {newest.size}"
            raise Unavailable("no-checkpoint", f"No checkpoint of size {size} was kept: {known}.")
        return found

    async def kept(self, up_to: int) -> list[CheckpointRow]:
        """Checkpoints with cosignatures up to this size: all of them, or evenly so many as a reader takes on."""
        kept: list[CheckpointRow] = []
        step, seen = 1, 0
        async for row in kept_checkpoints(self._pool, self._site_id, up_to):
            if not _has_cosignature(row.note):
                continue
            if seen % step == 0:
                kept.append(row)
            seen += 1
            if len(kept) > MAX_KEPT_CHECKPOINTS:
                del kept[1::2]
                step *= 2
        return kept


def _has_cosignature(note: bytes) -> bool:
    """A line of somebody else than the log. What is no checkpoint at all is kept, for `verify` to see."""
    try:
        checkpoint = parse_checkpoint(note)
    except Malformed:
        return True
    return any(signature.name != checkpoint.origin for signature in checkpoint.signatures)
