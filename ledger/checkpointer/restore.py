"""Puts back a record of the last checkpoint that one place lost, deliberately and after judging everything anew.

The checkpointer never does that by itself: a lost record may be the trace of somebody who wants the log's past to be
forgotten. Here the whole log is read from genesis again, every other place and every witness is asked, and one that is
ahead or disagrees ends it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import asyncpg

from ledger.bus import BusError
from ledger.checkpointer.follower import NotSigned
from ledger.checkpointer.records import RecordChanged, RecordUnreachable
from ledger.checkpointer.run import NatsLink, witness_clients
from ledger.checkpointer.site import Looked, SiteCheckpointer
from ledger.config import Settings
from ledger.core import agreement
from ledger.core.agreement import Agrees, Ahead, Disagrees, Nothing, Said, Unreachable
from ledger.core.errors import ConfigInvalid
from ledger.core.note import Checkpoint
from ledger.progress import bar
from ledger.store import checkpoints as store
from ledger.store.sites import SiteRow
from ledger.witness.policy import read_policy

_PROGRESS_SECONDS = 0.2


class Found(NamedTuple):
    """What every place said, and the checkpoint that those who know one agree on (None: nobody does)."""

    looked: Looked
    checkpoint: Checkpoint | None
    vouching: tuple[str, ...]
    log_size: int


@asynccontextmanager
async def examining(
    settings: Settings, pool: asyncpg.Pool, site: SiteRow
) -> AsyncIterator[tuple[SiteCheckpointer, Found]]:
    """The log judged from genesis on, with a memory of its own; a worker may go on beside it."""
    link = NatsLink(settings.nats_url) if settings.nats_url else None
    async with aiohttp.ClientSession() as session:
        policy = read_policy(settings.witness_policy)
        with tempfile.TemporaryDirectory(prefix="consent-ledger-") as directory:
            checkpointer = SiteCheckpointer(
                settings,
                pool,
                site,
                policy,
                witness_clients(session, policy),
                link.bus if link else None,
                memory=Path(directory) / "memory",
            )
            try:
                if link is not None:
                    await link.try_once()
                yield checkpointer, await _examine(pool, checkpointer)
            except NotSigned as refusal:
                raise ConfigInvalid(f"{refusal.reason}: {refusal.detail}") from refusal
            finally:
                checkpointer.close()
                if link is not None:
                    await link.close()


async def _examine(pool: asyncpg.Pool, checkpointer: SiteCheckpointer) -> Found:
    showing = asyncio.create_task(_show_progress(pool, checkpointer))
    try:
        looked = await checkpointer.look_at_all()
    finally:
        showing.cancel()
        await asyncio.wait([showing])
    del looked.said[agreement.MEMORY]  # it is new
    agreeing = {name: said.size for name, said in looked.said.items() if isinstance(said, Agrees)}
    known = max(agreeing.values(), default=0)
    newest = next((looked.notes[name] for name, size in agreeing.items() if size == known), None)
    if newest is not None:
        checkpointer.cosigning.resume(newest)
        await checkpointer.cosigning.ask_all()
        for name, said in checkpointer.cosigning.said().items():
            looked.said[name] = said
    vouching = tuple(name for name, size in agreeing.items() if size == known)
    vouching += tuple(f"witness {s.name}" for s in checkpointer.cosigning.states if newest and s.said is None)
    return Found(looked, newest, vouching, checkpointer.log_size)


async def _show_progress(pool: asyncpg.Pool, checkpointer: SiteCheckpointer) -> None:
    total = (await store.moment(pool, checkpointer.site.site_id)).size
    with bar("Judging", "entries") as progress:
        while True:
            progress(checkpointer.log_size, total)
            await asyncio.sleep(_PROGRESS_SECONDS)


def check(found: Found, place: str) -> Checkpoint:
    """The checkpoint to put back there; `ConfigInvalid` says why none may be."""
    said = found.looked.said
    if place not in said:
        raise ConfigInvalid(f"{place} is not set up here")
    for name, each in said.items():
        if isinstance(each, Ahead | Disagrees):
            raise ConfigInvalid(f"nothing is put back while {name} does not agree: {describe(each)}")
    if isinstance(said[place], Unreachable):
        hint = ", or move the damaged file away" if place == agreement.ANCHOR else ""
        raise ConfigInvalid(f"{place} cannot be reached ({describe(said[place])}): bring it back first{hint}")
    if not isinstance(said[place], Nothing):
        raise ConfigInvalid(f"{place} has its record ({describe(said[place])}): there is nothing to put back")
    if found.checkpoint is None:
        raise ConfigInvalid("no place knows a checkpoint of this log: a worker makes the first one by itself")
    return found.checkpoint


async def put_back(checkpointer: SiteCheckpointer, found: Found, place: str) -> None:
    """Write the record, as at signing."""
    checkpoint = check(found, place)
    try:
        await checkpointer.write_record(found.looked, place, checkpoint)
    except (RecordChanged, RecordUnreachable) as error:
        raise ConfigInvalid(str(error)) from error
    except BusError as error:
        raise ConfigInvalid(f"NATS did not take it ({error.slug}): look at it, and try again") from error
    except NotSigned as error:
        raise ConfigInvalid(error.detail) from error


def describe(said: Said) -> str:
    """For a person."""
    if isinstance(said, Agrees):
        return f"agrees, size {said.size}"
    if isinstance(said, Ahead):
        return f"is ahead, size {said.size}"
    if isinstance(said, Disagrees):
        return f"disagrees: {said.detail}"
    if isinstance(said, Unreachable):
        return f"cannot be reached: {said.detail}"
    return "has no record"
