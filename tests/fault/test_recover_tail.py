"""What `recover` takes from a stream: entries of every kind, as they were; and nothing that does not verify."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger.backup.beside import Beside
from ledger.config import Settings
from ledger.core import keys
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_base64
from ledger.core.entry import decode, encode, key_hash
from ledger.core.errors import AuditFault
from ledger.core.event import decode_event
from ledger.core.merkle import leaf_hash
from ledger.core.tail import Gone
from ledger.recover import recovery
from ledger.recover.recovery import connect
from tests.conftest import Database
from tests.fault.forged import (
    body_is_entry,
    entry_of,
    erasing,
    other_payload,
    recommitted,
    signed_by,
    with_entry,
    with_headers,
)
from tests.fault.restored import (
    SECRET,
    Backup,
    command,
    contents,
    last_head,
    publish,
    quiet,
    recover,
    recovering,
    refuses,
    size_of,
    without_content,
)
from tests.fault.streams import (
    PREFIX,
    Broker,
    Stored,
    check_copy,
    messages_of,
    replace_stream,
    resumed,
)
from tests.fault.writer import Writer
from tests.founding import MASTER, SITE, Founded, now_ms

pytestmark = pytest.mark.usefixtures("quick_relay")


# --- as it was --------------------------------------------------------------------------------------------------------


async def test_entries_of_every_kind_come_back_with_all_that_stands_beside_them(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup
) -> None:
    old = await writer.events(20)
    await backup.take()
    await writer.policy("1.0", b'{"site":"shop.example.com"}')
    await writer.key()
    await writer.events(600)
    await writer.erase(old[3:6])
    await writer.policy("1.1", b"{}")
    await writer.events(5)
    await publish(pool, broker, writer)
    before = without_content(await contents(database))
    await backup.put_back()
    survey = await recover(database, broker)
    assert (survey.first, survey.end, survey.last) == (21, writer.last + 1, writer.last)
    assert without_content(await contents(database)) == before
    marks = await pool.fetch("select purpose, seq from ledger.mark order by seq")
    assert [tuple(row) for row in marks] == [("analytics", seq) for seq in old[3:6]]
    assert await pool.fetchval("select count(*) from ledger.block where state = 'erased'") == 3
    await writer.events(3)
    await publish(pool, broker, writer)
    await check_copy(broker, pool, writer)


async def test_an_erased_visitor_s_state_goes_with_the_erasure_that_comes_back(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup
) -> None:
    seqs = await writer.events(3)
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(
        "insert into ledger.state (site_id, version, visitor, seq, body) "
        "select site_id, 1, visitor, seq, '' from ledger.opening"
    )
    await connection.close()
    await backup.take()
    await writer.erase(seqs[:2])
    await publish(pool, broker, writer)
    await backup.put_back()
    await recover(database, broker)
    assert [row["seq"] for row in await pool.fetch("select seq from ledger.state")] == seqs[2:]


async def test_keys_that_change_within_the_tail_count_from_there_on(
    pool: asyncpg.Pool, writer: Writer, founded: Founded, broker: Broker, database: Database, backup: Backup
) -> None:
    await writer.events(10)
    await backup.take()
    fresh = founded._replace(ingest=SigningKey(os.urandom(32)))
    await writer.key(keys.introduce_ingest(founded.log_id, fresh.ingest))
    await (await resumed(pool, fresh, database)).events(2)
    await (await resumed(pool, fresh, database)).key(keys.retire_ingest(founded.ingest.public))
    other = await resumed(pool, fresh, database)
    await other.events(2)
    await publish(pool, broker, other)
    before = without_content(await contents(database))
    messages = await messages_of(broker)
    await backup.put_back()

    retired = signed_by(messages[15], founded, founded.ingest, named=True)
    await replace_stream(broker, messages | {15: retired})
    refused = (await recover(database, broker, dry_run=True)).refused
    assert refused is not None
    assert (refused.rule, refused.seq) == (7, 15)
    await replace_stream(broker, messages)
    assert (await recover(database, broker)).refused is None
    assert without_content(await contents(database)) == before

    tip = entry_of(messages[16])
    late = decode(tip)._replace(seq=17, prev=leaf_hash(tip), signer=key_hash(founded.ingest.public))
    connection = await connect(database.admin_url)
    columns = [[encode(late)], *[[None]] * 5]
    with pytest.raises(asyncpg.PostgresError, match="signer of entry 17 is not active"):
        await connection.execute(recovery._RECOVER, founded.site_id, 17, leaf_hash(tip), *columns)
    await connection.close()


async def test_events_erased_before_they_were_published_come_back_as_entries_alone(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup
) -> None:
    await writer.events(10)
    await backup.take()
    seqs = await writer.events(20)
    erasure = await writer.erase(seqs[4:7])
    await writer.events(5)
    await publish(pool, broker, writer)
    before = without_content(await contents(database))
    await backup.put_back()
    survey = await recover(database, broker)
    assert survey.erased == dict.fromkeys(seqs[4:7], erasure)
    after = without_content(await contents(database))
    # Their ids are known to nobody any more.
    assert after["known"] == [row for row in before["known"] if row[2] not in seqs[4:7]]
    assert after | {"known": before["known"]} == before
    await publish(pool, broker, writer)
    assert (await check_copy(broker, pool, writer)).tombstones == set(seqs[4:7])


async def test_an_erased_message_that_is_still_in_the_stream_brings_nothing_back_but_its_id(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup
) -> None:
    await writer.events(10)
    await backup.take()
    seqs = await writer.events(20)
    await publish(pool, broker, writer)
    published = await messages_of(broker)
    erasure = await writer.erase(seqs[4:7])
    await publish(pool, broker, writer)
    published |= await messages_of(broker)
    await replace_stream(broker, published)
    before = without_content(await contents(database))
    await backup.put_back()

    async with recovering(database, broker) as work:  # as far as before the erasure
        survey = await work.survey(quiet)
        await replace_stream(broker, {seq: stored for seq, stored in published.items() if seq < erasure})
        with pytest.raises(AuditFault, match="no message"):
            await work.append(survey, quiet)
    rows = await contents(database)
    assert {row[1] for row in rows["opening"]}.isdisjoint(seqs[4:7])
    assert {row[2] for row in rows["known"]}.issuperset(seqs[4:7])

    await replace_stream(broker, published)
    assert (await recover(database, broker)).refused is None
    assert without_content(await contents(database)) == before
    await publish(pool, broker, writer)
    assert (await check_copy(broker, pool, writer)).holes == set(seqs[4:7])


async def test_nothing_is_taken_from_the_first_tombstone_on_whose_erasure_is_missing(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup
) -> None:
    await writer.events(10)
    await backup.take()
    seqs = await writer.events(30)
    first = await writer.erase([seqs[5]])
    await writer.events(3)
    second = await writer.erase([seqs[9]])
    await writer.events(3)
    await publish(pool, broker, writer)
    whole = await messages_of(broker)
    await backup.put_back()

    # The later tombstone lacks its erasure: the earlier one's erasure lies behind it, so that one cannot be taken too.
    await replace_stream(broker, {seq: stored for seq, stored in whole.items() if seq < second})
    survey = await recover(database, broker, dry_run=True)
    assert survey.refused is not None
    assert (survey.end, survey.refused.rule, survey.refused.seq) == (seqs[5], 12, seqs[5])
    assert first < second
    await recover(database, broker)
    assert await size_of(database) == seqs[5]

    await replace_stream(broker, whole)
    assert (await recover(database, broker)).refused is None
    assert await size_of(database) == writer.last + 1


async def test_a_hole_ends_the_recovery_save_where_the_entry_was_kept_with_the_erasure_that_made_it(
    pool: asyncpg.Pool,
    founded: Founded,
    writer: Writer,
    broker: Broker,
    database: Database,
    backup: Backup,
    settings: Settings,
    tmp_path: Path,
) -> None:
    await writer.events(10)
    await backup.take()
    seqs = await writer.events(20)
    await publish(pool, broker, writer)
    first, last = seqs[10:12]
    by = await writer.erase([first, last])
    await writer.events(3)
    await publish(pool, broker, writer)
    before = without_content(await contents(database))
    entries: dict[int, bytes] = dict(
        await pool.fetch(
            "select seq, entry from ledger.entry where site_id = $1 and seq = any ($2)",
            founded.site_id,
            [first, last, by],
        )
    )
    connection, beside = await asyncpg.connect(database.admin_url), tmp_path / "backups"
    await Beside(beside, MASTER).update(connection)
    await connection.close()
    await backup.put_back()
    whole = {seq: [Gone(entries[seq], entries[by])] for seq in (first, last)}
    another = encode(decode(entries[by])._replace(ms=1))
    foreign = encode(decode(entries[first])._replace(commit=bytes(32)))
    later = encode(decode(entries[last])._replace(ms=decode(entries[last]).ms + 1))
    # What was kept -> the entry that it ends at, the rule, and whether the refusal says whose entry it was.
    refused: list[tuple[dict[int, list[Gone]], int, int, bool]] = [
        ({}, first, 2, False),
        ({first: whole[first]}, last, 2, False),
        ({seq: [Gone(entries[seq], another)] for seq in (first, last)}, first, 2, False),
        (whole | {first: whole[last]}, first, 3, True),
        (whole | {first: [Gone(foreign, entries[by])]}, first, 7, True),
        (whole | {last: [Gone(later, entries[by])]}, last + 1, 3, False),
    ]
    for gone, seq, rule, told in refused:
        survey = await recover(database, broker, gone=gone, dry_run=True)
        assert survey.refused is not None
        assert f"rule {rule} at entry {seq}" in str(survey.refused), gone
        assert ("is that in `erasures`" in str(survey.refused)) is told
        assert survey.end == first, "what nothing explains does not come back, nor what is behind it"
    mixed = {seq: [Gone(entries[seq], another), *whole[seq]] for seq in whole}
    assert (await recover(database, broker, gone=mixed, dry_run=True)).refused is None
    settings = replace(settings, nats_url=broker.url, master_secret=SECRET)
    done = await command(settings, database, SITE, "--from-stream", "--dry-run")
    assert (done.exit_code, "set LEDGER_BACKUP_DIR" in done.output) == (1, True), done.output
    done = await command(replace(settings, backup_dir=beside), database, SITE, "--from-stream")
    assert done.exit_code == 0, done.output
    after = without_content(await contents(database))
    assert after | {"known": before["known"]} == before
    await publish(pool, broker, writer)
    assert (await check_copy(broker, pool, writer)).holes == {first, last}


# --- streams that were tampered with ----------------------------------------------------------------------------------

AT = 21
"""The message that is changed; the tail begins at 11."""


FOREIGN = SigningKey(sha256(b"somebody else").digest())
POLICY, KEY, AGAIN, ERASURE, LATER_ERASURE = 31, 32, 33, 34, 37

Tamper = Callable[[dict[int, Stored], Founded], Stored]


def id_of(stored: Stored) -> str:
    return decode_event(stored.data).id


def entry_header(stored: Stored, cut: int | None = None) -> str:
    return encode_base64(entry_of(stored)[:cut])


# What is wrong -> the rule that it breaks, the message that is replaced, and by what.
TAMPERED: dict[str, tuple[int, int, Tamper]] = {
    "a changed payload": (10, AT, lambda m, f: replace(m[AT], data=m[AT + 1].data)),
    "a payload with white space": (10, AT, lambda m, f: recommitted(m[AT], f, m[AT].data + b" ")),
    "a payload of another site": (10, AT, lambda m, f: other_payload(m[AT], f, site="other.example.com")),
    "an id of the ledger": (9, AT, lambda m, f: other_payload(m[AT], f, id=id_of(m[3]))),
    "an id of the tail": (9, AT, lambda m, f: other_payload(m[AT], f, id=id_of(m[AT - 2]))),
    "a version that is published later": (9, AT, lambda m, f: other_payload(m[AT], f, policy_version="1.0")),
    "a version that nobody published": (9, ERASURE + 1, lambda m, f: other_payload(m[35], f, policy_version="7")),
    "a notice that nobody published": (9, AT, lambda m, f: other_payload(m[AT], f, shown="ab" * 32)),
    "another salt": (
        10,
        AT,
        lambda m, f: replace(m[AT], headers=m[AT].headers | {"ce-salt": encode_base64(bytes(32))}),
    ),
    "a signature of another key": (7, AT, lambda m, f: signed_by(m[AT], f, FOREIGN, named=False)),
    "a signer that no entry introduced": (7, AT, lambda m, f: signed_by(m[AT], f, FOREIGN, named=True)),
    "an event signed by the root": (7, AT, lambda m, f: signed_by(m[AT], f, f.root, named=True)),
    "a message in another's place": (3, AT, lambda m, f: m[AT + 1]),
    "a message twice": (3, AT, lambda m, f: m[AT - 1]),
    "an earlier time": (6, AT, lambda m, f: with_entry(m[AT], ms=1)),
    "a time before the ledger's last": (6, 11, lambda m, f: with_entry(m[11], ms=1)),
    "a time ahead of the clock": (6, AT, lambda m, f: with_entry(m[AT], ms=now_ms() + 120_000)),
    "a message that is none of ours": (1, AT, lambda m, f: Stored(f"{PREFIX}.given", {}, b"{}")),
    "an entry cut short": (1, AT, lambda m, f: with_headers(m[AT], ce_entry=entry_header(m[AT], -1))),
    "a salt taken away": (1, AT, lambda m, f: with_headers(m[AT], ce_entry=entry_header(m[AT]))),
    "a made up tombstone": (12, AT, lambda m, f: replace(with_headers(m[AT], ce_entry=entry_header(m[AT])), data=b"")),
    "another document": (9, POLICY, lambda m, f: replace(m[POLICY], data=b'{"site":"other"}')),
    "no document": (9, POLICY, lambda m, f: replace(m[POLICY], data=b"")),
    "a key signed by an ingest key": (7, KEY, lambda m, f: body_is_entry(signed_by(m[KEY], f, f.ingest, named=True))),
    "a version again": (
        9,
        AGAIN,
        lambda m, f: signed_by(with_entry(m[AGAIN], public=sha256(b"{}").digest() + b"1.0"), f, f.ingest, named=True),
    ),
    "an erasure of what is erased": (11, ERASURE, lambda m, f: erasing(m[ERASURE], f, 2)),
    "an erasure of what the tail erased": (11, LATER_ERASURE, lambda m, f: erasing(m[LATER_ERASURE], f, 5)),
    "an erasure of no event": (11, ERASURE, lambda m, f: erasing(m[ERASURE], f, POLICY)),
    "an erasure of what comes later": (11, ERASURE, lambda m, f: erasing(m[ERASURE], f, ERASURE + 1)),
}


@pytest_asyncio.fixture
async def published(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, backup: Backup
) -> AsyncIterator[dict[int, Stored]]:
    """The stream of a ledger that lost everything behind entry 10."""
    await writer.events(9)
    await writer.erase([2])
    await backup.take()
    await writer.events(20)
    assert await writer.policy("1.0", b'{"site":"shop.example.com"}') == POLICY
    assert await writer.key() == KEY
    assert await writer.policy("1.1", b"{}") == AGAIN
    assert await writer.erase([5]) == ERASURE
    await writer.events(2)
    assert await writer.erase([6]) == LATER_ERASURE
    await publish(pool, broker, writer)
    messages = await messages_of(broker)
    await backup.put_back()
    yield messages


async def test_whatever_is_wrong_in_the_stream_is_refused_by_name(
    published: dict[int, Stored], founded: Founded, broker: Broker, database: Database
) -> None:
    found: dict[str, tuple[int, int]] = {}
    for what, (_, seq, tamper) in TAMPERED.items():
        await replace_stream(broker, published | {seq: tamper(published, founded)})
        survey = await recover(database, broker, dry_run=True)
        assert survey.refused is not None, what
        assert survey.refused.seq == survey.end
        found[what] = (survey.refused.rule, survey.end)
    assert found == {what: (rule, seq) for what, (rule, seq, _) in TAMPERED.items()}


@pytest.mark.parametrize("what", ["a changed payload", "no document", "an erasure of what is erased"])
async def test_nothing_is_taken_beyond_what_is_wrong(
    published: dict[int, Stored],
    pool: asyncpg.Pool,
    writer: Writer,
    founded: Founded,
    broker: Broker,
    database: Database,
    what: str,
) -> None:
    _, seq, tamper = TAMPERED[what]
    await replace_stream(broker, published | {seq: tamper(published, founded)})
    assert (await recover(database, broker)).end == seq
    assert await size_of(database) == seq
    rows = await contents(database)
    assert all(row[1] < seq for table in ("opening", "erased") for row in rows[table])

    await replace_stream(broker, published)
    assert (await recover(database, broker)).refused is None
    await publish(pool, broker, writer)
    await check_copy(broker, pool, writer)


async def test_the_database_too_takes_only_what_continues_its_log(
    published: dict[int, Stored], founded: Founded, database: Database, broker: Broker
) -> None:
    """What no stream brings this far: `recover` verified it before."""
    connection = await connect(database.admin_url)
    tip = leaf_hash(entry_of(published[10]))

    async def put(*stored: Stored, size: int = 11, tip: bytes = tip, key: bytes | None = None) -> str:
        count = len(stored)
        nothing: list[bytes | None] = [None] * count
        columns = ([entry_of(each) for each in stored], [key] * count, *[nothing] * 4)
        try:
            await connection.execute(recovery._RECOVER, founded.site_id, size, tip, *columns)
        except asyncpg.PostgresError as error:
            return error.sqlstate or ""
        return "taken"

    first, second, before = published[11], published[12], published[10]
    assert await put(first, size=10) == "LG001"
    assert await put(first, tip=bytes(32)) == "LG001"
    for wrong in (
        second,
        with_entry(first, seq=12),
        with_entry(first, prev=bytes(32)),
        with_entry(first, ms=decode(entry_of(before)).ms - 1),
        with_entry(first, kind=0),
    ):
        assert await put(wrong) == "LG006"
    assert await put(with_entry(first, signer=bytes(32))) == "LG004"
    assert await put(with_entry(first, signer=key_hash(founded.root.public))) == "LG004"
    assert await put(with_entry(first, kind=2, public=b"\x02" + bytes(32))) == "LG004"
    for named in (0, 10, 11, 99):  # genesis, an erasure, itself, no entry
        assert await put(with_entry(first, kind=3, public=named.to_bytes(8, "big"))) == "LG006"
    known: bytes = await connection.fetchval("select key from ledger.known where seq = 3")
    assert await put(first, key=known) == asyncpg.UniqueViolationError.sqlstate
    assert await put(first, first) == "LG006"
    assert await size_of(database) == 11
    assert await put(first, second) == "taken"
    assert await put(first, second) == "LG001"
    assert await size_of(database) == 13
    await connection.close()


async def test_a_stream_of_another_continuation_is_a_fork_and_gives_nothing(
    pool: asyncpg.Pool, founded: Founded, broker: Broker, database: Database, backup: Backup
) -> None:
    writer = Writer(pool, founded)
    await writer.events(10)
    await backup.take()
    await writer.events(30)
    await publish(pool, broker, writer)
    await backup.put_back()
    other = await resumed(pool, founded, database)
    await other.events(5)
    survey = await recover(database, broker)
    assert (survey.first, survey.end) == (16, 16)
    assert survey.refused is not None
    assert (survey.refused.rule, survey.refused.seq) == (3, 16)
    assert "fork" in str(survey.refused)


async def test_a_tail_that_was_chained_anew_verifies_but_no_server_that_saw_the_real_one_goes_on(
    pool: asyncpg.Pool, founded: Founded, broker: Broker, database: Database, backup: Backup
) -> None:
    """An ingest key signs no position: who may write to the stream can drop what only the stream holds."""
    writer = Writer(pool, founded)
    await writer.events(10)
    await backup.take()
    await writer.events(10)
    await publish(pool, broker, writer)
    head = await last_head(pool, founded)
    messages = await messages_of(broker)
    await backup.put_back()
    prev = leaf_hash(entry_of(messages[10]))
    for seq in range(11, 20):  # without number 11
        messages[seq] = with_entry(messages[seq + 1], seq=seq, prev=prev)
        prev = leaf_hash(entry_of(messages[seq]))
    del messages[20]
    await replace_stream(broker, messages)
    assert (await recover(database, broker)).end == 20
    await refuses(pool, founded, head)
