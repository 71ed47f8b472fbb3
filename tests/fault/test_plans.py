"""Plans made while tables are small are kept by a session; they must not read whole tables once these have grown."""

from __future__ import annotations

import asyncpg

from ledger.store.pool import open_pool
from tests.conftest import Database
from tests.founding import found

_KNOWN = "select k.seq from unnest($1::bytea[]) d(key) join ledger.known k on k.site_id = 1 and k.key = d.key"


async def test_a_question_by_key_uses_an_index_though_the_tables_fit_a_page(database: Database) -> None:
    await found(database.url)
    superuser = await asyncpg.connect(database.admin_url)
    await superuser.execute("analyze")  # now the planner knows that a table has two rows, and would read them all
    await superuser.close()
    pool = await open_pool(database.url)
    try:
        plan = "\n".join(row[0] for row in await pool.fetch("explain " + _KNOWN, [b"x" * 16]))
    finally:
        pool.terminate()
    assert "Index Scan using known_pkey" in plan
    assert "Seq Scan" not in plan
