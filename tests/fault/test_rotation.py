"""Keys rotated while real servers are under load: nobody who posts notices, every server follows by itself."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from ledger import config as bounds
from ledger.config import Settings
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import Kind, commitment, core_bytes, key_hash
from ledger.core.errors import KeyRefused
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_ED25519, VerifierKey, parse_checkpoint, parse_vkey
from ledger.provision import SiteCredentials
from ledger.secrets import new_salt
from ledger.store import errors as sql
from ledger.store.append import EventDraft, Head, append_events
from ledger.vault import Vault, read_vault
from tests.fault.keys import auditor, command, ids, key, listed, load_key, refused
from tests.harness import (
    Browser,
    Load,
    Log,
    Process,
    check_log,
    check_verified,
    found,
    now_ms,
    refusal,
    until,
)
from tests.witnesses import WitnessProcess, found_witnessed, policy_text
from tests.witnesses import command as witness_command

EVENTS = 60


def another_machine(settings: Settings, directory: Path) -> Settings:
    """Of a server elsewhere: the same database and secrets, the key files copied, but never the root key."""
    shutil.copytree(settings.keys_dir, directory, ignore=shutil.ignore_patterns("root.key"))
    return replace(settings, keys_dir=directory)


def hand_over(origin: Settings, to: Settings, site: SiteCredentials, key_id: str) -> None:
    """Copy a key file, slowly: what lies there half is no key yet."""
    (source,) = (origin.keys_dir / site.site).glob(f"*-{key_id}.key")
    target = to.keys_dir / site.site / source.name
    data = source.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    target.chmod(0o600)
    target.write_bytes(data)


async def signers_of(settings: Settings, site: SiteCredentials, since: int) -> set[str]:
    """Ids of the keys that signed the events from a seq on."""
    log = await check_log(settings, site)
    return {entry.signer[:4].hex() for entry in log.entries[since:] if entry.kind == Kind.EVENT}


def key_entries(log: Log) -> list[int]:
    return [entry.seq for entry in log.entries if entry.kind == Kind.KEY]


@pytest.mark.slow
async def test_an_ingest_key_rotated_under_load_fails_no_post_and_both_servers_follow(
    settings: Settings, tmp_path: Path
) -> None:
    site = await found(settings)
    (old,) = await ids(settings, site, "ingest")
    other = another_machine(settings, tmp_path / "keys elsewhere")
    async with Process(settings, tmp_path) as here, Process(other, tmp_path) as there:
        async with Load([here.url, there.url], site) as load:
            await load.more(EVENTS)
            await key(settings, "new", site.site, "ingest")
            (new,) = await ids(settings, site, "ingest", "not introduced")
            hand_over(settings, other, site, new)
            await load.more(EVENTS)
            told = await key(settings, "rotate", site.site, "ingest", "--yes")
            assert new in told
            await load.more(EVENTS)
        assert (load.refused, load.broken) == (0, 0)
        for server in (here, there):
            assert f"are signed with the ingest key {new} now" in server.log
    assert await ids(settings, site, "ingest") == [new]
    log = await check_log(settings, site, load.receipts)
    introduced, retired = key_entries(log)
    assert await signers_of(settings, site, retired) == {new}
    assert {entry.signer[:4].hex() for entry in log.entries[2:introduced]} == {old}
    await check_verified(settings, site, tmp_path / "bundle")


@pytest.mark.slow
async def test_a_server_that_has_not_got_the_new_key_holds_up_the_rotation_and_not_the_load(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await found(settings)
    (old,) = await ids(settings, site, "ingest")
    other = another_machine(settings, tmp_path / "keys elsewhere")
    monkeypatch.setattr(bounds, "KEYS_FOLLOW_TIMEOUT_SECONDS", 0.0)
    async with Process(settings, tmp_path) as here, Process(other, tmp_path) as late:
        async with Load([here.url, late.url], site) as load:
            await load.more(EVENTS)
            told = await refused(settings, "rotate", site.site, "ingest", "--yes")
            assert "a server still signs" in told
            old_again, new = await ids(settings, site, "ingest")
            assert old_again == old
            told = await refused(settings, "retire", site.site, old, "--yes")
            assert "a server still signs" in told
            hand_over(settings, other, site, new)
            await until(lambda: signs_with(late, site, new))
            await key(settings, "rotate", site.site, "ingest", "--yes")
            await load.more(EVENTS)
        assert (load.refused, load.broken) == (0, 0)
    assert await ids(settings, site, "ingest") == [new]
    await check_log(settings, site, load.receipts)


async def signs_with(server: Process, site: SiteCredentials, key_id: str) -> bool:
    return f"are signed with the ingest key {key_id} now" in server.log


@pytest.mark.slow
async def test_a_key_retired_at_once_stops_only_the_server_without_the_new_one_until_it_gets_it(
    settings: Settings, tmp_path: Path
) -> None:
    """A stolen key is not waited for."""
    site = await found(settings)
    (old,) = await ids(settings, site, "ingest")
    other = another_machine(settings, tmp_path / "keys elsewhere")
    async with (
        Process(settings, tmp_path) as here,
        Process(other, tmp_path) as late,
        aiohttp.ClientSession() as session,
    ):
        browsers = [Browser(session, server.url, site) for server in (here, late)]
        for browser in browsers:
            assert (await browser.post(refusal())).status == 201
        await key(settings, "new", site.site, "ingest")
        (new,) = await ids(settings, site, "ingest", "not introduced")
        await key(settings, "introduce", site.site, new)
        await key(settings, "retire", site.site, old, "--force", "--yes")
        assert (await browsers[0].post(refusal())).status == 201, "it was signed again"
        reply = await browsers[1].post(refusal())
        assert (reply.status, reply.json["type"].rpartition(":")[2]) == (503, "no-signer")
        assert "Retry-After" in reply.headers
        hand_over(settings, other, site, new)

        async def recovered() -> bool:
            return (await browsers[1].post(refusal())).status == 201

        await until(recovered)
        await until(lambda: ready(browsers[1]))
    log = await check_log(settings, site)
    assert await signers_of(settings, site, key_entries(log)[-1]) == {new}


async def ready(browser: Browser) -> bool:
    return (await browser.ready()).status == 200


@pytest.mark.slow
async def test_a_log_key_rotated_under_load_signs_beside_the_old_one_and_then_alone(
    settings: Settings, tmp_path: Path
) -> None:
    site = await found(settings)
    old = site.log_vkey
    async with Process(settings, tmp_path) as server:
        async with Load([server.url], site) as load:
            await load.more(EVENTS)
            before = await newest_note(settings, size=1)
            told = await key(settings, "rotate", site.site, "log", "--yes")
            (new,) = [line.split()[-1] for line in told.splitlines() if line.startswith("log vkey")]
            await key(settings, "rotate", site.site, "ingest", "--yes")
            await load.more(EVENTS)
        assert (load.refused, load.broken) == (0, 0)
        log = await check_log(settings, site, load.receipts)
        size = len(log.entries)
        last = await newest_note(settings, size)
        assert server.log.count("ERROR") == 0
    introduced, retired = key_entries(log)[:2]
    signed = await signatures(settings, parse_vkey(old, TYPE_ED25519), parse_vkey(new, TYPE_ED25519))
    for at, signers in signed.items():
        expected = {"old"} if at <= introduced else {"old", "new"} if at <= retired else {"new"}
        assert signers == expected, f"the checkpoint of size {at}"
    assert any(introduced < at <= retired for at in signed), "the keys never overlapped"

    bundle, kept = tmp_path / "bundle", tmp_path / "checkpoint"
    kept.write_bytes(before)
    assert parse_checkpoint(last).size == size
    exported = await command(settings, "export", site.site, str(bundle))
    assert exported.exit_code == 0, exported.output
    log_id = ("--log-id", site.log_id)
    for pins, code in (
        (("--log-vkey", new, *log_id), 0),
        (("--log-vkey", old, "--old", str(kept), *log_id), 0),
        (("--log-vkey", old, *log_id), 1),
    ):
        verdict = await command(settings, "verify", str(bundle), *pins)
        assert verdict.exit_code == code, verdict.output
        assert code == 0 or "rule 4" in verdict.output


@pytest.mark.slow
async def test_receipts_and_monitors_go_with_the_old_key_over_to_the_new_one(
    settings: Settings, tmp_path: Path
) -> None:
    site = await found(settings)
    old = site.log_vkey
    (tmp_path / "key").write_text(site.secret)
    (tmp_path / "key").chmod(0o600)
    async with Process(settings, tmp_path) as server, aiohttp.ClientSession() as session:
        browser = Browser(session, server.url, site)

        async def receipt(name: str) -> Path:
            posted = await browser.call("POST", "events?wait=checkpoint", refusal())
            assert posted.status == 201, posted.json
            (tmp_path / name).write_text(json.dumps(posted.json))
            return tmp_path / name

        async def receipt_by(file: Path, vkey: str) -> int:
            return (await auditor("receipt", "verify", file, "--log-vkey", vkey, "--log-id", site.log_id))[0]

        async def sees(state: str, vkey: str, code: int) -> None:
            """Without the log's id, which by itself vouches for the root key and so for every key after it."""
            url, pins = f"{server.url}/logs/{site.site}", ("--log-vkey", vkey)
            watch = ("--state", tmp_path / "watch" / state.replace(" ", "-"), "--key-file", tmp_path / "key", "--once")
            ended, said = await auditor("monitor", url, *pins, *watch)
            assert ended == code, f"{state}: {said}"

        before = await receipt("before")
        await sees("old", old, 0)
        await key(settings, "new", site.site, "log")
        (new_id,) = await ids(settings, site, "log", "not introduced")
        (new,) = [row["vkey"] for row in await listed(settings, site) if row["keyId"] == new_id]
        await key(settings, "introduce", site.site, new_id)
        between = await receipt("between")
        await sees("between", new, 0)
        await key(settings, "retire", site.site, old.split("+")[1], "--yes")
        after = await receipt("after")
        assert [await receipt_by(file, old) for file in (before, between, after)] == [0, 0, 1]
        assert [await receipt_by(file, new) for file in (before, between, after)] == [1, 0, 0]
        for state, vkey, code in (("old", old, 0), ("between", new, 0), ("new", new, 0), ("too late", old, 1)):
            await sees(state, vkey, code)


async def newest_note(settings: Settings, size: int) -> bytes:
    """The newest checkpoint once it has reached this size."""
    connection = await asyncpg.connect(settings.database_url)
    notes: list[bytes] = []

    async def reached() -> bool:
        notes[:] = [
            row["note"]
            for row in await connection.fetch(
                "select note from ledger.checkpoint join ledger.site using (site_id) "
                "where admin_of is null and size >= $1 order by size desc limit 1",
                size,
            )
        ]
        return bool(notes)

    try:
        await until(reached)
    finally:
        await connection.close()
    return notes[0]


async def signatures(settings: Settings, old: VerifierKey, new: VerifierKey) -> dict[int, set[str]]:
    """Size -> which of the two keys signed the checkpoint, of every one that was kept."""
    connection = await asyncpg.connect(settings.database_url)
    kept = "select note from ledger.checkpoint join ledger.site using (site_id) where admin_of is null"
    notes = [parse_checkpoint(row["note"]) for row in await connection.fetch(kept)]
    await connection.close()
    return {note.size: {name for name, vkey in (("old", old), ("new", new)) if note.signed_by(vkey)} for note in notes}


@pytest.mark.slow
async def test_the_old_log_key_stays_until_the_witnesses_know_the_new_one(settings: Settings, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        witnesses = []
        for n in range(2):
            made = await WitnessProcess.create(tmp_path / f"w{n}", f"witness.example/w{n}")
            witnesses.append(await stack.enter_async_context(made))
        policy = tmp_path / "policy"
        policy.write_text(policy_text("all", *witnesses))
        settings = replace(settings, witness_policy=policy)
        site = await found_witnessed(settings, *witnesses)
        await stack.enter_async_context(Process(settings, tmp_path))
        told = await refused(settings, "rotate", site.site, "log", "--yes")
        assert "give them its vkey" in told
        assert "it does not trust the key" in told
        old_id, new_id = await ids(settings, site, "log")
        (new,) = [row["vkey"] for row in await listed(settings, site) if row["keyId"] == new_id]
        assert new in told
        assert "give them its vkey" in await refused(settings, "retire", site.site, old_id, "--yes")
        for n, witness in enumerate(witnesses):
            code, said = await witness_command("add-log", witness.directory, new)
            assert code == 0, said
            if n == 0:
                assert "give them its vkey" in await refused(settings, "rotate", site.site, "log", "--yes")
        told = await key(settings, "rotate", site.site, "log", "--yes")
        assert f"going on with the rotation to the key {new_id}" in told
        assert await ids(settings, site, "log") == [new_id]

        size = len((await check_log(settings, site)).entries)
        vkey = parse_vkey(new, TYPE_ED25519)

        async def cosigned() -> bool:
            note = parse_checkpoint(await newest_note(settings, size))
            return note.signed_by(vkey) and all(note.cosigned_at(witness.vkey) for witness in witnesses)

        await until(cosigned)
        note = parse_checkpoint(await newest_note(settings, size))
        assert not note.signed_by(parse_vkey(site.log_vkey, TYPE_ED25519))


async def test_what_a_retired_key_signs_afterwards_is_refused_by_the_database_and_by_an_audit(
    settings: Settings, database: Any
) -> None:
    site = await found(settings)
    (old,) = await ids(settings, site, "ingest")
    thiefs = load_key(settings, site.site, "ingest")
    await key(settings, "new", site.site, "ingest")
    (new,) = await ids(settings, site, "ingest", "not introduced")
    await key(settings, "introduce", site.site, new)
    await key(settings, "retire", site.site, old, "--force", "--yes")
    service = await asyncpg.connect(settings.database_url)
    draft = drafted(await read_vault(service, 1, settings.masters), site, thiefs)
    with pytest.raises(asyncpg.PostgresError) as error:
        await append_events(service, 1, now_ms(), Head(0, b""), draft.signer, [draft], 5)
    assert sql.sqlstate(error.value) == sql.SIGNER_INACTIVE
    await service.close()

    superuser = await asyncpg.connect(database.admin_url)
    await superuser.execute(
        """with tip as (select e.site_id, e.seq + 1 as seq, ledger.entry_ms(e.entry) as ms,
                               ledger.leaf_hash(e.entry) as leaf
                          from ledger.entry e join ledger.site s on s.site_id = e.site_id and s.admin_of is null
                         order by e.seq desc limit 1)
           insert into ledger.entry (site_id, seq, entry)
           select t.site_id, t.seq, ledger.entry_bytes(t.seq, t.ms, t.leaf, 1, $1, $2, $3, ''::bytea) from tip t""",
        draft.commit,
        draft.signer,
        draft.signature,
    )
    await superuser.close()
    with pytest.raises(KeyRefused, match="no ingest key active"):
        await check_log(settings, site)


def drafted(vault: Vault, site: SiteCredentials, signer: SigningKey) -> EventDraft:
    salt, payload = new_salt(), b"{}"
    commit = commitment(salt, payload)
    signature = signer.sign(core_bytes(bytes.fromhex(site.log_id), Kind.EVENT, commit, b""))
    visitor = leaf_hash(b"visitor")[:16]
    sealed = vault.seal_opening(commit, salt, payload)
    return EventDraft(visitor, commit, key_hash(signer.public), signature, sealed, visitor, visitor, salt, payload)
