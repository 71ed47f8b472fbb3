"""Restoring, step by step; each is safe to be killed in, and the same command goes on from there.

    judge    the whole backup is authenticated, its keyring read, its target found empty     nothing is touched
    mark     from here on nothing is served, by whatever server (marker)
    load     schema, rows in one transaction, data keys, key files, anchors
    tail     what came after: sites from their stream and the journal of erasures, administrative logs from that of acts
    compare  with the newest that anybody here knows: anchors, NATS, newer backups, orders, witnesses
    settle   orders, marks, API keys, closings as they were last; the act is recorded; who was erased since is again
    prove    the whole log is judged as an audit judges it
    rebuild  the visitors' state
    serve    the mark goes, in one transaction

A log that lost entries goes on only where that is said (`accept_loss`), and is never signed against a checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

import asyncpg

from ledger.backup.archive import About
from ledger.backup.beside import about_of
from ledger.backup.folder import ACTS, ERASURES, KEYRING, ORDERS
from ledger.backup.journal import ActLine, ErasureLine, Journal
from ledger.backup.keyring import Keyring, check_keyring, is_older, load_keyring, renew_keyring
from ledger.backup.load import Judged, check_target, load, put_files
from ledger.backup.marker import LOADING, UNFINISHED, Mark, read_mark, set_mark, set_step, take_mark_away
from ledger.backup.orders import Tables, newer_sites, put_orders, read_orders, take_up_again
from ledger.backup.settle import Base, Options, Settling, Site
from ledger.config import BACKUP_FILES_APART_SECONDS, CONNECT_TIMEOUT_SECONDS, Settings
from ledger.core.admin_act import is_admin_log
from ledger.core.encoding import encode_time
from ledger.core.entry import decode
from ledger.core.errors import ConfigInvalid
from ledger.progress import bar
from ledger.store.pool import open_pool
from ledger.store.sites import SiteRow

_SITES = "select site_id, site, origin from ledger.site order by site_id"
# Which entries carried out an order: those that the log lost are named by the negative of their seq until others do.
_SET_ASIDE = """
update ledger.erasure_entry x set seq = -x.seq
 where x.seq > (select max(e.seq) from ledger.entry e where e.site_id = x.site_id)
"""
# What a checkpointer said of the older copy, which nothing may be appended to while it is young, is over.
_NO_MORE_REFUSED = "update ledger.checkpointer set state = 'waiting', reason = '', detail = '' where state = 'refused'"
_LOCK = "select pg_try_advisory_lock(hashtext('consent-ledger restore'))"
_POOL_SECONDS = 600.0
SETTLED = "settled"
_REPLAY = b"replay"
_ALONE_KNOWS = {
    ORDERS: 'which "no" outlived its erasure since the backup, who is blocked, what was ordered, closed and revoked',
    ERASURES: "who was erased since the backup",
    ACTS: "what was done since the backup, and by whom",
}


class _Beside(NamedTuple):
    """What lies beside the backups, read before anything is touched."""

    keyring: Keyring
    erasures: list[ErasureLine]
    acts: list[ActLine]
    orders: tuple[About, Tables] | None


async def restore(
    settings: Settings, admin_url: str, judged: Judged, options: Options, tell: Callable[[str], None]
) -> None:
    """Everything. `settings` name the database to be, its keys, anchors, NATS and witnesses. `ConfigInvalid` says what
    is missing, `Unavailable` what could not be asked: then give the command again."""
    base = Base(judged.id, judged.about, {**judged.secrets, **dict(settings.masters)})
    beside = _read_beside(settings, base, options, tell)
    async with _alone(admin_url):
        mark = await check_target(admin_url, judged)
        tell("going on with the restore that was broken off" if mark else f"the backup is whole: {_of(judged)}")
        with bar("loading", "KiB") as progress:
            await load(admin_url, judged, beside.keyring, progress)
        for name in put_files(settings, judged):
            tell(f"put back {name}")
        mark = mark or Mark(judged.id, LOADING)
        await _settle(settings, admin_url, base, beside, mark, _taken_over(beside, base), options, tell)


async def replay(settings: Settings, admin_url: str, options: Options, tell: Callable[[str], None]) -> None:
    """The same from the tail on, for a database that was put back by other means (a base backup, WAL)."""
    async with _alone(admin_url) as connection:
        base = Base(b"", await about_of(connection), dict(settings.masters))
        beside = _read_beside(settings, base, options, tell)
        mark = await read_mark(connection)
        if mark is None:  # which sites is kept in it, for the logs are longer when this is begun again
            mark = Mark(_REPLAY + os.urandom(8), " ".join((LOADING, *_taken_over(beside, base))))
            await set_mark(connection, mark)
        elif not mark.backup.startswith(_REPLAY):
            raise ConfigInvalid(UNFINISHED)
        async with connection.transaction():
            await connection.execute("set local role ledger_owner")
            await renew_keyring(connection, beside.keyring)
        tell("data keys are those of now; what was destroyed since opens nothing any more")
        base = base._replace(id=mark.backup)
        await _settle(settings, admin_url, base, beside, mark, mark.step.split()[1:], options, tell)


@asynccontextmanager
async def _alone(admin_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection; `ConfigInvalid` while another restore into this database is under way."""
    connection = await asyncpg.connect(admin_url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        if not await connection.fetchval(_LOCK):
            raise ConfigInvalid("another restore into this database is under way: wait until it has ended")
        yield connection
    finally:
        await connection.close()


def _taken_over(beside: _Beside, base: Base) -> list[str]:
    """The sites of which orders are taken over; of others those of the base are newer."""
    return [] if beside.orders is None else newer_sites(beside.orders[0], base.about)


def _read_beside(settings: Settings, base: Base, options: Options, tell: Callable[[str], None]) -> _Beside:
    """`ConfigInvalid` where something is missing, or is an older copy than anything else here knows of."""
    directory = options.beside
    keyring = load_keyring(directory / KEYRING)
    for name, known in _ALONE_KNOWS.items():
        if not (directory / name).exists() and not options.accept_loss:
            raise ConfigInvalid(
                f"there is no {directory / name}: {known}, that file alone knows. Put it back, or give all of that up "
                "with --accept-loss"
            )
    beside = _Beside(
        keyring,
        list(Journal(directory / ERASURES, ErasureLine).read()),
        list(Journal(directory / ACTS, ActLine).read()),
        read_orders(directory / ORDERS, base.secrets) if (directory / ORDERS).exists() else None,
    )
    check_keyring(keyring, base.about, [master.version for master in settings.masters])
    for lost in _lost(beside, base.about):
        if not options.accept_loss:
            raise ConfigInvalid(f"{lost}. Put back the newest that you have, or go on all the same with --accept-loss")
        tell(f"{lost}: given up (--accept-loss)")
    return beside


def _lost(beside: _Beside, base: About) -> Iterator[str]:
    """What of it is older than something else here, and which sites are younger than the base."""
    known = base if beside.orders is None else beside.orders[0]
    if is_older(beside.keyring, base) or is_older(beside.keyring, known):
        yield "`keyring` is an older copy: data keys were made or destroyed since, and what that forgot is back"
    acts_ms = max((decode(line.entry).ms for line in beside.acts), default=0)
    if beside.orders is not None and known.taken_ms + BACKUP_FILES_APART_SECONDS * 1000 < acts_ms:
        until = f"are of {encode_time(known.taken_ms)}, and `acts` go on until {encode_time(acts_ms)}"
        yield f"`orders` {until}: an older copy, and what was ordered, marked, closed or revoked since is lost"
    for origin in sorted(beside.keyring.keys.keys() - {site.origin for site in base.sites}):
        yield f"{origin} was added after the backup, and nothing of it but its data keys is here"


async def _settle(
    settings: Settings,
    admin_url: str,
    base: Base,
    beside: _Beside,
    mark: Mark,
    taken_over: Sequence[str],
    options: Options,
    tell: Callable[[str], None],
) -> None:
    """From the rows on, until it may be served."""
    owner = replace(settings, database_url=_as_owner(admin_url))
    async with AsyncExitStack() as stack:
        pool = await open_pool(owner.database_url, size=4, timeout_seconds=_POOL_SECONDS)
        stack.callback(pool.terminate)
        connection: asyncpg.Connection = await stack.enter_async_context(pool.acquire())
        rows = {row[2]: SiteRow(*row) for row in await connection.fetch(_SITES)}
        sites = [Site(rows[inside.origin], inside) for inside in base.about.sites if inside.size > 0]
        work = Settling(owner, pool, connection, sites, options, tell)
        await work.bring_back(beside.acts, beside.erasures, stack)
        await work.compare(beside.erasures, base, None if beside.orders is None else beside.orders[0])
        await connection.execute(_NO_MORE_REFUSED)
        if beside.orders is not None and mark.step != SETTLED:
            async with connection.transaction():
                await put_orders(connection, beside.orders[1], taken_over)
                await connection.execute(_SET_ASIDE)
                await set_step(connection, SETTLED)
            known, count = encode_time(beside.orders[0].taken_ms), f"{len(taken_over)} sites"
            tell(f"orders of erasure, marks and requests of {count} are those of {known}; of later ones nothing tells")
        await work.erase(beside.erasures, base)
        repeated = {(line.origin, line.seq) for line in beside.erasures}
        unrepeated = await take_up_again(connection, repeated, accept_loss=options.accept_loss)
        if unrepeated.waiting:
            tell(f"{unrepeated.waiting} erasures that the journal lacks are ordered still: the eraser carries them out")
        if unrepeated.forgotten:
            tell(
                f"{unrepeated.forgotten} erasures are in neither the log nor the journal, and it is forgotten whom "
                "they were about: these people are here again (--accept-loss). Order them anew"
            )
        await work.prove()
        await work.rebuild()
        await take_mark_away(connection)
    tell("the ledger may be served again")


def _of(judged: Judged) -> str:
    sites = [site for site in judged.about.sites if not is_admin_log(site.site)]
    entries = sum(site.size for site in judged.about.sites)
    return f"{len(sites)} sites, {entries} entries, as of {encode_time(judged.about.taken_ms)}"


def _as_owner(admin_url: str) -> str:
    """Every connection as the ledger's owner: the service's login has no rights while the mark stands."""
    return f"{admin_url}{'&' if '?' in admin_url else '?'}role=ledger_owner"
