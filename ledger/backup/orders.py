"""The file `orders`: what is kept beside the log and must not go back to what it was, as it is now, sealed.

Neither a dump of last night nor the stream has it: who is blocked, which "no" outlives its erasure, what was ordered
and not done yet, what people asked for, which sites are closed, which API keys were made and revoked. It is replaced
when one of these tables changes, and sealed like a backup. It also says how far the logs and data keys were then: by
that an older copy of the other files is known.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec

from ledger.backup.archive import ABOUT, About, Packer, parse_about, unpack
from ledger.backup.stream import SALT_BYTES, Damaged, Sealer
from ledger.core.admin_act import is_admin_log, site_of
from ledger.core.errors import ConfigInvalid
from ledger.core.sealing import Master
from ledger.durable import replace

Tables = dict[str, tuple[list[str], bytes]]
"""Table -> columns, and rows as Postgres's binary COPY."""

REPLACED = ("erasure", "block", "mark", "kept", "held", "request", "site_closing", "api_key", "consumer")
"""Their rows are taken over as they are."""
ADDED = ("erasure_entry", "request_step", "cookie_review")
"""Of these, nobody changes a row."""

_TABLES = """
select t.relname, array_agg(quote_ident(a.attname) order by a.attnum) as columns
  from pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.oid = t.relnamespace and n.nspname = 'ledger'
  join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
 where t.relname = any ($1) and t.relkind = 'r' group by t.relname
"""
_CHANGES = """
select relname || ':' || (n_tup_ins + n_tup_upd + n_tup_del) from pg_catalog.pg_stat_user_tables
 where schemaname = 'ledger' and relname = any ($1) order by relname
"""

# Of entries that the log lost (their seqs are negative). A subject is known as long as something is left of it. What
# will be held anew is not held twice.
_ASIDE = """
select x.site_id, x.erasure, s.origin, -x.seq as seq, r.subject is not null as known
  from ledger.erasure_entry x join ledger.site s using (site_id)
  join ledger.erasure r on r.site_id = x.site_id and r.id = x.erasure
 where x.seq < 0 order by s.origin, x.seq desc
"""
_WAITS = """
with waits as (
    update ledger.erasure r set status = 'pending', ended_ms = null
      from unnest($1::integer[], $2::uuid[]) d(site_id, id)
     where r.site_id = d.site_id and r.id = d.id and r.subject is not null
    returning r.site_id, r.id, r.subject
), blocked as (
    insert into ledger.block as b (site_id, subject, state, since_ms, until_ms, erasure)
        select distinct on (w.site_id, w.subject) w.site_id, w.subject, 'pending',
               (extract(epoch from clock_timestamp()) * 1000)::bigint, null::bigint, w.id from waits w
        on conflict (site_id, subject) do update set state = 'pending', until_ms = null
)
delete from ledger.held h using waits w
 where h.site_id = w.site_id and h.erasure = w.id
   and exists (select 1 from ledger.opening o where o.site_id = h.site_id and o.seq = h.seq)
"""
_DROP_ASIDE = "delete from ledger.erasure_entry where seq < 0"
# Whatever of a closed site came back goes first; and since then only is it true that nothing is left.
_CLOSE_AGAIN = "update ledger.site_closing set ended_ms = null where site_id = any ($1)"
_SITE_IDS = "select site_id from ledger.site where site = any ($1)"


async def changes(connection: asyncpg.Connection) -> str:
    """Something that is another after one of the tables changed."""
    return " ".join(row[0] for row in await connection.fetch(_CHANGES, list(REPLACED + ADDED)))


async def write_orders(path: Path, connection: asyncpg.Connection, about: About, master: Master) -> None:
    """All rows, at one moment."""
    sealed = io.BytesIO()
    packer = Packer(Sealer(sealed.write, master.secret, master.version, os.urandom(SALT_BYTES), bytes(32)))
    packer.add(ABOUT, msgspec.json.encode(about))
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for name, columns in await connection.fetch(_TABLES, list(REPLACED + ADDED)):
            rows = io.BytesIO()
            query = f"select {', '.join(columns)} from ledger.{name}"  # noqa: S608 - names out of the catalog

            async def take(data: bytes, into: io.BytesIO = rows) -> None:
                into.write(data)

            await connection.copy_from_query(query, output=take, format="binary")
            packer.add(f"columns/{name}", " ".join(columns).encode())
            packer.add(f"rows/{name}", rows.getvalue())
    packer.finish()
    replace(path, sealed.getvalue())


def read_orders(path: Path, secrets: Mapping[int, bytes]) -> tuple[About, Tables]:
    """When it was written, and what it holds. `Damaged` if it was altered, or is another file of this ledger's."""
    members: dict[str, bytearray] = {}
    with path.open("rb") as file:
        for piece in unpack(file.read, secrets):
            members.setdefault(piece.name, bytearray()).extend(piece.data)
    tables: Tables = {}
    for name in REPLACED + ADDED:
        columns = bytes(members.get(f"columns/{name}", b"")).decode("ascii").split()
        if columns:
            tables[name] = (columns, bytes(members[f"rows/{name}"]))
    if not {*REPLACED} <= tables.keys():
        raise Damaged(f"{path} is no file of orders, though this ledger sealed it: put back the one of that name")
    return parse_about(bytes(members[ABOUT])), tables


def newer_sites(orders: About, base: About) -> list[str]:
    """The sites of which they were written no earlier than the base was: by their administrative logs, for an act comes
    before whatever changes here. (By no clock, which may be put back.)"""
    sizes = {site.origin: site.size for site in orders.sites}
    logs = [log for log in base.sites if log.origin in sizes]
    older = {site_of(log.site) for log in logs if is_admin_log(log.site) and log.size > sizes[log.origin]}
    return [log.site for log in logs if not is_admin_log(log.site) and log.site not in older]


def are_older(orders: About, base: About) -> bool:
    """Whether they were written before a log was as long as in the base. (By no clock, which may be put back.)"""
    sizes = {site.origin: site.size for site in orders.sites}
    return any(site.size > sizes.get(site.origin, 0) for site in base.sites)


async def put_orders(connection: asyncpg.Connection, tables: Tables, sites: Sequence[str]) -> None:
    """Take over those of these sites, in the caller's transaction."""
    ids = [row[0] for row in await connection.fetch(_SITE_IDS, sites)]
    await connection.execute("set local role ledger_migrate")  # whose temporary tables the guard lets be
    there = dict(await connection.fetch(_TABLES, list(tables)))
    for name in (*REPLACED, *ADDED):
        if name not in tables:
            continue
        columns, rows = tables[name]
        if list(there.get(name, ())) != columns:
            raise ConfigInvalid(f"the orders beside the backup have another table {name} than this release")
        listed = ", ".join(columns)
        await connection.execute(f"create temporary table put_{name} (like ledger.{name}) on commit drop")
        await connection.copy_to_table(
            f"put_{name}", source=io.BytesIO(rows), columns=[column.strip('"') for column in columns], format="binary"
        )
        if name in REPLACED:
            await connection.execute(f"delete from ledger.{name} where site_id = any ($1)", ids)  # noqa: S608
        await connection.execute(
            f"insert into ledger.{name} ({listed}) select {listed} from put_{name} p "  # noqa: S608
            "where p.site_id = any ($1) on conflict do nothing",
            ids,
        )
    await connection.execute(_CLOSE_AGAIN, ids)


class Unrepeated(NamedTuple):
    """Orders that were carried out and whose entries neither the log nor the journal has: how many are carried out
    anew, and how many cannot be, for it is forgotten whom they were about."""

    waiting: int
    forgotten: int


async def take_up_again(
    connection: asyncpg.Connection, journal: Collection[tuple[str, int]], *, accept_loss: bool
) -> Unrepeated:
    """Let every order wait again of which an entry was lost that the journal (origin and seq of its lines) lacks: the
    events that it took are here again, and the eraser finds them. Then nothing is said any more of entries that were
    lost. `ConfigInvalid` where it is forgotten whom one was about, unless that is accepted."""
    async with connection.transaction():
        rows = await connection.fetch(_ASIDE)
        lost = {
            (row["site_id"], row["erasure"]): row["known"] for row in rows if (row["origin"], row["seq"]) not in journal
        }
        forgotten = len(lost) - sum(lost.values())
        if forgotten and not accept_loss:
            raise ConfigInvalid(
                f"{forgotten} erasures are in neither the log nor the journal, and it is forgotten whom they were "
                "about: these people would be here again. Put back a whole copy of `erasures` and give the command "
                "again, or go on all the same with --accept-loss"
            )
        if lost:
            await connection.execute(_WAITS, [site_id for site_id, _ in lost], [erasure for _, erasure in lost])
        await connection.execute(_DROP_ASIDE)
    return Unrepeated(len(lost) - forgotten, forgotten)
