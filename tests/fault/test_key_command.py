"""`consent-ledger key` on a ledger without servers: what it tells, what it refuses, and that nothing is half done."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ledger import config as bounds
from ledger.app import open_service
from ledger.config import Settings
from ledger.core import keys
from ledger.core.admin_act import admin_log_of
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_base64
from ledger.core.entry import Kind
from ledger.core.errors import ConfigInvalid, KeyRefused
from ledger.core.note import TYPE_ED25519, VerifierKey
from ledger.doctor.examine import examine
from ledger.doctor.finding import Verdict
from ledger.keys import files as key_files
from ledger.keys import operations as key_operations
from ledger.keys.operations import LogKeys
from ledger.provision import SiteCredentials, create_site
from ledger.site import SiteRegistry
from ledger.store import checkpoints as store
from ledger.store.pool import open_pool
from ledger.store.reads import Reads
from tests.fault.keys import PASSPHRASE, command, ids, key, listed, load_key, refused
from tests.harness import check_log, document, found, new_site_name

SMALL_ORDER = bytes([1]) + bytes(31)
NOT_CANONICAL = bytes([0xEE]) + bytes([0xFF]) * 30 + bytes([0x7F])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is there to be waited for."""
    monkeypatch.setattr(bounds, "KEYS_FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(bounds, "KEYS_FOLLOW_TIMEOUT_SECONDS", 0.1)


@pytest_asyncio.fixture
async def site(settings: Settings) -> SiteCredentials:
    return await found(settings)


@pytest_asyncio.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(settings.database_url)
    yield pool
    pool.terminate()


def origin_of(site: SiteCredentials) -> str:
    return site.log_vkey.partition("+")[0]


async def size_of(settings: Settings, site: SiteCredentials) -> int:
    return len((await check_log(settings, site)).entries)


async def test_list_shows_every_key_its_time_and_where_its_file_is(settings: Settings, site: SiteCredentials) -> None:
    rows = await listed(settings, site)
    assert [(row["role"], row["since"], row["until"], row["state"]) for row in rows] == [
        *((role, 0, None, "active") for role in ("root", "ingest", "log")),
        ("receipt", None, None, "signs receipts"),
    ]
    assert rows[2]["vkey"] == site.log_vkey
    assert rows[2]["keyId"] == site.log_vkey.split("+")[1]
    assert all((settings.keys_dir / site.site / row["file"]).exists() for row in rows)
    await key(settings, "new", site.site, "ingest")
    assert [row["state"] for row in await listed(settings, site)] == [
        *["active"] * 3,
        "not introduced",
        "signs receipts",
    ]
    text = await key(settings, "list", site.site)
    assert all(row["keyId"] in text for row in rows)
    elsewhere = replace(settings, keys_dir=settings.keys_dir.with_name("none"))
    assert [row["file"] for row in await listed(elsewhere, site)] == [None] * 3


async def test_an_ingest_key_is_rotated_by_one_command_and_the_log_verifies(
    settings: Settings, site: SiteCredentials
) -> None:
    (old,) = await ids(settings, site, "ingest")
    text = await key(settings, "rotate", site.site, "ingest", "--yes")
    (new,) = await ids(settings, site, "ingest")
    assert new != old
    assert f"introduced the ingest key {new} as entry 2" in text
    assert f"retired the ingest key {old} as entry 3" in text
    log = await check_log(settings, site)
    assert [entry.kind for entry in log.entries] == [Kind.GENESIS, Kind.POLICY, Kind.KEY, Kind.KEY]
    async with open_service(settings) as service:
        await service.publish(await service.site(site.site), document(site.site, "2.0"))
    log = await check_log(settings, site)
    assert log.entries[-1].signer[:4].hex() == new


async def test_key_steps_one_by_one_make_the_same_rotation(settings: Settings, site: SiteCredentials) -> None:
    (old,) = await ids(settings, site, "ingest")
    made = await key(settings, "new", site.site, "ingest")
    (waiting,) = await ids(settings, site, "ingest", "not introduced")
    assert waiting in made
    assert "introduced as entry 2" in await key(settings, "introduce", site.site, waiting)
    assert "introduced before as entry 2" in await key(settings, "introduce", site.site, waiting)
    assert "nothing was changed" in await refused(settings, "retire", site.site, old, answer="n\n")
    assert "retired as entry 3" in await key(settings, "retire", site.site, old, "--yes")
    assert "retired before as entry 3" in await key(settings, "retire", site.site, old, "--yes")
    assert "introduced before" in await refused(settings, "introduce", site.site, old), "a retired key never returns"
    assert await size_of(settings, site) == 4


async def test_a_key_made_on_another_machine_is_introduced_by_what_it_printed(
    settings: Settings, site: SiteCredentials, tmp_path: Path
) -> None:
    other = replace(settings, keys_dir=tmp_path / "other machine")
    for role in ("ingest", "log"):
        printed = await key(other, "new", site.site, role)
        (introduction,) = [line.split()[1] for line in printed.splitlines() if line.startswith("introduction")]
        assert "introduced as entry" in await key(settings, "introduce", site.site, introduction)
        assert len(await ids(settings, site, role)) == 2


async def test_a_rotation_cut_off_after_any_step_is_finished_by_the_next(
    settings: Settings, site: SiteCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in ("introduce", "wait_until_unused", "retire"):
        (old,) = await ids(settings, site, "ingest")
        with monkeypatch.context() as patch:

            async def breaks_off(*_: Any) -> None:
                raise ConfigInvalid("broken off")

            patch.setattr(LogKeys, step, breaks_off)
            await refused(settings, "rotate", site.site, "ingest", "--yes")
        await key(settings, "rotate", site.site, "ingest", "--yes")
        (new,) = await ids(settings, site, "ingest")
        assert new != old
        assert await ids(settings, site, "ingest", "not introduced") == []
    assert await size_of(settings, site) == 2 + 3 * 2


async def test_a_lost_answer_does_not_append_an_operation_twice(
    settings: Settings, site: SiteCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, lost = key_operations.append_one, []

    async def loses_the_answer(*arguments: Any) -> Any:
        done = await original(*arguments)
        if len(lost) % 2 == 0:
            lost.append(done)
            raise ConnectionResetError
        lost.append(done)
        return done

    monkeypatch.setattr(key_operations, "append_one", loses_the_answer)
    await key(settings, "rotate", site.site, "ingest", "--yes")
    assert len(lost) == 4
    assert await size_of(settings, site) == 4


async def test_the_only_key_of_a_role_is_not_retired(settings: Settings, site: SiteCredentials) -> None:
    for role in ("ingest", "log"):
        (only,) = await ids(settings, site, role)
        assert "only active" in await refused(settings, "retire", site.site, only, "--yes", "--force")
    assert "no ingest or log key" in await refused(settings, "retire", site.site, "00000000", "--yes")
    assert await size_of(settings, site) == 2


async def test_unfit_keys_are_refused_and_leave_no_entry(
    settings: Settings, site: SiteCredentials, pool: asyncpg.Pool
) -> None:
    origin, log_id = origin_of(site), bytes.fromhex(site.log_id)
    log = await LogKeys.of_site(pool, site.site)
    root, ingest, log_key = (load_key(settings, site.site, role) for role in ("root", "ingest", "log"))
    fresh = SigningKey(b"\x05" * 32)
    unfit = {
        "small order": bytes((keys.INTRODUCE_INGEST,)) + SMALL_ORDER + bytes(64),
        "not canonical": bytes((keys.INTRODUCE_INGEST,)) + NOT_CANONICAL + bytes(64),
        "no proof of possession": bytes((keys.INTRODUCE_INGEST,)) + fresh.public + bytes(64),
        "a proof for another log": keys.introduce_ingest(bytes(32), fresh),
        "the root key": keys.introduce_ingest(log_id, root),
        "a log key as ingest key": keys.introduce_ingest(log_id, log_key),
        "an ingest key as log key": keys.introduce_log(VerifierKey(origin, TYPE_ED25519, ingest.public)),
        "a log key of small order": keys.introduce_log(VerifierKey(origin, TYPE_ED25519, SMALL_ORDER)),
        "a vkey of another log": keys.introduce_log(VerifierKey("other.test/" + site.site, TYPE_ED25519, fresh.public)),
        "nothing": bytes((keys.INTRODUCE_INGEST,)),
    }
    for name, public in unfit.items():
        told = await refused(settings, "introduce", site.site, encode_base64(public))
        assert told.startswith("Error: "), name
    for public in (b"\x05" + bytes(32), b"\x02" + bytes(32), b""):
        await refused(settings, "introduce", site.site, encode_base64(public))
    with pytest.raises(ConfigInvalid, match="not the root key"):
        await log.introduce(fresh, keys.introduce_ingest(log_id, fresh))
    assert await size_of(settings, site) == 2


async def test_the_database_too_refuses_operations_that_would_break_the_log(
    settings: Settings, site: SiteCredentials, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two who change keys at one moment pass the check of what was there before; the lock decides."""
    other = await found(settings)
    origin, log_id = origin_of(site), bytes.fromhex(site.log_id)
    log = await LogKeys.of_site(pool, site.site)
    root, ingest, log_key = (load_key(settings, site.site, role) for role in ("root", "ingest", "log"))
    others_ingest, others_log = (load_key(settings, other.site, role) for role in ("ingest", "log"))
    fresh = SigningKey(b"\x05" * 32)
    monkeypatch.setattr(keys.KeySet, "apply", lambda *_: None)
    vkey = VerifierKey(origin, TYPE_ED25519, fresh.public)
    against_the_rules = [
        keys.introduce_ingest(log_id, root),
        keys.introduce_ingest(log_id, log_key),
        keys.introduce_ingest(log_id, others_ingest),
        keys.introduce_ingest(log_id, others_log),
        keys.introduce_log(VerifierKey(origin, TYPE_ED25519, ingest.public)),
        keys.introduce_log(VerifierKey(origin, TYPE_ED25519, others_log.public)),
        keys.introduce_log(VerifierKey(origin_of(other), TYPE_ED25519, fresh.public)),
        keys.introduce_ingest(log_id, fresh)[:-1],
        keys.retire_ingest(fresh.public),
        keys.retire_log(vkey),
        b"\x05" + bytes(32),
    ]
    for public in against_the_rules:
        with pytest.raises(ConfigInvalid, match="does not take it"):
            await log._append(await log.history(), root, public)
    assert await size_of(settings, site) == 2
    await log._append(await log.history(), root, keys.introduce_log(vkey))
    await log._append(await log.history(), root, keys.retire_log(vkey))
    for public in (keys.introduce_ingest(log_id, fresh), b"\x04" + bytes(32)):
        with pytest.raises(ConfigInvalid, match="does not take it"):
            await log._append(await log.history(), root, public)
    monkeypatch.undo()
    with pytest.raises(KeyRefused):
        await log._append(await log.history(), root, keys.introduce_ingest(log_id, fresh))
    assert await size_of(settings, site) == 4


# --- the root key -----------------------------------------------------------------------------------------------------


async def test_the_root_key_goes_offline_and_comes_back_for_key_commands_alone(
    settings: Settings, site: SiteCredentials, tmp_path: Path
) -> None:
    safe = tmp_path / "safe"
    safe.mkdir()
    offline = safe / f"{site.site}-root.key"
    root = key_files.root_path(settings, site.site)
    seed = load_key(settings, site.site, "root").seed
    told = await key(settings, "take-offline", site.site, str(safe), answer=PASSPHRASE + "\n")
    assert str(offline) in told
    assert not root.exists()
    assert offline.stat().st_mode & 0o777 == 0o600
    assert "offline already" in await refused(settings, "take-offline", site.site, str(safe), answer=PASSPHRASE)
    assert "--root-key" in await refused(settings, "rotate", site.site, "ingest", "--yes")
    wrong = await refused(settings, "rotate", site.site, "ingest", "--yes", "--root-key", str(offline), answer="no\n")
    assert "passphrase does not open" in wrong
    await key(settings, "rotate", site.site, "ingest", "--yes", "--root-key", str(offline), answer=PASSPHRASE + "\n")
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert seed not in everything
    assert seed.hex().encode() not in everything
    assert PASSPHRASE.encode() not in everything


async def test_taking_it_offline_cut_off_behind_the_copy_is_finished_by_the_next(
    settings: Settings, site: SiteCredentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, root = str(tmp_path / "offline.key"), key_files.root_path(settings, site.site)
    kept = root.read_bytes()
    await key(settings, "take-offline", site.site, target, answer=PASSPHRASE + "\n")
    root.write_bytes(kept)
    assert "passphrase does not open" in await refused(settings, "take-offline", site.site, target, answer="other\n")
    assert root.exists()
    await key(settings, "take-offline", site.site, target, answer=PASSPHRASE + "\n")
    assert not root.exists()
    other = await found(settings)
    told = await refused(settings, "take-offline", other.site, target, answer=PASSPHRASE + "\n")
    assert "another key" in told
    assert key_files.root_path(settings, other.site).exists()


async def test_a_root_key_of_another_site_or_of_none_is_refused(
    settings: Settings, site: SiteCredentials, tmp_path: Path
) -> None:
    other = await found(settings)
    theirs = str(key_files.root_path(settings, other.site))
    told = await refused(settings, "rotate", site.site, "ingest", "--yes", "--root-key", theirs)
    assert "not the root key of" in told
    assert "no key file" in await refused(settings, "rotate", site.site, "log", "--root-key", str(tmp_path / "none"))
    (tmp_path / "letter").write_text("dear root key")
    assert "no key file" in await refused(
        settings, "rotate", site.site, "log", "--yes", "--root-key", str(tmp_path / "letter")
    )


async def test_a_site_can_be_founded_with_a_root_key_that_was_never_online(settings: Settings, tmp_path: Path) -> None:
    name = new_site_name()
    (tmp_path / "site.yaml").write_bytes(document(name))
    offline = str(tmp_path / "root.key")
    arguments = ("site", "add", str(tmp_path / "site.yaml"), "--root-key", offline)
    made = await command(settings, *arguments, answer=PASSPHRASE + "\n")
    assert made.exit_code == 0, made.output
    assert offline in made.output
    assert not key_files.root_path(settings, name).exists()
    again = await command(settings, *arguments)
    assert again.exit_code == 0, "a founded site needs no root key, and asks for no passphrase"
    rotated = await command(
        settings, "key", "rotate", name, "ingest", "--yes", "--root-key", offline, answer=PASSPHRASE + "\n"
    )
    assert rotated.exit_code == 0, rotated.output


async def test_founding_a_site_says_where_the_root_key_is_and_what_to_do_with_it(
    settings: Settings, tmp_path: Path
) -> None:
    name = new_site_name()
    (tmp_path / "site.yaml").write_bytes(document(name))
    made = await command(settings, "site", "add", str(tmp_path / "site.yaml"))
    assert str(settings.keys_dir / name) in made.output
    assert f"consent-ledger key take-offline {name} FILE" in made.output


async def test_the_service_needs_no_root_key(settings: Settings, tmp_path: Path) -> None:
    name = new_site_name()
    await create_site(settings, document(name))
    key_files.root_path(settings, name).unlink()
    async with open_service(settings) as service:
        await service.publish(await service.site(name), document(name, "2.0"))
    for arguments in (("site", "list"), ("policy", "check", "-"), ("rebuild", name)):
        done = await command(settings, *arguments, answer=document(name, "3.0").decode())
        assert done.exit_code == 0, done.output
    await create_site(settings, document(name))  # new API keys


# --- doctor -----------------------------------------------------------------------------------------------------------


async def findings(settings: Settings, site: SiteCredentials) -> dict[Verdict, str]:
    told: dict[Verdict, str] = {}
    async for finding in examine(settings):
        if site.site in finding.what and "key" in finding.what:
            told[finding.verdict] = told.get(finding.verdict, "") + f"{finding.what}: {finding.detail}\n"
    return told


async def test_doctor_looks_at_the_key_files(settings: Settings, site: SiteCredentials, tmp_path: Path) -> None:
    told = await findings(settings, site)
    assert "take-offline" in told[Verdict.ADVICE]
    assert Verdict.BAD not in told
    await key(settings, "take-offline", site.site, str(tmp_path / "root.key"), answer=PASSPHRASE + "\n")
    offline = str(tmp_path / "root-of-acts.key")
    await key(settings, "take-offline", admin_log_of(site.site), offline, answer=PASSPHRASE + "\n")
    assert Verdict.ADVICE not in await findings(settings, site)

    (ingest,) = key_files.paths_of(settings, site.site, "ingest")
    ingest.chmod(0o640)
    assert f"{ingest.name} readable by others" in (await findings(settings, site))[Verdict.BAD]
    ingest.chmod(0o600)
    (ingest.parent / "log-in-clear.key").write_text("ab" * 32 + "\n")
    assert "log-in-clear.key is no key file" in (await findings(settings, site))[Verdict.BAD]
    (ingest.parent / "log-in-clear.key").unlink()

    bad = (await findings(replace(settings, master_secret=bytes(32)), site))[Verdict.BAD]
    assert "LEDGER_MASTER_SECRET" in bad
    assert "log key: active" in (await findings(settings, site))[Verdict.GOOD]
    (log,) = key_files.paths_of(settings, site.site, "log")
    shutil.move(log, tmp_path / log.name)
    assert "cannot sign checkpoints" in (await findings(settings, site))[Verdict.ADVICE]
    shutil.move(ingest, tmp_path / ingest.name)
    assert "cannot record" in (await findings(settings, site))[Verdict.BAD]


@pytest.mark.parametrize("reason", ["memory-ahead", "anchor-ahead", "nats-ahead", "stream-ahead"])
async def test_nothing_is_appended_to_an_older_copy_of_a_log(
    settings: Settings, site: SiteCredentials, pool: asyncpg.Pool, reason: str
) -> None:
    """As the checkpointer says, wherever it runs, or as this machine's anchor does."""
    size = await size_of(settings, site)
    reads, site_id = Reads(pool), (await LogKeys.of_site(pool, site.site)).site_id
    await store.report(pool, site_id, "refused", reason, "NATS knows a log of 99 entries", "[]")
    assert "99 entries" in await refused(settings, "rotate", site.site, "ingest", "--yes")
    registry = SiteRegistry(reads, pool, settings)
    behind = await registry.get(site.site)
    assert behind.sequencer is None
    assert registry.hindrance(behind).reason == "log-behind"
    await store.report(pool, site_id, "refused", "witness w-ahead", "a stranger's word", "[]")
    again = await SiteRegistry(reads, pool, settings).get(site.site)
    assert again.sequencer is not None
    await again.sequencer.stop()
    root = load_key(settings, site.site, "root")
    public = keys.introduce_ingest(bytes.fromhex(site.log_id), SigningKey(b"\x05" * 32))
    with pytest.raises(ConfigInvalid, match="99 entries were signed"):
        await (await LogKeys.of_site(pool, site.site, 99)).introduce(root, public)
    assert await size_of(settings, site) == size
