"""The known answers of proto/vectors hold in the database's functions too, byte for byte."""

from __future__ import annotations

import asyncpg

from ledger.core.entry import decode, origin_hash
from tests.conftest import Database
from tests.vectors.test_wire_v1 import LOG_ID, ORIGIN, WIRE


async def test_the_database_makes_every_entry_of_the_vectors(database: Database) -> None:
    connection = await asyncpg.connect(database.url)
    try:
        for known in WIRE["entries"]:
            stored = bytes.fromhex(known["entry"])
            parsed = decode(stored)
            made = await connection.fetchval("select ledger.entry_bytes($1, $2, $3, $4, $5, $6, $7, $8)", *parsed)
            assert made == stored
            row = await connection.fetchrow(
                "select ledger.leaf_hash($1), ledger.entry_ms($1), ledger.entry_kind($1), ledger.entry_commit($1)",
                stored,
            )
            assert tuple(row) == (bytes.fromhex(known["leaf_hash"]), parsed.ms, parsed.kind, parsed.commit)
            log = LOG_ID if parsed.seq else origin_hash(ORIGIN)
            core = await connection.fetchval(
                "select ledger.core_hash($1, $2, $3, $4)", log, parsed.kind, parsed.commit, parsed.public
            )
            assert core == await connection.fetchval("select sha256($1)", bytes.fromhex(known["core"]))
    finally:
        await connection.close()


async def test_a_length_beyond_int2_and_the_largest_numbers_are_encoded_right(database: Database) -> None:
    connection = await asyncpg.connect(database.url)
    try:
        arguments = (2**53 - 1, 2**53 - 1, bytes(32), 4, bytes(32), bytes(32), bytes(64), b"x" * 65_355)
        made = await connection.fetchval("select ledger.entry_bytes($1, $2, $3, $4, $5, $6, $7, $8)", *arguments)
        assert tuple(decode(made)) == arguments
    finally:
        await connection.close()
