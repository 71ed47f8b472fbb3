"""Backup, erase ten visitors, lose everything, restore: the ten are gone, and the log is the one that was signed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest

from ledger.backup import restore as steps
from ledger.backup import settle
from ledger.backup.archive import DUMP, unpack
from ledger.backup.beside import Beside
from ledger.backup.directory import Founded, restore_into
from ledger.backup.dump import find_client
from ledger.backup.folder import BESIDE
from ledger.backup.journal import LEAF_BYTES, ActLine, ErasureLine, Journal
from ledger.backup.keyring import Keyring, Wrapped, load_keyring, renew_keyring, write_keyring
from ledger.backup.load import judge, load, put_files
from ledger.backup.marker import MARK_NAME, refuse_unfinished_directory, take_mark_away
from ledger.backup.orders import take_up_again
from ledger.backup.settle import Options, Settling
from ledger.backup.stream import Damaged
from ledger.backup.take import INSTALLATION
from ledger.bus import Bus
from ledger.checkpointer.records import BUCKET
from ledger.core.admin_act import admin_log_of, is_admin_log
from ledger.core.encoding import encode_base64
from ledger.core.entry import decode, encode, encode_seqs
from ledger.core.errors import ConfigInvalid, SealBroken
from ledger.core.merkle import leaf_hash
from ledger.core.sealing import KeyName, wrap
from ledger.core.stream import names
from ledger.credentials import SiteKeys
from ledger.embedded.installation import DataDirectory
from ledger.vault import read_vault
from tests.backups import ERASED, Story, command, covered, piped, quiet, tell, verified
from tests.fault.streams import Broker
from tests.harness import Browser, Process, grant


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("backup")
    told = asyncio.run(tell(directory))
    yield told
    asyncio.run(told.broker.stop())
    asyncio.run(told.postgres.stop())


async def open_of(admin_url: str, story: Story) -> list[int]:
    """Seqs of the living events, by whichever visitor."""
    connection = await asyncpg.connect(admin_url)
    try:
        rows = await connection.fetch(
            "select o.seq from ledger.opening o join ledger.site s using (site_id) "
            "where s.site = $1 and o.visitor is not null order by seq",
            story.site.site,
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def check_people(browser: Browser, story: Story, *, later: bool) -> None:
    """The ten are gone, the others are as they were."""
    for visitor in story.living[:2]:
        reply = await browser.consent(visitor)
        assert reply.json["decisions"]["analytics"]["decision"] == "granted", reply
    for visitor in story.erased[:3]:
        reply = await browser.consent(visitor)
        assert reply.status in (200, 410), reply
        assert reply.status == 410 or reply.json["decisions"]["analytics"]["decision"] == "denied", reply
        assert (await browser.call("GET", "history", consent_visitor=visitor, secret=True)).json != {}
    reply = await browser.consent(story.later)
    assert (reply.json["decisions"]["analytics"]["reason"] == "granted") is later, reply
    reply = await browser.consent(story.last)
    assert (reply.json["decisions"]["analytics"]["reason"] == "refused") is later, reply
    reply = await browser.consent(story.fleeting)
    assert reply.status == 410 or reply.json["decisions"]["analytics"]["decision"] == "denied", reply


async def forged_line(line: ErasureLine, admin_url: str, story: Story) -> ErasureLine:
    """A line as whoever may write beside the backups can alter it: it names an event of somebody who lives."""
    taken = {seq for each in Journal(story.beside / "erasures", ErasureLine).read() for seq, _ in each.positions()}
    victim = next(seq for seq in await open_of(admin_url, story) if seq not in taken)
    connection = await asyncpg.connect(admin_url)
    entry: bytes = await connection.fetchval(
        "select e.entry from ledger.entry e join ledger.site s using (site_id) where s.site = $1 and e.seq = $2",
        story.site.site,
        victim,
    )
    await connection.close()
    altered = encode(decode(line.entry)._replace(public=encode_seqs([victim])))
    return msgspec.structs.replace(line, entry=altered, leaves=leaf_hash(entry)[:LEAF_BYTES])


async def test_with_the_stream_the_log_is_what_it_was_and_the_ten_are_gone(story: Story) -> None:
    settings, admin_url = await story.machine("with_stream", nats=True)
    told = await story.restore(settings, admin_url)
    assert any("entries from after the backup are back" in line for line in told), told
    seqs = await open_of(admin_url, story)
    assert len(seqs) == 20 + 2 - ERASED - 2 + 2
    assert story.hole not in seqs
    assert seqs[-1] > story.hole, "what came after it is there all the same"
    async with Process(settings, story.directory) as server, aiohttp.ClientSession() as session:
        browser = Browser(session, server.url, story.site)
        await check_people(browser, story, later=True)
        assert (await browser.post(grant())).status == 201
        old = story.directory / "old"
        old.write_bytes(story.signed.encode())
        report = await verified(settings, story.site, story.directory / "bundle-1", "--old", str(old), "--live")
    assert (report["verdict"], report["size"] > story.signed.size) == ("sound", True), report


async def test_without_nats_the_journal_forgets_them_again(story: Story) -> None:
    settings, admin_url = await story.machine("without_stream", nats=False)
    with pytest.raises(ConfigInvalid, match=r"nothing here has them.*--accept-loss"):
        await story.restore(settings, admin_url)
    process = Process(settings, story.directory)
    with pytest.raises(ConfigInvalid, match="was not finished"):
        await process.start()
    forged = story.directory / "forged"
    shutil.copytree(story.beside, forged)
    lines = Journal(forged / "erasures", ErasureLine)
    whole = next(line for line in lines.read() if line.origin.endswith(f"/{story.site.site}"))
    line = await forged_line(whole, admin_url, story)
    lines.keep(lambda _: False)
    lines.append([line])
    with pytest.raises(ConfigInvalid, match="is not as the ledger signed it"):
        await story.restore(settings, admin_url, accept_loss=True, beside=forged)
    assert len(await open_of(admin_url, story)) == 20 + 2
    told = await story.restore(settings, admin_url, accept_loss=True)
    assert any(f"{ERASED + 2} events that were erased since are erased again" in line for line in told), told
    assert len(await open_of(admin_url, story)) == 20 - ERASED
    async with Process(settings, story.directory) as server, aiohttp.ClientSession() as session:
        browser = Browser(session, server.url, story.site)
        await check_people(browser, story, later=False)
        assert (await browser.post(grant())).status == 201
        report = await verified(settings, story.site, story.directory / "bundle-2", "--live")
    assert report["verdict"] == "sound", report


async def test_what_cannot_be_taken_over_a_hole_is_given_up_with_a_word_and_the_rest_is_served(
    story: Story, tmp_path: Path
) -> None:
    """First a log that was signed beyond the hole, then one that was not: NATS has lost its record of that."""
    beside, broker = tmp_path / "beside", Broker(tmp_path / "nats")
    shutil.copytree(story.beside, beside)
    (beside / "erasures").write_bytes(b"")
    await story.broker.stop()
    shutil.copytree(story.broker.store, broker.store)
    await story.broker.start()
    await broker.start()
    bus = await Bus.connect(broker.url)
    try:
        for name, status in (("hole_signed", 503), ("hole_unsigned", 201)):
            settings, admin_url = await story.machine(name, nats=True)
            settings = replace(settings, nats_url=broker.url)
            with pytest.raises(ConfigInvalid, match=r"nothing here has them all.*newest `erasures`"):
                await story.restore(settings, admin_url, beside=beside)
            told = await story.restore(settings, admin_url, accept_loss=True, beside=beside)
            assert told[-1] == "the ledger may be served again"
            assert any("which held more, is deleted" in line for line in told) is (status == 201)
            assert any("can be read and not be continued" in line for line in told) is (status == 503)
            server = Process(settings, tmp_path)
            await server.launch()
            async with aiohttp.ClientSession() as session:
                browser = Browser(session, server.url, story.site)
                reply = await browser.consent(story.living[0])
                assert reply.json["decisions"]["analytics"]["decision"] == "granted", reply
                reply = await browser.post(grant())
                assert reply.status == status, reply
                if status == 201:
                    await covered(browser, story.site, reply.json["seq"] + 1)
                    assert await bus.message(names(story.site.site).stream, story.hole) is not None, "built again"
                else:
                    assert "fewer entries than were signed" in reply.json["detail"]
            await server.stop()
            await bus.delete_stream(f"KV_{BUCKET}")
    finally:
        await bus.close()
        await broker.stop()


async def test_without_the_journal_either_who_was_erased_waits_for_it_again(story: Story, tmp_path: Path) -> None:
    settings, admin_url = await story.machine("without_journal", nats=False)
    beside = tmp_path / "beside"
    shutil.copytree(story.beside, beside)
    connection = await asyncpg.connect(story.postgres.url())
    await connection.execute("update ledger.api_key set revoked_at = now() where class = 'secret'")
    await connection.execute(
        "insert into ledger.site_closing select site_id, 'act', sha256(''), 1, null from ledger.site where site = $1",
        story.site.site,
    )
    await Beside(beside, settings.masters[0]).update(connection)
    await connection.close()
    (beside / "erasures").unlink()
    told = await story.restore(settings, admin_url, accept_loss=True, beside=beside)
    assert any("that the journal lacks are ordered still" in line for line in told), told
    connection = await asyncpg.connect(admin_url)
    waits = (
        "select count(*) from ledger.erasure r join ledger.block b on b.site_id = r.site_id and b.subject = r.subject "
    )
    waiting = await connection.fetchval(waits + "where r.status = 'pending' and b.state = 'pending'")
    lost = await connection.fetchval("select count(*) from ledger.erasure_entry where seq < 0")
    closed = await connection.fetchval("select count(*) from ledger.site_closing")
    revoked = await connection.fetchval(
        "select bool_and(revoked_at is not null) from ledger.api_key where class = 'secret'"
    )
    await connection.close()
    assert (waiting, lost) == (ERASED + 1, 0)
    assert (closed, revoked) == (1, True), "what was closed and revoked since stays so"


async def check_older_keyring(connection: asyncpg.Connection, keyring: Keyring) -> None:
    """An older keyring brings no destroyed key back, and none under an older master secret."""
    changed = connection.transaction()
    await changed.start()
    await connection.execute("update ledger.data_key set wrapped = null, destroyed_at = now() where role = 'lookup'")
    await connection.execute("update ledger.data_key set master_version = 2 where role = 'register'")
    await renew_keyring(connection, keyring)
    found = "select distinct role, wrapped is null as gone, master_version from ledger.data_key order by role"
    rows = [tuple(row) for row in await connection.fetch(found)]
    assert rows == [("lookup", True, 1), ("opening", False, 1), ("register", False, 2)]
    await changed.rollback()


async def check_forgotten(connection: asyncpg.Connection) -> None:
    """Whose erasure nobody knows any more comes back only with a word."""
    changed = connection.transaction()
    await changed.start()
    await connection.execute(
        "with made as (insert into ledger.erasure (site_id, id, named, is_account, level, reason, sealed, evidence,"
        " act, status, requested_ms, blocked_ms, due_ms) select site_id, gen_random_uuid(),"
        " substring(sha256('') for 16), false, 'erase', 'subject_request', '', sha256(''), '', 'erased', 0, 0, 0"
        " from ledger.site limit 1 returning site_id, id)"
        " insert into ledger.erasure_entry select site_id, id, -5, 1 from made"
    )
    with pytest.raises(ConfigInvalid, match="these people would be here again"):
        await take_up_again(connection, [], accept_loss=False)
    assert await take_up_again(connection, [], accept_loss=True) == (0, 1)
    await changed.rollback()


async def test_a_database_put_back_by_other_means_forgets_them_too(story: Story) -> None:
    settings, admin_url = await story.machine("other_means", nats=False)
    with story.backup.open("rb") as file:
        judged = judge(file, dict(settings.masters), quiet)
        await load(admin_url, judged, load_keyring(story.beside / "keyring"), quiet)
    put_files(settings, judged)
    connection = await asyncpg.connect(admin_url)
    await take_mark_away(connection)
    await check_older_keyring(connection, load_keyring(story.beside / "keyring"))
    await check_forgotten(connection)
    shutil.copytree(story.beside, story.directory / "newer")
    with pytest.raises(ConfigInvalid, match="the database is an older copy than the files"):
        await Beside(story.directory / "newer", settings.masters[0]).update(connection)
    for name in BESIDE:
        assert (story.directory / "newer" / name).read_bytes() == (story.beside / name).read_bytes()
    await connection.execute(  # as a worker does that saw the older copy, until the servers were stopped
        "insert into ledger.checkpointer select site_id, 0, 'refused', 'memory-ahead', 'here are 6', '[]',"
        " now() + interval '1 h' from ledger.site on conflict (site_id) do update"
        " set state = 'refused', reason = 'memory-ahead', seen_at = excluded.seen_at"
    )
    await connection.close()
    assert len(await open_of(admin_url, story)) == 20 + 2
    log, forged = admin_log_of(story.site.site), story.directory / "forged-acts"
    lines = list(Journal(story.beside / "acts", ActLine).read())
    altered = decode(lines[-1].entry)._replace(signature=bytes(64))
    shutil.copytree(story.beside, forged)
    (forged / "acts").unlink()
    Journal(forged / "acts", ActLine).append([*lines[:-1], msgspec.structs.replace(lines[-1], entry=encode(altered))])
    status, said = await command(settings, admin_url, "backup", "replay", str(forged))
    assert (status, f"{log}: `acts` holds more, and it is not taken: rule 7" in said) == (2, True), said
    status, said = await command(settings, admin_url, "recover", log, "--from-stream")
    assert (status, "consent-ledger backup replay" in said) == (2, True), said
    words = ("backup", "replay", str(story.beside))
    status, said = await command(settings, admin_url, *words)
    assert (status, "nothing here has them" in said) == (2, True), said
    status, said = await command(settings, admin_url, *words, "--accept-loss")
    assert (status, "erased again" in said, "may be served again" in said) == (0, True, True), said
    assert len(await open_of(admin_url, story)) == 20 - ERASED


STEPS = ("load", "put_orders", "erase_again", "rebuild", "take_mark_away")


async def test_killed_after_every_step_the_same_command_completes_it(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, admin_url = await story.machine("killed", nats=False)

    class Killed(BaseException):
        """What nobody catches."""

    def dies_after(step: str) -> Any:
        owner: Any = Settling if step == "rebuild" else settle if step == "erase_again" else steps
        real: Any = getattr(owner, step)

        def sync(*given: Any, **named: Any) -> Any:
            real(*given, **named)
            raise Killed

        async def later(*given: Any, **named: Any) -> Any:
            await real(*given, **named)
            raise Killed

        return owner, later if asyncio.iscoroutinefunction(real) else sync

    for step in STEPS:
        owner, wrapped = dies_after(step)
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, wrapped)
            with pytest.raises(Killed):
                await story.restore(settings, admin_url, accept_loss=True)
    assert len(await open_of(admin_url, story)) == 20 - ERASED
    with pytest.raises(ConfigInvalid, match="has a ledger already"):
        await story.restore(settings, admin_url, accept_loss=True)


async def test_a_damaged_backup_or_keyring_is_refused_before_anything_is_touched(story: Story, tmp_path: Path) -> None:
    settings, admin_url = await story.machine("untouched", nats=False)
    whole = story.backup.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:500] + b"\0" + whole[501:], whole + b"\0"):
        path = tmp_path / "damaged.backup"
        path.write_bytes(damaged)
        with pytest.raises(Damaged):
            await story.restore(settings, admin_url, file=path)
    status, said = await command(settings, admin_url, "backup", "check", str(path))
    assert (status, "something follows" in said) == (1, True), said
    with pytest.raises(ConfigInvalid, match=r"there is no .*keyring"):
        await story.restore(settings, admin_url, beside=tmp_path)
    keyring = load_keyring(story.beside / "keyring")
    write_keyring(tmp_path / "keyring", keyring.__class__({origin: keys[:1] for origin, keys in keyring.keys.items()}))
    with pytest.raises(ConfigInvalid, match=r"there is no .*orders"):
        await story.restore(settings, admin_url, beside=tmp_path)
    shutil.copy(story.backup, tmp_path / "orders")
    with pytest.raises(ConfigInvalid, match=r"there is no .*erasures"):
        await story.restore(settings, admin_url, beside=tmp_path)
    for name in ("erasures", "acts"):
        shutil.copy(story.beside / name, tmp_path / name)
    with pytest.raises(Damaged, match="is no file of orders"):
        await story.restore(settings, admin_url, beside=tmp_path)
    with pytest.raises(Damaged, match="there is no database in it"):
        await story.restore(settings, admin_url, file=story.beside / "orders")
    shutil.copy(story.beside / "orders", tmp_path / "orders")
    with pytest.raises(ConfigInvalid, match="older than the backup"):
        await story.restore(settings, admin_url, beside=tmp_path)
    with pytest.raises(ConfigInvalid, match="does not open the backup"):
        await story.restore(replace(settings, master_secret=bytes(32)), admin_url)
    write_keyring(tmp_path / "keyring", keyring)
    older = next(line for line in Journal(tmp_path / "acts", ActLine).read())
    Journal(tmp_path / "acts", ActLine).keep(lambda line: line.seq <= older.seq)
    connection = await asyncpg.connect(admin_url)
    await connection.execute("select pg_advisory_lock(hashtext('consent-ledger restore'))")
    with pytest.raises(ConfigInvalid, match="another restore into this database"):
        await story.restore(settings, admin_url)
    assert await connection.fetchval("select to_regnamespace('ledger')") is None
    await connection.close()
    assert not settings.keys_dir.exists()
    assert not settings.anchors.exists()
    status, said = await command(settings, admin_url, "backup", "check", str(story.backup))
    assert (status, story.site.site in said) == (0, True), said


async def test_a_data_key_that_was_destroyed_since_leaves_nothing_to_read_in_the_old_backup(
    story: Story, tmp_path: Path
) -> None:
    settings, admin_url = await story.machine("destroyed", nats=False)
    shutil.copytree(story.beside, tmp_path / "beside")
    keyring = load_keyring(story.beside / "keyring")
    connection = await asyncpg.connect(story.postgres.url())
    query = "select s.origin, e.entry from ledger.entry e join ledger.site s using (site_id) where e.seq = 0"
    genesis = dict(await connection.fetch(query))
    await connection.close()
    for origin, keys in keyring.keys.items():
        if is_admin_log(origin):
            continue
        gone = [replace_key(key) if key.role == "opening" else key for key in keys]
        number = len(gone) + 1
        name = KeyName(leaf_hash(genesis[origin]), number, "opening")
        wrapped = wrap(os.urandom(32), name, settings.masters[0])
        keyring.keys[origin] = (
            *gone,
            Wrapped(number, "opening", 1, wrapped, 0, gone[0].created_at - timedelta(hours=1), None),
        )
    write_keyring(tmp_path / "beside" / "keyring", keyring)
    # The ten go again all the same. Of the others no erasure entry says that they went: nothing is served.
    with pytest.raises(ConfigInvalid):
        await story.restore(settings, admin_url, accept_loss=True, beside=tmp_path / "beside")
    connection = await asyncpg.connect(admin_url)
    try:
        row = await connection.fetchrow(
            "select s.site_id, o.seq, e.entry, o.sealed from ledger.opening o join ledger.site s using (site_id) "
            "join ledger.entry e using (site_id, seq) where s.site = $1 and o.visitor is not null limit 1",
            story.site.site,
        )
        vault = await read_vault(connection, row["site_id"], settings.masters)
        with pytest.raises(SealBroken, match="was destroyed"):
            vault.open_opening(leaf_hash(row["entry"]), row["sealed"])
    finally:
        await connection.close()
    assert len(await open_of(admin_url, story)) == 20 - ERASED


def replace_key(key: Any) -> Any:
    return msgspec.structs.replace(key, wrapped=None, destroyed_at=key.created_at)


def test_neither_the_backup_nor_the_dump_in_it_nor_what_lies_beside_holds_a_visitor(story: Story) -> None:
    with story.backup.open("rb") as file:
        dump = b"".join(piece.data for piece in unpack(file.read, dict(story.settings.masters)) if piece.name == DUMP)
    rows = subprocess.run(
        [find_client("pg_restore"), "--file=-"], input=dump, capture_output=True, check=True, timeout=60
    ).stdout
    assert b"COPY ledger.opening" in rows
    assert b"COPY ledger.data_key" not in rows
    lying = [path.read_bytes() for path in story.beside.iterdir()]
    for visitor in (*story.erased, *story.living, story.later):
        for data in (rows, dump, *lying):
            assert visitor.encode() not in data
            assert visitor.encode().hex().encode() not in data
    assert b"customize" not in rows, "nor anything of what they chose"


async def test_from_standard_input_it_is_the_same(story: Story) -> None:
    settings, admin_url = await story.machine("piped", nats=False)
    words = ("restore", "-", "--beside", str(story.beside), "--accept-loss")
    status, said = await piped(settings, admin_url, *words, given=story.backup.read_bytes())
    assert (status, "may be served again" in said) == (0, True), said


def test_what_is_judged_is_what_was_taken(story: Story) -> None:
    with story.backup.open("rb") as file:
        about = judge(file, dict(story.settings.masters), quiet).about
    inside = {site.site: site for site in about.sites}[story.site.site]
    assert (inside.size, inside.origin) == (story.size, f"ledger.test/{story.site.site}")
    assert inside.checkpoint


@pytest.mark.slow
def test_into_a_directory_an_up_can_go_on_and_a_half_restored_one_it_refuses(story: Story, tmp_path: Path) -> None:
    """In the main thread, for it starts a server."""
    data = tmp_path / "two"
    keys = SiteKeys(story.site.log_id, story.site.log_vkey, story.site.publishable, story.site.secret)
    made = msgspec.json.encode(Founded("ledger.test", {story.site.site: keys}))
    (master,) = story.settings.masters
    told: list[str] = []
    with story.backup.open("rb") as file:
        whole = judge(file, {master.version: master.secret}, quiet)
        judged = whole._replace(members={**whole.members, INSTALLATION: made})
        with pytest.raises(ConfigInvalid, match="nothing here has them"):
            asyncio.run(restore_into(data, judged, master, Options(story.beside, False, "a test"), told.append))
        with pytest.raises(ConfigInvalid, match="was not finished"):
            refuse_unfinished_directory(data)
        asyncio.run(restore_into(data, judged, master, Options(story.beside, True, "a test"), told.append))
        assert told[-1] == "the ledger may be served again"
        refuse_unfinished_directory(data)
        (data / MARK_NAME).touch()  # killed when nothing was left to do but that
        asyncio.run(restore_into(data, judged, master, Options(story.beside, True, "a test"), told.append))
        refuse_unfinished_directory(data)
        with pytest.raises(ConfigInvalid, match="holds a ledger already"):
            asyncio.run(restore_into(data, judged, master, Options(story.beside, True, "a test"), told.append))
    installation = DataDirectory(data).installation()
    assert installation.sites == {story.site.site: keys}
    assert installation.master_secret == encode_base64(master.secret)
