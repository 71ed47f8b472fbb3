"""The checkpointer beside each place that knows the last checkpoint: away, lost, older, ahead, forged; and crashes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from ledger import config
from ledger.bus import Bus
from ledger.checkpointer import first
from ledger.checkpointer.follower import NotSigned
from ledger.checkpointer.records import RecordChanged
from ledger.config import Settings
from ledger.core.agreement import ANCHOR, DATABASE, MEMORY, NATS
from ledger.core.note import Checkpoint, VerifierKey, parse_checkpoint, sign_checkpoint
from ledger.embedded.postgres import Postgres
from ledger.memory import forget
from ledger.store import checkpoints as store
from ledger.store.log import cosigned_checkpoint, served_checkpoint
from tests.conftest import Database, admin, service_url
from tests.fault.checkpoints import Site, founded_site
from tests.fault.streams import Broker, relaying, until
from tests.founding import ORIGIN
from tests.logbuilder import key

THIEF = VerifierKey(ORIGIN, 1, key("thief").public)
PLACES = (NATS, MEMORY, ANCHOR, DATABASE)


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path / "nats")
    await broker.start()
    yield broker
    await broker.stop()


@pytest_asyncio.fixture
async def site(settings: Settings, broker: Broker) -> Site:
    return await founded_site(replace(settings, nats_url=broker.url))


async def records(site: Site) -> dict[str, int]:
    """The size that each place knows; 0 for none."""
    bus = await Bus.connect(site.settings.nats_url)
    try:
        kv = (await site.record.read(bus)).note
    finally:
        await bus.close()
    async with site.pool() as pool:
        note = await pool.fetchval("select note from ledger.checkpoint where site_id = 1 order by size desc limit 1")
    notes = {NATS: kv, ANCHOR: site.anchor.read().note, DATABASE: note}
    return {name: parse_checkpoint(note).size if note else 0 for name, note in notes.items()}


async def refusal(site: Site, **options: str) -> NotSigned:
    with pytest.raises(NotSigned) as refused:
        await site.round(**options)
    return refused.value


async def test_founding_makes_the_first_checkpoint_of_size_one_everywhere(site: Site) -> None:
    assert await records(site) == {NATS: 1, ANCHOR: 1, DATABASE: 1}
    assert [checkpoint.size for checkpoint in await site.signed()] == [1]


async def test_a_growing_log_is_signed_as_it_grows_with_its_tiles(site: Site) -> None:
    async with site.checkpointer() as checkpointer:
        for count in (0, 3, 251, 1, 1, 600):
            await site.grow(count)
            await checkpointer.round()
            assert not (await checkpointer.round()).signed
    assert [checkpoint.size for checkpoint in await site.signed()] == [1, 2, 5, 256, 257, 258, 858]
    async with site.pool() as pool:
        assert await pool.fetchval("select array_agg(n order by n) from ledger.tile where level = 0") == [0, 1, 2]
    assert await records(site) == dict.fromkeys((NATS, ANCHOR, DATABASE), 858)


async def test_thinning_takes_away_neither_the_last_old_checkpoint_nor_the_last_with_its_quorum(
    site: Site, database: Database
) -> None:
    for _ in range(6):
        await site.grow(1)
        await site.round()
    # A quiet log: sizes up to 7 are old and of one moment, 8 was signed just now and waits for its quorum.
    old = "update ledger.checkpoint set signed_at = '2026-01-01 00:05:00+00', cosigned = size < 6 where size < 8"
    await site.execute(old, admin_url=database.admin_url)
    await site.execute("update ledger.checkpoint set cosigned = false where size = 8", admin_url=database.admin_url)
    async with site.pool() as pool:
        before = await served_checkpoint(pool, site.row.site_id), await cosigned_checkpoint(pool, site.row.site_id)
        assert await store.thin(pool, site.row.site_id, 3600, 100) == 3
        assert before == (
            await served_checkpoint(pool, site.row.site_id),
            await cosigned_checkpoint(pool, site.row.site_id),
        )
        kept = [
            row["size"]
            for row in await pool.fetch("select size from ledger.checkpoint where site_id = 1 order by size")
        ]
    assert kept == [1, 5, 7, 8]


async def test_a_process_that_starts_goes_on_from_what_the_others_signed(site: Site) -> None:
    for count in (300, 1, 500):
        await site.grow(count)
        assert (await site.round()).signed
    assert [checkpoint.size for checkpoint in await site.signed()] == [1, 302, 303, 803]
    async with site.pool() as pool:
        assert await pool.fetchval("select count(*) from ledger.tile") == 3


async def test_a_memory_that_is_lost_or_damaged_is_made_anew_from_the_log(site: Site) -> None:
    await site.grow(1_500)
    await site.round()
    site.memory.unlink()
    await site.grow(1)
    assert (await site.round()).size == 1_503
    site.memory.write_bytes(b"damaged" * 1000)
    await site.grow(1)
    assert (await site.round()).size == 1_504
    with contextlib.closing(sqlite3.connect(site.memory)) as memory:
        memory.execute("delete from key_entry")
        memory.commit()
    await site.grow(1)
    assert (await site.round()).size == 1_505
    await site.signed()


async def test_a_long_log_that_was_never_signed_is_signed_in_steps(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_MAX_GROWTH_ENTRIES", 300)
    await site.grow(1_000)
    async with site.checkpointer() as checkpointer:
        sizes = [(await checkpointer.round()).size for _ in range(5)]
    assert sizes == [301, 601, 901, 1_002, 1_002]
    await site.signed()


# --- a place that is away ---------------------------------------------------------------------------------------------


async def test_nats_being_away_is_an_alarm_and_its_record_catches_up(site: Site, broker: Broker) -> None:
    async with site.checkpointer() as checkpointer:
        await checkpointer.round()
        await broker.stop()
        await site.grow(5)
        outcome = await checkpointer.round()
        assert (outcome.signed, outcome.alarms) == (True, (NATS,))
    await broker.start()
    assert (await records(site))[NATS] == 2
    assert not (await site.round()).alarms
    assert await records(site) == dict.fromkeys((NATS, ANCHOR, DATABASE), 7)


async def test_an_anchor_that_cannot_be_read_is_an_alarm_as_long_as_the_memory_agrees(site: Site) -> None:
    await site.grow(5)
    await site.round()
    good = site.anchor.path.read_bytes()
    site.anchor.path.write_bytes(b"no database at all, this" * 100)
    await site.grow(1)
    outcome = await site.round()
    assert (outcome.signed, outcome.alarms) == (True, (ANCHOR,))
    site.memory.unlink()
    assert (await refusal(site)).reason == "no-anchor"
    site.anchor.path.write_bytes(good)
    await site.grow(1)
    assert (await site.round()).signed


# --- a place that lost its record -------------------------------------------------------------------------------------


async def lose(site: Site, place: str, database: Database) -> None:
    if place == ANCHOR:
        site.anchor.path.unlink()
    elif place == DATABASE:
        await site.execute("delete from ledger.checkpoint", admin_url=database.admin_url)
    else:
        bus = await Bus.connect(site.settings.nats_url)
        await bus.delete_stream("KV_consent-ledger")
        await bus.close()


@pytest.mark.parametrize("place", [NATS, ANCHOR, DATABASE])
async def test_a_place_that_answers_and_has_lost_its_record_stops_the_signing(
    site: Site, place: str, database: Database
) -> None:
    await site.grow(5)
    await site.round()
    await lose(site, place, database)
    await site.grow(5)
    assert (await refusal(site)).reason == f"{place}-lost"
    async with site.checkpointer() as checkpointer:
        for _ in range(3):
            with pytest.raises(NotSigned):
                await checkpointer.round()


async def test_nats_that_is_set_up_later_gets_its_record_then(settings: Settings, broker: Broker) -> None:
    site = await founded_site(settings)
    await site.grow(5)
    await site.round()
    site.settings = replace(site.settings, nats_url=broker.url)
    await site.grow(1)
    assert (await site.round()).signed
    assert (await records(site))[NATS] == 8
    await lose(site, NATS, Database("", ""))
    assert (await refusal(site)).reason == "nats-lost"


async def test_a_machine_is_let_in_while_there_is_only_the_first_checkpoint_and_knows_what_others_had(
    site: Site, database: Database
) -> None:
    assert (await site.round(machine="second")).size == 1
    await site.grow(1)
    assert (await site.round(machine="second")).size == 3
    assert (await refusal(site, machine="third")).reason == "anchor-lost"
    await lose(site, NATS, database)
    assert (await refusal(site, machine="second")).reason == "nats-lost"


# --- a place that is older, ahead, or forged --------------------------------------------------------------------------


async def put(site: Site, place: str, checkpoint: Checkpoint, database: Database) -> None:
    """A record as somebody with write access would change it."""
    note = checkpoint.encode()
    if place == ANCHOR:
        site.anchor.write(note, site.anchor.read().note, {})
    elif place == DATABASE:
        statement = "update ledger.checkpoint set note = $1 where size = (select max(size) from ledger.checkpoint)"
        await site.execute(statement, note, admin_url=database.admin_url)
    else:
        bus = await Bus.connect(site.settings.nats_url)
        await site.record.write(bus, note, (await site.record.read(bus)).revision)
        await bus.close()


def by_log_key(site: Site, size: int, root: bytes) -> Checkpoint:
    vkey = VerifierKey(ORIGIN, 1, site.founded.log.public)
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), vkey, site.founded.log)


@pytest.mark.parametrize("place", [NATS, ANCHOR, DATABASE])
async def test_a_record_is_judged_by_its_content(site: Site, place: str, database: Database) -> None:
    for _ in range(2):
        await site.grow(5)
        await site.round()
    older, newer = (await site.signed())[-2:]
    if place == DATABASE:
        delete = "delete from ledger.checkpoint where size = $1"
        await site.execute(delete, newer.size, admin_url=database.admin_url)
    else:
        await put(site, place, older, database)
    assert not (await site.round()).alarms, "an older one is behind, and no more"
    for wrong, reason in (
        (by_log_key(site, newer.size, bytes(32)), "disagrees"),
        (by_log_key(site, older.size, bytes(32)), "disagrees"),
        (by_log_key(site, newer.size + 1, newer.root), "ahead"),
        (
            sign_checkpoint(newer._replace(signatures=()), VerifierKey(ORIGIN, 1, key("x").public), key("x")),
            "disagrees",
        ),
        (newer._replace(root=bytes(32)), "disagrees"),
    ):
        await put(site, place, wrong, database)
        reason = "disagrees" if place == DATABASE else reason  # what its row says is of another size
        assert (await refusal(site)).reason == f"{place}-{reason}"
    await put(site, place, newer, database)
    await site.grow(1)
    assert (await site.round()).signed


async def test_a_log_that_was_cut_or_rewritten_is_not_signed(site: Site, database: Database) -> None:
    await site.grow(10)
    await site.round()
    async with site.pool() as pool:
        rows = await pool.fetch("select seq, entry from ledger.entry where site_id = 1 order by seq desc limit 3")
    await site.execute(
        "delete from ledger.entry where site_id = 1 and seq = $1", rows[0]["seq"], admin_url=database.admin_url
    )
    assert (await refusal(site)).reason == "memory-ahead"
    site.memory.unlink()
    assert (await refusal(site)).reason == "nats-ahead"
    changed = rows[0]["entry"][:20] + b"\x00" + rows[0]["entry"][21:]
    insert = "insert into ledger.entry values (1, $1, $2)"
    await site.execute(insert, rows[0]["seq"], changed, admin_url=database.admin_url)
    assert (await refusal(site)).reason.startswith("rule-")


async def test_entries_that_were_followed_and_never_signed_are_missed_until_their_loss_is_accepted(
    site: Site, database: Database
) -> None:
    await site.grow(5)
    async with site.checkpointer() as checkpointer:
        await checkpointer.look_at_all()  # and the process ends before it signs
    await site.execute("delete from ledger.entry where site_id = 1 and seq = 6", admin_url=database.admin_url)
    assert (await refusal(site)).reason == "memory-ahead"
    forget(site.memory)
    assert (await site.round()).size == 6
    await site.signed()


async def test_entries_that_the_stream_holds_and_the_log_lost_stop_the_signing(
    site: Site, database: Database, broker: Broker
) -> None:
    await site.round()
    await site.grow(3)  # acknowledged, never signed
    async with site.pool() as pool, relaying(pool, broker, site.settings.masters) as relay:
        await until(lambda: bool(relay.status.sites) and relay.status.sites[0].stream_seq == 4)
    await site.execute("delete from ledger.entry where site_id = 1 and seq = 4", admin_url=database.admin_url)
    refused = await refusal(site)
    assert refused.reason == "stream-ahead"
    assert "recover SITE --from-stream" in refused.detail


async def test_a_payload_that_vanished_without_an_erasure_is_not_signed(site: Site, database: Database) -> None:
    await site.grow(5)
    async with site.pool() as pool:
        opening = await pool.fetchrow("select * from ledger.opening where site_id = 1 and seq = 4")
    await site.execute("delete from ledger.opening where site_id = 1 and seq = 4", admin_url=database.admin_url)
    assert (await refusal(site)).reason == "rule-12"
    assert (await refusal(site)).reason == "rule-12"
    insert = "insert into ledger.opening values ($1, $2, $3, $4, $5)"
    await site.execute(insert, *opening, admin_url=database.admin_url)
    assert (await site.round()).signed, "nothing of the refused round was remembered"


async def test_an_erasure_that_names_what_was_not_read_yet_is_waited_for(site: Site) -> None:
    async with site.pool() as pool:
        writer = await site.grow(3)
        writer = type(writer)(pool, await site.at_head(pool))
        await writer.erase([3, 4])
        await writer.events(2)
    site.memory.unlink()
    assert (await site.round()).size == 8
    await site.signed()


# --- crashes, and two at once -----------------------------------------------------------------------------------------


class Crash(Exception):
    """The process ends here."""


def crash_after(place: str) -> Callable[[str], None]:
    def wrote(written: str) -> None:
        if written == place:
            raise Crash

    return wrote


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("again", [True, False], ids=["more entries came", "nothing new"])
async def test_after_a_crash_behind_any_write_the_next_round_goes_on_with_one_history(
    site: Site, place: str, again: bool
) -> None:
    await site.grow(300)
    async with site.checkpointer(wrote=crash_after(place)) as checkpointer:
        with pytest.raises(Crash):
            await checkpointer.round()
    if again:
        await site.grow(300)
    await site.round()
    size = 602 if again else 302
    assert await records(site) == dict.fromkeys((NATS, ANCHOR, DATABASE), size)
    assert (await site.signed())[-1].size == size
    await site.grow(1)
    assert (await site.round()).signed


@pytest.mark.parametrize("place", PLACES)
async def test_a_crash_in_the_very_first_checkpoint_is_no_loss(
    settings: Settings, broker: Broker, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_checkpointer = first.SiteCheckpointer

    def crashing(*arguments: object) -> object:
        return site_checkpointer(*arguments, crash_after(place))  # type: ignore[arg-type]

    settings = replace(settings, nats_url=broker.url)
    monkeypatch.setattr(first, "SiteCheckpointer", crashing)
    with pytest.raises(Crash):
        await founded_site(settings)
    monkeypatch.undo()
    site = await founded_site(settings)
    assert (await records(site))[DATABASE] == 1
    await site.grow(1)
    assert (await site.round()).signed
    assert (await site.signed())[0].size == 1


@pytest.mark.parametrize("place", [NATS, MEMORY, ANCHOR])
async def test_first_records_are_all_made_before_the_second_checkpoint_whatever_came_meanwhile(
    site: Site, place: str, database: Database
) -> None:
    await site.execute("delete from ledger.checkpoint", admin_url=database.admin_url)
    await site.execute("delete from ledger.checkpointer", admin_url=database.admin_url)
    site.anchor.path.unlink()
    await site.grow(5)
    async with site.checkpointer(wrote=crash_after(place)) as checkpointer:
        with contextlib.suppress(Crash):
            await checkpointer.round()
    assert (await site.round()).size in (1, 7)
    assert (await site.round()).size == 7
    assert [checkpoint.size for checkpoint in await site.signed()] == [1, 7]


async def copy_of(postgres: Postgres, database: Database) -> Database:
    name = database.admin_url.rpartition("/")[2]
    async with admin(postgres) as connection:
        await connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = $1", name
        )
        await connection.execute(f"create database {name}_copy template {name}")
    url = postgres.url(f"{name}_copy")
    return Database(service_url(url), url)


async def test_two_on_one_database_sign_one_history(site: Site) -> None:
    """The lease is got round, and each has a machine of its own."""
    await site.grow(5)

    async def work(machine: str) -> int:
        signed = 0
        async with site.checkpointer(machine=machine) as checkpointer:
            for _ in range(20):
                with contextlib.suppress(RecordChanged):
                    signed += (await checkpointer.round()).signed
                await asyncio.sleep(0.01)
        return signed

    async def load() -> None:
        for _ in range(15):
            await site.grow(7)

    shutil.copytree(site.settings.anchors, site.settings.keys_dir.parent / "other")
    await asyncio.gather(work(""), work("other"), load())
    checkpoints = await site.signed()
    assert len(checkpoints) > 2
    assert [c.size for c in checkpoints] == sorted({c.size for c in checkpoints})


async def test_two_on_two_copies_of_a_database_that_went_apart_sign_one_history(
    site: Site, postgres: Postgres, database: Database
) -> None:
    await site.grow(5)
    await site.round()
    other = await copy_of(postgres, database)
    shutil.copytree(site.settings.anchors, site.settings.keys_dir.parent / "other")
    try:
        await asyncio.gather(site.grow(3), site.grow(3, other.url))
        outcomes = await asyncio.gather(
            site.round(), site.round(url=other.url, machine="other"), return_exceptions=True
        )
        assert sum(not isinstance(outcome, BaseException) and outcome.signed for outcome in outcomes) == 1
        outcomes = await asyncio.gather(
            site.round(), site.round(url=other.url, machine="other"), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, NotSigned)]
        assert [each.reason for each in refused] == ["nats-disagrees"]
        sizes = [c.size for url in ("", other.url) for c in await site.signed(url)]
        assert sorted(sizes) == [1, 1, 7, 7, 10], "the history that lost has no new checkpoint"
    finally:
        async with admin(postgres) as connection:
            await connection.execute(f"drop database {other.admin_url.rpartition('/')[2]} with (force)")
