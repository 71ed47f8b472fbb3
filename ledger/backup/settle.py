"""From the loaded rows to a ledger that may be served: the tail, the comparison, the erasures, the proof, the state.

Each part may be broken off and begun again. What is loaded, and when the mark goes, is restore's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg

from ledger import projector
from ledger.administration import Act, Administration
from ledger.backup.again import erase_again, still_open
from ledger.backup.archive import About, SiteInside, read_about
from ledger.backup.folder import kept_in
from ledger.backup.journal import ActLine, ErasureLine
from ledger.backup.tail import Brought, from_acts, from_stream, signed_elsewhere, size_of
from ledger.bus import Bus, BusError
from ledger.checkpointer import restore as places
from ledger.checkpointer.records import Anchor, NatsRecord, claimed_size
from ledger.config import Settings
from ledger.core import agreement
from ledger.core.admin_act import admin_log_of, is_admin_log
from ledger.core.agreement import Ahead, Disagrees, Nothing
from ledger.core.encoding import encode_time
from ledger.core.errors import ConfigInvalid, LedgerError, Unavailable
from ledger.core.merkle import leaf_hash
from ledger.core.stream import names
from ledger.keys.files import keys_here
from ledger.memory import forget
from ledger.progress import bar
from ledger.recover.signed import Signed
from ledger.site import SiteRegistry
from ledger.store.reads import Reads
from ledger.store.sites import SiteRow
from ledger.vault import Vaults


class Options(NamedTuple):
    """`beside`: where keyring and journals lie. `actor`: who restores, for the administrative logs."""

    beside: Path
    accept_loss: bool
    actor: str


class Site(NamedTuple):
    """A site as the backup has it, and its row."""

    row: SiteRow
    inside: SiteInside


class Base(NamedTuple):
    """What a ledger is settled upon: what it was like as it was put back, a name of that, and the master secrets of now
    and of then, by version."""

    id: bytes
    about: About
    secrets: Mapping[int, bytes]


class Settling:
    """From the loaded rows to a ledger that may be served."""

    def __init__(
        self,
        settings: Settings,
        pool: asyncpg.Pool,
        connection: asyncpg.Connection,
        sites: Sequence[Site],
        options: Options,
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._connection = connection
        self._sites = sites
        self._options = options
        self._tell = tell
        self._notes: dict[str, dict[str, bytes]] = {site.row.origin: {} for site in sites}
        self._shorter: set[str] = set()
        """Logs of which something is given up, by origin; `_lost`: where a signed checkpoint covers it."""
        self._lost: set[str] = set()
        self._streams: dict[str, int] = {}
        self._bus: Bus | None = None

    async def bring_back(self, acts: Sequence[ActLine], erasures: Sequence[ErasureLine], stack: AsyncExitStack) -> None:
        """What came after the backup, as far as anybody has it."""
        self._bus = bus = await self._connect(stack)
        for site in self._sites:
            row, name = site.row, site.row.site
            brought, source = Brought(0, None), "`acts`" if is_admin_log(name) else "the stream"
            try:
                if is_admin_log(name):
                    lines = [line for line in acts if line.origin == row.origin]
                    brought = await from_acts(self._connection, row, lines, self._settings.masters)
                elif bus is not None:
                    with bar("recovering", "entries") as progress:
                        brought = await from_stream(
                            self._connection, bus, row, self._settings.masters, erasures, progress
                        )
                    self._streams[row.origin] = brought.known
                if bus is not None:
                    self._notes[row.origin]["the record in NATS"] = (await NatsRecord(row.origin).read(bus)).note or b""
            except BusError as error:
                raise Unavailable("nats", f"NATS: {error}. Give the command again; what was loaded stays.") from error
            if brought.entries:
                self._tell(f"{name}: {brought.entries} entries from after the backup are back")
            if brought.refused is not None:
                self._tell(f"{name}: {source} holds more, and it is not taken: {brought.refused}")

    async def _connect(self, stack: AsyncExitStack) -> Bus | None:
        if not self._settings.nats_url:
            return None
        try:
            bus = await Bus.connect(self._settings.nats_url)
        except (BusError, OSError) as error:
            if self._options.accept_loss:
                self._tell("NATS does not answer: whatever only its streams hold is given up (--accept-loss)")
                return None
            raise Unavailable(
                "nats",
                "NATS does not answer, and its streams may hold what came after the backup: bring it back and give "
                "the command again, or give that up with --accept-loss",
            ) from error
        stack.push_async_callback(bus.close)
        return bus

    async def compare(self, journal: Sequence[ErasureLine], base: Base, orders: About | None) -> None:
        """With every checkpoint that is known here, and with how far the orders say that the logs went. Another history
        is refused; a shorter one only with a word."""
        newer = self._newest_backup(base.secrets)
        told = {} if orders is None else {site.origin: site.size for site in orders.sites}
        for site in self._sites:
            row, notes = site.row, self._notes[site.row.origin]
            notes["the backup"] = site.inside.checkpoint.encode()
            notes[f"the anchor of {row.site}"] = (
                Anchor(self._settings.anchors / f"{row.site}.anchor").read().note or b""
            )
            if row.origin in newer:
                notes["the newest backup"] = newer[row.origin].checkpoint.encode()
            fault, greatest = await signed_elsewhere(self._connection, row, notes)
            if fault is not None:
                raise ConfigInvalid(f"{row.site}: this is another log than the one that was signed: {fault}")
            size = await size_of(self._connection, row)
            known = size if greatest is None else max(size, greatest.checkpoint.size)
            erased = max((line.seq + 1 for line in journal if line.origin == row.origin), default=0)
            inside = 0 if row.origin not in newer else newer[row.origin].size
            published = self._streams.get(row.origin, 0)
            if max(known, erased, inside, told.get(row.origin, 0), published) > size:
                self._lose(row, size, published > size, greatest if known > size else None)

    def _lose(self, row: SiteRow, size: int, published: bool, signed: Signed | None) -> None:
        what = f"{row.site}: entries from {size} on were recorded after the backup, and nothing here has them"
        if published:
            what += " all"
        if signed is not None:
            what += f"; {signed.place} has a signed checkpoint over {signed.checkpoint.size} entries"
        if not self._options.accept_loss:
            source = "bring NATS back"
            if published or is_admin_log(row.site):
                source = f"put back the newest `{'erasures' if published else 'acts'}` beside the backups"
            raise ConfigInvalid(
                f"{what}. Look for a newer backup or another copy of the database, {source}, and give the command "
                "again; or give them up with --accept-loss (deploy/runbooks/backup.md tells what that means)"
            )
        self._tell(f"{what}: given up")
        self._shorter.add(row.origin)
        if signed is not None:
            self._lost.add(row.origin)
            self._close(row, signed)
            without = ", and without it nothing administrative can be done to its site, no erasure either"
            self._tell(
                f"{row.site}: this log can be read and not be continued, for its key would vouch for two histories"
                f"{without if is_admin_log(row.site) else ''}: begin anew under another prefix "
                "(deploy/runbooks/older-copy.md, step 4)"
            )

    def _close(self, row: SiteRow, signed: Signed) -> None:
        """Whoever serves this log learns from the anchor, and before all else, that it ends too early."""
        anchor = Anchor(self._settings.anchors / f"{row.site}.anchor")
        there = anchor.read().note
        if there is None or claimed_size(there) < signed.checkpoint.size:
            anchor.write(signed.checkpoint.encode(), there, {})

    async def _give_up(self, row: SiteRow) -> None:
        """Let the relay and the checkpointer begin again where the log ends now."""
        if self._bus is not None and self._streams.get(row.origin, 0) > await size_of(self._connection, row):
            try:
                await self._bus.delete_stream(names(row.site).stream)
            except BusError as error:
                raise Unavailable("nats", f"NATS: {error}. Give the command again; what was done stays.") from error
            self._tell(f"{row.site}: its stream, which held more, is deleted; the relay builds it again from the log")
        forget(self._settings.anchors / f"{row.site}.memory")

    def _newest_backup(self, secrets: Mapping[int, bytes]) -> dict[str, SiteInside]:
        found: dict[str, SiteInside] = {}
        for kept in kept_in(self._options.beside)[-1:]:
            with kept.path.open("rb") as file:
                try:
                    about = read_about(file.read, secrets)
                except LedgerError as error:
                    self._tell(f"{kept.path} is not asked how far the logs went: {error}")
                    continue
            found = {site.origin: site for site in about.sites}
        return found

    async def erase(self, journal: Sequence[ErasureLine], base: Base) -> None:
        """Record what is done, and erase again who was erased since."""
        with tempfile.TemporaryDirectory(prefix="consent-ledger-") as directory:
            settings = self._settings
            if self._lost:  # an anchor that is ahead stops every append: this one is what has to be done nevertheless
                settings = replace(settings, anchor_dir=Path(directory))
            reads = Reads(self._pool)
            registry = SiteRegistry(reads, self._pool, settings)
            administration = Administration(registry, reads)
            try:
                there = {each.row.site for each in self._sites}
                for each in self._sites:
                    if admin_log_of(each.row.site) not in there:
                        continue
                    open_again = await still_open(self._connection, each.row, journal)
                    act = self._act(each, base, open_again)
                    name = leaf_hash(base.id + each.row.origin.encode())[:16]
                    await administration.record(each.row.site, act, act_id=str(UUID(bytes=name, version=5)))
                    if not open_again:
                        continue
                    site = await registry.get(each.row.site)
                    keys = [key.public for key in keys_here(self._settings, each.row.site, "ingest").keys.values()]
                    done = await erase_again(
                        self._connection, administration, each.row, site, journal, self._options.actor, keys
                    )
                    self._tell(f"{each.row.site}: {done.events} events that were erased since are erased again")
            finally:
                await registry.stop()

    def _act(self, site: Site, base: Base, open_again: int) -> Act:
        details = {
            "asOf": encode_time(base.about.taken_ms),
            "entries": str(site.inside.size),
            "count": str(open_again),
            "masterVersion": str(self._settings.masters[0].version),
        }
        return Act("backup.restored", self._options.actor, "operator", None, details)

    async def prove(self) -> None:
        """Judge every log from its genesis on, with every place and witness that is set up here."""
        for site in self._sites:
            row = site.row
            settings = self._settings
            if row.origin in self._shorter:  # what NATS has was compared, and stops every look at a log that is shorter
                settings = replace(settings, nats_url="")
            async with places.examining(settings, self._pool, row) as (checkpointer, found):
                for name, said in found.looked.said.items():
                    if isinstance(said, Disagrees | Ahead):
                        self._judge_place(row, name, said)
                    elif name == agreement.NATS and isinstance(said, Nothing) and said.lost:
                        self._tell(
                            f"{row.site}: NATS has lost its record of the last checkpoint, and signing waits until you "
                            f"say that you know why: `consent-ledger checkpoint restore-record {row.site} --to nats`"
                        )
                if found.checkpoint is None:
                    raise ConfigInvalid(f"{row.site}: nobody knows a checkpoint of this log: nothing is served")
                if isinstance(found.looked.said[agreement.ANCHOR], Nothing):
                    await places.put_back(checkpointer, found, agreement.ANCHOR)
                self._tell(
                    f"{row.site}: sound, {found.log_size} entries, consistent with the checkpoint over "
                    f"{found.checkpoint.size} that is known to {', '.join(found.vouching)}"
                )
            if row.origin in self._shorter - self._lost:
                await self._give_up(row)
        if self._shorter:
            self._tell(
                f"`orders` in {self._options.beside} tells of more than there is now: move it away, or the worker and "
                "`backup` leave it and `keyring` as they are"
            )

    def _judge_place(self, row: SiteRow, name: str, said: Disagrees | Ahead) -> None:
        """What only a witness knows comes to light here, after the loss was accepted: it may be read, and no more."""
        known = row.origin in self._lost or name not in (agreement.NATS, agreement.DATABASE, agreement.ANCHOR)
        if not (self._options.accept_loss and known):
            raise ConfigInvalid(f"{row.site}: {name} {places.describe(said)}: nothing is served")
        self._lost.add(row.origin)
        self._tell(f"{row.site}: {name} {places.describe(said)}: no checkpoint will be signed")

    async def rebuild(self) -> None:
        vaults = Vaults(self._pool, self._settings.masters)
        for site in self._sites:
            if not is_admin_log(site.row.site):
                with bar("folding", "entries") as progress:
                    await projector.rebuild(self._pool, vaults, site.row.site_id, progress)
