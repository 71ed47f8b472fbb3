"""Recording administrative acts in the administrative log of a site: who did what, under which instruction.

The act comes first, and then what it is about: an act that cannot be recorded stops it. An act is appended like any
event, durably, before `record` returns. What an act may hold is core/admin_act; reading and matching are elsewhere.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg
import msgspec

from ledger.config import Settings
from ledger.core.admin_act import Actor, ActWord, Flag, Role
from ledger.core.errors import ConfigInvalid
from ledger.messages import Receipt
from ledger.site import SiteRegistry
from ledger.store.reads import Reads

_NO_DETAILS: Mapping[str, str] = {}


class Act(NamedTuple):
    """What is to be recorded. `details` as core/admin_act.DETAILS allows them; `address`: the caller's IP, if any;
    `flagged`: why the instruction is believed unlawful."""

    act: ActWord
    actor: str
    role: Role
    instruction: str | None = None
    details: Mapping[str, str] = _NO_DETAILS
    address: str | None = None
    flagged: Flag | None = None


class Administration:
    """Writes the administrative logs of all sites. `wall_ms` is this process's clock."""

    def __init__(
        self, sites: SiteRegistry, reads: Reads, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._sites = sites
        self._reads = reads
        self._wall_ms = wall_ms

    async def record(self, site: str, act: Act, *, act_id: str | None = None) -> Receipt:
        """Append an act to the administrative log of `site` (the site's own name); the receipt's `position` is what an
        erasure's record names as its instruction.

        `act_id` (a UUID) makes it the same act, however often it is recorded: the receipt is the first one's. Raises
        `NotFound`, `ConfigInvalid` (details that the act may not have) and `Unavailable`: then do not go on.
        """
        raise NotImplementedError


@asynccontextmanager
async def open_administration(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Administration]:
    """For commands: over the command's own pool; leaving it answers every waiter."""
    reads = Reads(pool)
    sites = SiteRegistry(reads, pool, settings)
    try:
        yield Administration(sites, reads)
    finally:
        await sites.stop()


def actor_here(name: str | None = None) -> str:
    """Who acts at the command line: `--as NAME`, else the user of the operating system."""
    if name is None:
        try:
            name = getpass.getuser()
        except (OSError, KeyError):  # no name for this uid, as in a container
            name = f"uid {os.getuid()}"
    try:
        return msgspec.convert(name, Actor)
    except msgspec.ValidationError as error:
        raise ConfigInvalid("--as takes a name of 1 to 128 printable characters") from error
