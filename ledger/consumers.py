"""Consumers: who keeps copies of what a site's log publishes, and up to where each has confirmed erasures (D3, N6).

A consumer reads the stream, finds an erasure entry, forgets what it names, and then says so: every erasure up to this
position is applied here. Nothing is asked of consumers and nothing waits for them; who is behind is told.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.administration import Acting
from ledger.core.encoding import encode_time
from ledger.core.errors import ConfigInvalid, InputRefused, LedgerError, NotFound
from ledger.messages import ErasuresConfirmed
from ledger.secrets import api_key_hash, api_key_id, new_api_key
from ledger.site import Site
from ledger.store.ask import ask
from ledger.store.reads import Reads

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

_ADD = "select ledger.add_consumer($1, $2, $3)"
_REMOVE = "select ledger.remove_consumer($1, $2)"
_CONFIRM = "select c.seq, c.confirmed_ms from ledger.confirm_erasures($1, $2, $3, $4) c"

# The first and the last erasure that is not confirmed, each by the index on (site_id, by_seq).
_LIST = """
select c.site_id, s.site, c.name, c.key_hash, c.position, c.confirmed_at, c.added_at,
       (select min(r.by_seq) from ledger.erased r where r.site_id = c.site_id and r.by_seq > c.position) as next_seq,
       (select max(r.by_seq) from ledger.erased r where r.site_id = c.site_id) as last_seq,
       (select ledger.entry_ms(e.entry) from ledger.entry e
         where e.site_id = c.site_id
           and e.seq = (select min(r.by_seq) from ledger.erased r
                         where r.site_id = c.site_id and r.by_seq > c.position)) as waiting_since_ms
  from ledger.consumer c join ledger.site s using (site_id)
 where $1::integer is null or c.site_id = $1 order by s.site, c.name
"""


class Consumer(NamedTuple):
    """A consumer, and how far it is. `next_seq` is the first erasure entry that it has not confirmed, recorded at
    `waiting_since_ms`; None where it has confirmed every one."""

    site: str
    name: str
    key_hash: bytes
    position: int
    added_ms: int
    confirmed_ms: int | None
    next_seq: int | None
    waiting_since_ms: int | None

    def behind_seconds(self, now_ms: int) -> float:
        """For how long the first erasure that it has not confirmed has been in the log; 0 where there is none."""
        return 0.0 if self.waiting_since_ms is None else max(0.0, (now_ms - self.waiting_since_ms) / 1000)


class Consumers:
    """The consumers of one ledger. Every call raises `Unavailable` if the database does not answer."""

    def __init__(self, reads: Reads) -> None:
        self._reads, self._pool = reads, reads.pool
        self.known: list[Consumer] = []
        """Of every site, as of the last look of `watch`."""

    async def add(self, site: Site, name: str, acting: Acting) -> str:
        """A new consumer; the API key by which it confirms, which is told this once. `ConfigInvalid`: the name."""
        if NAME.fullmatch(name) is None:
            raise ConfigInvalid("a consumer's name is 1 to 64 letters, digits, dots, colons, - or _")
        if name in {one.name for one in await self.all(site)}:
            raise ConfigInvalid(f"{site.site} has a consumer {name} already; `consumer remove` takes it away")
        key = new_api_key("secret")
        key_hash = api_key_hash(key)
        details = {
            "keyId": api_key_id(key_hash),
            "class": "secret",
            "scopes": "check",
            "label": f"consumer {name}"[:64],
        }
        await acting("key.created", details)
        (row,) = await ask(self._pool, _ADD, site.site_id, name, key_hash)
        if not row[0]:
            raise ConfigInvalid(f"{name} was added by somebody else at this moment")
        return key

    async def remove(self, site: Site, name: str, acting: Acting) -> None:
        """Forget a consumer, and revoke its key; `NotFound` where there is none."""
        found = next((one for one in await self.all(site) if one.name == name), None)
        if found is None:
            raise NotFound(f"{site.site} has no consumer {name[:64]!r}; `consumer list` shows those it has")
        await acting("key.revoked", {"keyId": api_key_id(found.key_hash)})
        await ask(self._pool, _REMOVE, site.site_id, name)

    async def all(self, site: Site | None = None) -> list[Consumer]:
        """The consumers of one site, or of every site, by name."""
        rows = await ask(self._pool, _LIST, None if site is None else site.site_id)
        return [_consumer(row) for row in rows]

    async def confirm(self, site: Site, name: str, key: str, seq: int, acting: Acting) -> ErasuresConfirmed:
        """Take a consumer's word that every erasure up to an entry is applied. `InputRefused` where the key is not its,
        or the log has no such entry. What confirms an erasure is an act; what repeats that is none.
        """
        found = next((one for one in await self.all(site) if one.name == name), None)
        if found is None:
            raise InputRefused("unknown-consumer", "The site has no consumer of that name.", "/consumer")
        if found.key_hash != api_key_hash(key):
            raise InputRefused("not-confirmed", "A consumer confirms with the key that it was given.", "/consumer")
        if seq >= (await self._reads.head(site.site_id)).size:
            raise InputRefused("not-confirmed", "The log has no such entry.", "/position")
        if found.next_seq is not None and found.next_seq <= seq:
            await acting("erasure.confirmed", {"consumer": name, "position": f"{site.site}:{seq}"})
        (row,) = await ask(self._pool, _CONFIRM, site.site_id, name, found.key_hash, seq)
        return ErasuresConfirmed(site.site, name, f"{site.site}:{row['seq']}", encode_time(row["confirmed_ms"]))

    async def watch(self) -> None:
        """Keep `known` up to date; runs until cancelled."""
        while True:
            try:
                self.known = await self.all()
            except LedgerError as error:
                log.warning("the consumers are not looked at: %s", error)
            await asyncio.sleep(config.CONSUMERS_WATCH_SECONDS)


def behind(consumers: Sequence[Consumer], patience_seconds: float, now_ms: int | None = None) -> list[Consumer]:
    """Those whose first unconfirmed erasure has been in the log for longer."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return [one for one in consumers if one.behind_seconds(now_ms) > patience_seconds]


def _consumer(row: asyncpg.Record) -> Consumer:
    confirmed = row["confirmed_at"]
    return Consumer(
        row["site"],
        row["name"],
        row["key_hash"],
        row["position"],
        int(row["added_at"].timestamp() * 1000),
        None if confirmed is None else round(confirmed.timestamp() * 1000),
        row["next_seq"],
        row["waiting_since_ms"],
    )
