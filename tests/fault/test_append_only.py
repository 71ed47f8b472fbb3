"""Append-only for real: what the service role, the owner, a superuser by mistake and `migrate` can and cannot do."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger.embedded.ports import free_port
from ledger.embedded.postgres import Postgres
from ledger.store.migrate import migrate, migrations
from tests.conftest import Database, admin
from tests.fault.writer import Writer
from tests.founding import Founded

APPEND_ONLY = (
    *("site", "entry", "known", "erased", "document", "policy", "opening", "key_entry", "cookie_review"),
    "request_step",
)
BESIDE = (
    "request",
    "scrub",
    *("signer", "api_key", "projection", "state", "unfolded", "migration", "tile", "checkpoint", "checkpointer"),
    *("observed_cookie", "download", "consumer", "data_key"),
    *("retention_block", "retention_batch", "site_closing"),
    *("erasure", "erasure_entry", "block", "mark", "held", "kept", "related", "fading"),
)
REFUSED = "LG100"
REGISTER = """
select ledger.register_request($1, gen_random_uuid(), 'access', 'proven', 'prove', 'visitor', substr(sha256(''), 1, 16),
                               '', sha256(''), 0, 0, null, 0, 's.example:1', 10)
"""

# What each statement would do to a table with rows in it; a column of the table is assigned to itself.
STATEMENTS = {
    "UPDATE": "update ledger.{table} set {column} = {column}",
    "DELETE": "delete from ledger.{table}",
    "TRUNCATE": "truncate ledger.{table} cascade",
    "DROP": "drop table ledger.{table} cascade",
    "INSERT": "insert into ledger.{table} ({column}) select {column} from ledger.{table}",
}

DDL = (
    "alter table ledger.entry disable trigger all",
    "alter table ledger.entry disable trigger append_only",
    "alter table ledger.entry add column note text",
    "alter table ledger.entry drop column entry",
    "alter table ledger.entry rename to entries",
    "alter table ledger.entry rename column entry to bytes",
    "alter table ledger.opening alter column sealed type text using ''",
    "alter table ledger.entry drop constraint entry_pkey",
    "alter table ledger.entry enable row level security",
    "alter table ledger.entry owner to postgres",
    "alter table ledger.entry set schema elsewhere",
    "alter schema ledger rename to ledgers",
    "alter schema ledger owner to postgres",
    "alter function ledger.refuse() rename to accept",
    "alter trigger append_only on ledger.entry rename to append_only_once",
    "create or replace function ledger.refuse() returns trigger language plpgsql as 'begin return old; end'",
    "create or replace function ledger.leaf_hash(entry bytea) returns bytea language sql immutable return ''::bytea",
    "create function ledger.more() returns integer language sql return 1",
    "create table ledger.more (x integer)",
    "create view ledger.more as select 1 as x",
    "create trigger swallow before insert on ledger.entry for each row execute function elsewhere.swallow()",
    "create rule swallow as on insert to ledger.entry do instead nothing",
    "create policy hide on ledger.entry using (false)",
    "grant insert on ledger.entry to ledger_service",
    "grant all on all tables in schema ledger to public",
    "create unique index more on ledger.entry (seq)",
    "drop trigger append_only on ledger.entry",
    "drop trigger no_truncate on ledger.opening",
    "drop trigger erased_only on ledger.opening",
    "drop function ledger.refuse() cascade",
    "drop function ledger.append_events cascade",
    "drop index ledger.opening_visitor",
    "drop schema ledger cascade",
    "drop owned by ledger_owner cascade",
)


# A place to move things to, with every privilege that such a move asks for.
ELSEWHERE = """
create schema elsewhere;
grant create, usage on schema elsewhere to ledger_owner;
create function elsewhere.swallow() returns trigger language plpgsql as 'begin return null; end';
do $$ begin execute format('grant create on database %I to ledger_owner', current_database()); end $$;
"""


@pytest_asyncio.fixture
async def writer(pool: asyncpg.Pool, founded: Founded) -> Writer:
    """A log in which every append-only table has rows."""
    writer = Writer(pool, founded)
    await writer.policy("1.0", b"{}")
    seqs = await writer.events(4)
    await writer.erase(seqs[:1])
    await writer.key()
    await pool.fetch("select ledger.review_cookies($1, 'counsel', '1.0', sha256(''), 1, 0)", writer.site_id)
    await pool.fetch(REGISTER, writer.site_id)
    return writer


@pytest_asyncio.fixture
async def superuser(database: Database, writer: Writer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.admin_url)
    yield connection
    await connection.close()


async def contents(connection: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    rows = {}
    for table in APPEND_ONLY:
        rows[table] = sorted(await connection.fetch(f"select * from ledger.{table}"), key=repr)
        assert rows[table], f"an empty {table} proves nothing"
    return rows


async def column_of(connection: asyncpg.Connection, table: str) -> str:
    column: str = await connection.fetchval(
        """select attname from pg_attribute where attrelid = format('ledger.%I', $1::text)::regclass
              and attnum > 0 and attidentity = '' and attgenerated = '' order by attnum desc limit 1""",
        table,
    )
    return column


async def attempt(connection: asyncpg.Connection, statement: str) -> str:
    """The SQLSTATE that the statement is refused with; it is undone should it succeed."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as error:
        return error.sqlstate or ""
    finally:
        await transaction.rollback()
    return "done"


@pytest.mark.parametrize("verb", STATEMENTS)
async def test_the_service_may_not_write_any_table(
    database: Database, superuser: asyncpg.Connection, verb: str
) -> None:
    before = await contents(superuser)
    service = await asyncpg.connect(database.url)
    for table in (*APPEND_ONLY, *BESIDE):
        statement = STATEMENTS[verb].format(table=table, column=await column_of(superuser, table))
        assert await attempt(service, statement) == asyncpg.InsufficientPrivilegeError.sqlstate, statement
    await service.close()
    assert await contents(superuser) == before


@pytest.mark.parametrize("verb", ["UPDATE", "DELETE", "TRUNCATE", "DROP"])
@pytest.mark.parametrize("who", ["the owner", "a superuser", "a superuser who replicates"])
async def test_nobody_changes_what_was_appended(superuser: asyncpg.Connection, who: str, verb: str) -> None:
    before = await contents(superuser)
    if who == "the owner":
        await superuser.execute("set role ledger_owner")
    elif who == "a superuser who replicates":
        await superuser.execute("set session_replication_role = replica")
    for table in APPEND_ONLY:
        statement = STATEMENTS[verb].format(table=table, column=await column_of(superuser, table))
        assert await attempt(superuser, statement) == REFUSED, statement
    await superuser.execute("reset role; reset session_replication_role")
    assert await contents(superuser) == before


@pytest.mark.parametrize("who", ["ledger_owner", "postgres"])
async def test_nobody_changes_the_schema(superuser: asyncpg.Connection, who: str) -> None:
    await superuser.execute(ELSEWHERE)
    await superuser.execute(f"set role {who}")
    outcomes = {statement: await attempt(superuser, statement) for statement in DDL}
    refused = (REFUSED, asyncpg.InsufficientPrivilegeError.sqlstate)
    assert [statement for statement, outcome in outcomes.items() if outcome not in refused] == []


async def test_what_is_not_the_ledgers_may_be_made_changed_and_dropped(superuser: asyncpg.Connection) -> None:
    await superuser.execute(ELSEWHERE)
    await superuser.execute("create table elsewhere.t (x integer); alter table elsewhere.t add y integer")
    await superuser.execute("create trigger t before insert on elsewhere.t execute function elsewhere.swallow()")
    await superuser.execute("grant all on elsewhere.t to public; grant select on ledger.entry to public")
    await superuser.execute("create index on elsewhere.t (x); drop schema elsewhere cascade")


async def test_the_service_executes_what_it_needs_and_nothing_else(
    database: Database, superuser: asyncpg.Connection
) -> None:
    allowed = await superuser.fetch(
        """select p.proname from pg_proc p where p.pronamespace = 'ledger'::regnamespace
              and has_function_privilege('ledger_service', p.oid, 'execute')"""
    )
    assert {row["proname"] for row in allowed} == {
        *(
            "append_events",
            "append_one",
            "create_site",
            "create_admin_log",
            "put_document",
            "create_api_key",
            "revoke_api_key",
        ),
        *("write_state", "begin_projection", "flip_projection", "sweep_states", "settle"),
        *("write_due", "pass_due", "append_lapses"),
        *("put_checkpoint", "put_cosignatures", "report_checkpointer", "thin_checkpoints"),
        *("u64", "leaf_hash", "entry_ms", "entry_kind", "entry_commit", "entry_bytes", "core_hash"),
        *("vkey_public", "log_keys"),
        *("add_data_key", "destroy_data_key"),
        *("erasures_so_far", "record_scrub"),
        *("order_erasure", "lift_restriction", "append_erasure", "end_erasures", "sweep_erasures"),
        *("hasten_erasures", "await_unrestricted", "release_held"),
        *("put_retention_blocks", "begin_retention_batch", "end_retention_batches", "close_site", "end_closing"),
        *("observe_cookies", "forget_cookies", "review_cookies"),
        *("request_at", "register_request", "prove_request", "advance_request", "request_told", "forget_requests"),
        *("put_download", "spend_download", "sweep_downloads", "add_consumer", "remove_consumer", "confirm_erasures"),
    }
    to_all = await superuser.fetch(
        """select p.proname from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
            where p.pronamespace = 'ledger'::regnamespace and a.grantee = 0"""
    )
    assert to_all == []


async def test_what_runs_as_the_owner_looks_names_up_nowhere_else(superuser: asyncpg.Connection) -> None:
    definers = await superuser.fetch(
        """select p.proname, p.proconfig, r.rolname from pg_proc p join pg_roles r on r.oid = p.proowner
            where p.pronamespace = 'ledger'::regnamespace and p.prosecdef"""
    )
    assert len(definers) >= 9
    for row in definers:
        assert (row["rolname"], row["proconfig"]) == ("ledger_owner", ["search_path=pg_catalog, pg_temp"]), row


async def test_a_payload_goes_only_with_an_erasure_that_names_it_and_its_state_with_it(
    superuser: asyncpg.Connection, pool: asyncpg.Pool, writer: Writer
) -> None:
    seqs = await writer.events(3)
    visitors = await pool.fetch("select visitor from ledger.opening where seq = any($1) order by seq", seqs)
    for version in (1, 2):
        await superuser.executemany(
            "insert into ledger.state values ($1, $2, $3, $4, '')",
            [(writer.site_id, version, row["visitor"], seq) for row, seq in zip(visitors, seqs, strict=True)],
        )
    for role in ("ledger_owner", "postgres"):
        await superuser.execute(f"set role {role}")
        for seq in seqs:
            assert await attempt(superuser, f"delete from ledger.opening where seq = {seq}") == REFUSED
    before = {row["seq"] for row in await pool.fetch("select seq from ledger.opening")}

    erasure = await writer.erase(seqs[:2])

    after = {row["seq"] for row in await pool.fetch("select seq from ledger.opening")}
    assert after == before - set(seqs[:2]) | {erasure}
    states = await pool.fetch("select visitor, version from ledger.state order by version")
    assert [(row["visitor"], row["version"]) for row in states] == [(visitors[2]["visitor"], n) for n in (1, 2)]
    assert await pool.fetchval("select count(*) from ledger.entry") == erasure + 1
    assert await pool.fetch("select seq, by_seq from ledger.erased where by_seq = $1 order by seq", erasure) == [
        (seqs[0], erasure),
        (seqs[1], erasure),
    ]


@pytest.mark.parametrize("named", ["an erased event", "an erasure", "a policy", "no entry", "itself"])
async def test_an_erasure_of_anything_but_living_events_is_refused_whole(
    pool: asyncpg.Pool, writer: Writer, named: str
) -> None:
    living = (await writer.events(1))[0]
    before = await pool.fetchval("select count(*) from ledger.opening")
    seq = {"an erased event": 2, "an erasure": 6, "a policy": 1, "no entry": 1_000, "itself": writer.last + 1}[named]
    with pytest.raises(asyncpg.PostgresError) as refused:
        await writer.erase([living, seq])
    assert refused.value.sqlstate in ("LG006", asyncpg.UniqueViolationError.sqlstate)
    assert await pool.fetchval("select count(*) from ledger.opening") == before
    assert await pool.fetchval("select count(*) from ledger.entry") == writer.last + 1


async def schema(connection: asyncpg.Connection) -> list[tuple[object, ...]]:
    """Everything in the ledger's schema, with its owner, definition and privileges."""
    rows = await connection.fetch(
        """select c.relkind::text, c.relname, r.rolname, c.relacl::text, array(
                  select format('%s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                                a.attstorage)
                    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum)
             from pg_class c join pg_roles r on r.oid = c.relowner where c.relnamespace = 'ledger'::regnamespace
           union all
           select 'f', p.oid::regprocedure::text, r.rolname, p.proacl::text, array[pg_get_functiondef(p.oid)]
             from pg_proc p join pg_roles r on r.oid = p.proowner where p.pronamespace = 'ledger'::regnamespace
           union all
           select 't', format('%s on %s', t.tgname, t.tgrelid::regclass), '', '',
                  array[t.tgenabled::text, pg_get_triggerdef(t.oid)]
             from pg_trigger t where t.tgrelid::regclass::text like 'ledger.%' and not t.tgisinternal
           union all
           select 'e', e.evtname, e.evtenabled::text, '', array[e.evtevent] from pg_event_trigger e
           order by 1, 2"""
    )
    return [tuple(row) for row in rows]


async def test_migrating_again_changes_nothing_and_keeps_every_row(
    database: Database, superuser: asyncpg.Connection
) -> None:
    rows, before = await contents(superuser), await schema(superuser)
    for _ in range(2):
        again = await migrate(database.admin_url)
        assert (again.applied, again.guarded) == ((), True)
    assert await schema(superuser) == before
    assert await contents(superuser) == rows


async def test_what_migrations_made_belongs_to_the_owner_and_every_trigger_is_always_on(
    superuser: asyncpg.Connection,
) -> None:
    made = await schema(superuser)
    assert {row[2] for row in made if row[0] not in ("t", "e")} == {"ledger_owner"}
    tables = {row[1] for row in made if row[0] == "r"}
    assert tables == {*APPEND_ONLY, *BESIDE}
    triggers = {str(row[1]): row[4][0] for row in made if row[0] == "t"}  # type: ignore[index]
    assert set(triggers) == {
        *(
            f"{name} on ledger.{table}"
            for name, table in itertools.product(("append_only", "no_truncate"), APPEND_ONLY)
        ),
        "erased_only on ledger.opening",
        "erased_only on ledger.known",
        "without_projection on ledger.projection",
        "admin_name on ledger.site",
    }
    assert set(triggers.values()) == {"A"}
    assert {(row[1], row[2]) for row in made if row[0] == "e"} == {
        ("ledger_refuse_ddl", "A"),
        ("ledger_refuse_drop", "A"),
    }


async def test_a_guard_that_is_missing_is_put_back_by_a_superuser(
    database: Database, superuser: asyncpg.Connection
) -> None:
    await superuser.execute("drop event trigger ledger_refuse_ddl; drop event trigger ledger_refuse_drop")
    assert await attempt(superuser, "drop table ledger.entry cascade") == "done"
    assert (await migrate(database.admin_url)).guarded
    assert await attempt(superuser, "drop table ledger.entry cascade") == REFUSED


async def test_many_that_migrate_at_once_apply_each_migration_once(database: Database) -> None:
    superuser = await asyncpg.connect(database.admin_url)
    await superuser.execute("drop event trigger ledger_refuse_ddl; drop event trigger ledger_refuse_drop")
    await superuser.execute("drop schema ledger cascade; drop schema ledger_guard cascade")
    done = await asyncio.gather(*(migrate(database.admin_url) for _ in range(5)))
    assert sorted(len(each.applied) for each in done) == [0, 0, 0, 0, len(migrations())]
    assert all(each.guarded for each in done)
    assert await superuser.fetchval("select count(*) from ledger.migration") == len(migrations())
    assert await attempt(superuser, "drop table ledger.entry") == REFUSED
    await superuser.close()


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Postgres]:
    """One without the ledger's roles, with databases of a login that is no superuser."""
    cluster = Postgres(
        tmp_path / "postgres", free_port(), secrets.token_hex(8), tmp_path / "postgres.log", tmp_path / "run"
    )
    await cluster.initialise()
    await cluster.start()
    async with admin(cluster) as superuser:
        await superuser.execute("create role host login createrole password 'host'")
        for name in DATABASES:
            await superuser.execute(f"create database {name} owner host")
    yield cluster
    await cluster.stop()


DATABASES = ("one", "two", "three", "four")


async def test_a_databases_owner_who_is_no_superuser_may_migrate_it_but_not_guard_it(cluster: Postgres) -> None:
    for name in DATABASES[:2]:  # the first makes the roles, the second finds them
        done = await migrate(cluster.url(name, user="host", password="host"))
        assert (len(done.applied), done.guarded) == (len(migrations()), False)
        done = await migrate(cluster.url(name))
        assert (done.applied, done.guarded) == ((), True)


async def test_databases_of_one_cluster_may_be_migrated_at_once(cluster: Postgres) -> None:
    done = await asyncio.gather(*(migrate(cluster.url(name)) for name in DATABASES))
    assert [(len(each.applied), each.guarded) for each in done] == [(len(migrations()), True)] * len(DATABASES)
