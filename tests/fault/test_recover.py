"""Postgres put back to an older copy: what the stream holds beyond it is appended again, or given up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from typing import Any

import asyncpg
import msgspec
import pytest

from ledger.app import open_service
from ledger.config import Settings
from ledger.core.encoding import encode_time
from ledger.core.errors import AuditFault, ConfigInvalid, IdConflict, Unavailable
from ledger.core.event import EventInput, parse_input
from ledger.core.sealing import Master
from ledger.recover import recovery
from ledger.recover.recovery import Recovery, Survey
from ledger.secrets import new_event_id
from ledger.service import GrantsRefused, Principal
from ledger.store.append import Head
from tests.conftest import Database
from tests.fault.restored import (
    SECRET,
    Backup,
    command,
    contents,
    environment,
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
    STREAM,
    Broker,
    api,
    caught_up,
    check_copy,
    messages_of,
    now,
    relaying,
    replace_stream,
    resumed,
    until_status,
)
from tests.fault.writer import Writer
from tests.founding import SITE, Founded, now_ms
from tests.harness import document, until
from tests.harness import found as found_site

pytestmark = pytest.mark.usefixtures("quick_relay")

PATIENCE_SECONDS = 60.0


@pytest.fixture
def settings(settings: Settings, broker: Broker) -> Settings:
    return replace(settings, nats_url=broker.url)


# --- a whole server ---------------------------------------------------------------------------------------------------


def events() -> list[EventInput]:
    """What browsers post, in all its shapes."""
    time = encode_time(now_ms())
    shapes: list[dict[str, Any]] = [
        {"type": "consent.given", "decisions": {"analytics": "granted", "marketing": "denied"}, "policyVersion": "1.0"},
        {"type": "consent.given", "decisions": {"analytics": "granted"}, "policyVersion": "1.1", "gpc": True},
        {"type": "consent.refused", "decisions": {"*": "denied"}, "policyVersion": "never published"},
        {"type": "consent.withdrawn", "decisions": {"analytics": "denied"}, "shown": "ab" * 32, "language": "de-AT"},
        {"type": "consent.refused", "decisions": {"marketing": "denied"}, "component": "settings"},
    ]
    common = {"action": "settings", "occurredAt": time, "sentAt": time}
    return [
        parse_input(
            msgspec.json.encode({"id": new_event_id(now_ms()), "visitor": f"visitor-{number:020d}", **common, **shape})
        )
        for number, shape in enumerate(shapes * 3)
    ]


def of_a_backend() -> list[EventInput]:
    """A link and what comes after it: each says something that a keyed hash of the row or of the content rests on."""
    who, account = "visitor-of-an-account-1", "user-7"
    shapes: list[dict[str, Any]] = [
        {"type": "account.linked", "account": account},
        {"type": "consent.given", "decisions": {"analytics": "granted"}, "scope": "account", "conditional": True},
        {"type": "consent.withdrawn", "decisions": {"*": "denied"}, "scope": "account", "tcString": "CPX"},
        {"type": "consent.given", "decisions": {"analytics": "granted"}, "action": "import", "original": "7;yes"}
        | {"occurredAt": "2026-01-01T00:00:00.000Z"},
        {"type": "consent.dismissed", "region": "KZ"},
        {"type": "notice.seen", "gppString": "DBABMA~CPX"},
        {"type": "account.unlinked", "account": account},
    ]
    deciding = {"action": "settings", "policyVersion": "1.0"}
    return [
        parse_input(
            msgspec.json.encode(
                {"id": new_event_id(now_ms()), "visitor": who} | (deciding if "decisions" in shape else {}) | shape
            )
        )
        for shape in shapes
    ]


async def test_a_running_server_goes_on_by_itself_and_every_retry_gets_its_receipt(
    settings: Settings, database: Database, backup: Backup, broker: Broker, pool: asyncpg.Pool
) -> None:
    made = await found_site(settings, SITE)
    async with open_service(settings) as service, relaying(pool, broker, settings.masters) as relay:
        site = await service.site(SITE)
        principal = Principal(site.site_id, "publishable", frozenset({"events"}))
        await service.record(site, events()[0], principal)
        await backup.take()
        await service.publish(site, document(SITE, "1.1"))
        backend = principal._replace(key_class="secret")
        senders = [(event, principal) for event in events()] + [(event, backend) for event in of_a_backend()]
        posted = [event for event, _ in senders]
        receipts = [(await service.record(site, event, sender)).receipt for event, sender in senders]
        size = await size_of(database)
        await until_status(relay, lambda s: s.stream_seq == size - 1, PATIENCE_SECONDS)
        before = await contents(database)

        await backup.put_back()
        with pytest.raises(Unavailable, match="older copy"):
            await service.record(site, events()[0], principal)
        await until_status(relay, lambda s: (s.state, s.error) == ("stopped", "ahead-of-ledger"), PATIENCE_SECONDS)

        told = await command(settings, database, SITE, "--from-stream", "--dry-run")
        assert (told.exit_code, await size_of(database)) == (0, 3), told.output
        assert f"entries 3 to {size - 1} verify" in told.output
        done = await command(settings, database, SITE, "--from-stream")
        assert done.exit_code == 0, done.output
        assert await contents(database) == before

        async def ready() -> bool:
            return (await service.readiness()).write

        await until(ready, PATIENCE_SECONDS)
        for (event, sender), receipt in zip(senders, receipts, strict=True):
            again = await service.record(site, msgspec.structs.replace(event, sent_at=None), sender)
            assert (again.receipt, again.replayed) == (receipt, True)
            with pytest.raises(IdConflict):
                await service.record(site, msgspec.structs.replace(event, language="kk"), sender)
        fresh = await service.record(site, events()[1], principal)
        assert (fresh.receipt.seq, fresh.replayed) == (size, False)
        assert (await service.receipt(site, posted[0].id or "")).leaf_hash == receipts[0].leaf_hash
        await until_status(
            relay, lambda s: (s.state, s.error, s.stream_seq) == ("following", "", size), PATIENCE_SECONDS
        )
        assert now(relay).rebuilt == 0
    assert made.log_id == site.log_id.hex()
    again = await command(settings, database, SITE, "--from-stream")
    assert (again.exit_code, again.output.count("nothing that the ledger lacks")) == (0, 1)


async def test_what_a_payload_does_not_tell_of_the_client_makes_a_retry_a_conflict_and_no_second_entry(
    settings: Settings, database: Database, backup: Backup, broker: Broker, pool: asyncpg.Pool
) -> None:
    await found_site(settings, SITE)
    async with open_service(settings) as service:
        site = await service.site(SITE)
        principal = Principal(site.site_id, "publishable", frozenset({"events"}))
        await backup.take()
        given, other = events()[:2]
        regional = msgspec.structs.replace(given, region="KZ")
        partial = msgspec.structs.replace(
            other, policy_version="7", decisions={"analytics": "granted", "marketing": "denied"}
        )
        await service.record(site, regional, principal)
        with pytest.raises(GrantsRefused):
            await service.record(site, partial, principal)
        size = await size_of(database)
        async with relaying(pool, broker, settings.masters) as relay:
            await until_status(relay, lambda s: s.stream_seq == size - 1, PATIENCE_SECONDS)
        await backup.put_back()
        assert (await command(settings, database, SITE, "--from-stream")).exit_code == 0
        for event in (regional, partial):
            with pytest.raises(IdConflict):
                await service.record(site, event, principal)
        assert await size_of(database) == size


# --- running it -------------------------------------------------------------------------------------------------------


async def test_killed_in_the_middle_it_goes_on_where_it_was(
    pool: asyncpg.Pool,
    founded: Founded,
    broker: Broker,
    database: Database,
    backup: Backup,
    settings: Settings,
) -> None:
    writer = Writer(pool, founded)
    await writer.events(10)
    await backup.take()
    seqs = await writer.events(2_500)
    await writer.erase(seqs[100:110])
    await publish(pool, broker, writer)
    before = without_content(await contents(database))
    await backup.put_back()
    environ = os.environ | environment(replace(settings, master_secret=SECRET), database)
    kills = 0
    while True:
        begun = await size_of(database)
        process = subprocess.Popen(
            [sys.executable, "-m", "ledger", "recover", SITE, "--from-stream"],
            env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while process.poll() is None and (kills == 3 or await size_of(database) == begun):
            await asyncio.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        output = process.communicate()[0].decode()
        if process.returncode != -signal.SIGKILL:
            break
        assert begun < await size_of(database) <= writer.last + 1
        # A server that saw the whole log waits for the whole log.
        if await size_of(database) <= writer.last:
            await refuses(pool, founded, Head(writer.last + 1, bytes(32)))
    assert (process.returncode, kills) == (0, 3), output
    after = without_content(await contents(database))
    assert after["entry"] == before["entry"]
    assert after["opening"] == before["opening"]
    assert after["erased"] == before["erased"]
    await writer.events(1)
    await publish(pool, broker, writer)
    await check_copy(broker, pool, writer)


async def test_two_at_once_and_servers_that_append_meanwhile_do_no_harm(
    pool: asyncpg.Pool,
    founded: Founded,
    broker: Broker,
    database: Database,
    backup: Backup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = Writer(pool, founded)
    await writer.events(10)
    await backup.take()
    await writer.events(200)
    await publish(pool, broker, writer)
    before = without_content(await contents(database))
    await backup.put_back()
    monkeypatch.setattr(recovery, "RECOVER_WINDOW_ENTRIES", 10)
    outcomes = await asyncio.gather(*(recover(database, broker) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(Survey) >= 1
    assert {type(outcome) for outcome in outcomes} <= {Survey, Unavailable}
    await recover(database, broker)
    assert without_content(await contents(database)) == before

    asked = Recovery._messages

    async def somebody_recovers() -> None:
        monkeypatch.setattr(Recovery, "_messages", asked)
        await recover(database, broker)

    async def a_server_appends() -> None:
        await (await resumed(pool, founded, database)).events(1)

    for meanwhile, left in ((somebody_recovers, 211), (a_server_appends, 52)):
        await backup.put_back()

        async def interrupted(self: Recovery, seqs: range, meanwhile: Any = meanwhile) -> Any:
            if seqs[0] == 51 and await size_of(database) == 51:
                await meanwhile()
            return await asked(self, seqs)

        monkeypatch.setattr(Recovery, "_messages", interrupted)
        with pytest.raises(Unavailable, match="appended to meanwhile"):
            await recover(database, broker)
        assert await size_of(database) == left


async def test_another_master_secret_is_noticed_before_anything_is_written(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup
) -> None:
    await writer.events(10)
    await backup.take()
    await writer.events(10)
    await publish(pool, broker, writer)
    await backup.put_back()
    with pytest.raises(ConfigInvalid, match="LEDGER_MASTER_SECRET"):
        await recover(database, broker, masters=[Master(1, bytes(31) + b"x")])
    assert await size_of(database) == 11


async def test_a_document_too_large_for_the_stream_is_handed_in(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup
) -> None:
    await writer.events(10)
    await backup.take()
    large = b'{"x":"' + b"y" * 1_100_000 + b'"}'
    await writer.policy("2.0", large)
    await writer.events(5)
    await publish(pool, broker, writer)
    before = without_content(await contents(database))
    await backup.put_back()
    survey = await recover(database, broker, dry_run=True)
    assert survey.refused is not None
    assert sha256(large).hexdigest() in str(survey.refused)
    assert (await recover(database, broker, documents=(large,))).refused is None
    assert without_content(await contents(database)) == before


async def test_a_stream_that_changed_after_it_was_verified_is_refused_then(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup
) -> None:
    await writer.events(10)
    await backup.take()
    await writer.events(20)
    await publish(pool, broker, writer)
    messages = await messages_of(broker)
    await backup.put_back()
    async with recovering(database, broker) as work:
        survey = await work.survey(quiet)
        await replace_stream(broker, messages | {15: messages[16]})
        with pytest.raises(AuditFault, match="entry 15"):
            await work.append(survey, quiet)
        assert await size_of(database) == 15
        with pytest.raises(Unavailable, match="appended to meanwhile"):
            await work.append(survey, quiet)


@pytest.mark.parametrize("role", ["the service", "a stranger"])
async def test_nobody_but_the_owner_may_put_entries_back(
    pool: asyncpg.Pool, writer: Writer, database: Database, role: str
) -> None:
    await writer.events(1)
    connection = await asyncpg.connect(database.url if role == "the service" else database.admin_url)
    if role == "a stranger":
        await connection.execute("create role stranger; grant usage on schema ledger to stranger; set role stranger")
    for call in (
        "ledger.recover_entries($1, 2, '', '{}', '{}', '{}', '{}', '{}')",
        "ledger.apply_control($1, 2, 3, '')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for function"):
            await connection.execute(f"select {call}", writer.site_id)
    if role == "a stranger":
        await connection.execute("reset role; drop owned by stranger; drop role stranger")
    await connection.close()


# --- giving up --------------------------------------------------------------------------------------------------------


async def test_the_loss_is_accepted_only_where_the_stream_has_nothing_left_and_after_an_answer(
    pool: asyncpg.Pool,
    founded: Founded,
    broker: Broker,
    database: Database,
    backup: Backup,
    settings: Settings,
) -> None:
    settings = replace(settings, master_secret=SECRET)
    writer = Writer(pool, founded)
    await writer.events(10)
    await backup.take()
    await writer.events(10)
    await publish(pool, broker, writer)
    saw = await last_head(pool, founded)
    messages = await messages_of(broker)
    await backup.put_back()

    held = await command(settings, database, SITE, "--accept-loss", answer=f"{SITE}\n")
    assert (held.exit_code, "bring them back first" in held.output) == (2, True)
    await replace_stream(broker, messages | {16: messages[17]})
    partly = await command(settings, database, SITE, "--from-stream")
    assert (partly.exit_code, "rule 3 at entry 16" in partly.output) == (1, True), partly.output
    assert await size_of(database) == 16

    async with relaying(pool, broker) as relay:
        await until_status(relay, lambda s: (s.state, s.error) == ("stopped", "ahead-of-ledger"), PATIENCE_SECONDS)
        for answer in ("\n", "y\n", ""):
            kept = await command(settings, database, SITE, "--accept-loss", answer=answer)
            assert kept.exit_code != 0
        assert (await api(broker, f"STREAM.INFO.{STREAM}"))["state"]["last_seq"] == 20
        done = await command(settings, database, SITE, "--accept-loss", answer=f"{SITE}\n")
        assert done.exit_code == 0, done.output
        assert "from entry 15" in done.output
        assert "restart every server" in done.output

        await refuses(pool, founded, saw)
        restarted = await resumed(pool, founded, database)
        await restarted.events(10)
        await caught_up(relay, restarted, PATIENCE_SECONDS)
        assert now(relay).error == ""
    await check_copy(broker, pool, restarted)


async def test_a_fork_s_stream_is_deleted_and_a_faithful_one_is_not(
    pool: asyncpg.Pool,
    founded: Founded,
    broker: Broker,
    database: Database,
    backup: Backup,
    settings: Settings,
) -> None:
    settings = replace(settings, master_secret=SECRET)
    writer = Writer(pool, founded)
    await writer.events(10)
    await publish(pool, broker, writer)
    created = (await api(broker, f"STREAM.INFO.{STREAM}"))["created"]
    assert (await command(settings, database, SITE, "--accept-loss", answer=f"{SITE}\n")).exit_code == 0
    assert (await api(broker, f"STREAM.INFO.{STREAM}"))["created"] == created

    await backup.take()
    await writer.events(10)
    await publish(pool, broker, writer)
    await backup.put_back()
    restarted = await resumed(pool, founded, database)
    await restarted.events(30)
    async with relaying(pool, broker) as relay:
        await until_status(relay, lambda s: (s.state, s.error) == ("stopped", "fork"), PATIENCE_SECONDS)
        done = await command(settings, database, SITE, "--accept-loss", answer=f"{SITE}\n")
        assert (done.exit_code, "the stream is deleted" in done.output) == (0, True), done.output
        await caught_up(relay, restarted, PATIENCE_SECONDS)
    await check_copy(broker, pool, restarted)


async def test_a_stream_whose_end_is_gone_is_ahead_all_the_same(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database, backup: Backup, settings: Settings
) -> None:
    settings = replace(settings, master_secret=SECRET)
    await writer.events(10)
    await backup.take()
    await writer.events(2)
    await publish(pool, broker, writer)
    await backup.put_back()
    for seq in (11, 12):
        await api(broker, f"STREAM.MSG.DELETE.{STREAM}", {"seq": seq})
    nothing = await command(settings, database, SITE, "--from-stream")
    assert (nothing.exit_code, "rule 2 at entry 11" in nothing.output) == (1, True), nothing.output
    done = await command(settings, database, SITE, "--accept-loss", answer=f"{SITE}\n")
    assert (done.exit_code, "the stream is deleted" in done.output) == (0, True), done.output


async def test_without_a_stream_or_nats_it_says_so(
    founded: Founded, broker: Broker, database: Database, settings: Settings
) -> None:
    missing = await command(settings, database, SITE, "--from-stream")
    assert (missing.exit_code, "no stream" in missing.output) == (2, True)
    unknown = await command(settings, database, "other.example.com", "--from-stream")
    assert (unknown.exit_code, "no site other.example.com" in unknown.output) == (2, True)
    neither = await command(settings, database, SITE)
    assert neither.exit_code == 2
    await broker.stop()
    for choice in ("--from-stream", "--accept-loss"):
        away = await command(settings, database, SITE, choice, answer=f"{SITE}\n")
        assert (away.exit_code, "NATS" in away.output) == (2, True), away.output
