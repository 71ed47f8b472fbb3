"""A bundle exported from Postgres is sound; and `verify` finds what a superuser did to the rows."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from ledger import covering
from ledger import export as exporting
from ledger.bundle import Directory
from ledger.config import Settings
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import decode, encode
from ledger.core.errors import ConfigInvalid, NotFound, Unavailable
from ledger.core.heads import Pins
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_ED25519, VerifierKey, parse_checkpoint
from ledger.export import Exported, export
from ledger.store.pool import open_pool
from ledger.vault import Vaults
from ledger.verify import Report, verify
from tests.checkpointing import checkpoint
from tests.conftest import Database
from tests.fault.writer import Writer
from tests.founding import MASTER, ORIGIN, SITE, Founded, found
from tests.harness import now_ms
from tests.logbuilder import LogBuilder, witness
from tests.openings import opening_at, reseal
from tests.unit.audit_cases import faults

_UNSIGNED = """
select (select max(seq) + 1 from ledger.entry) > coalesce((select max(size) from ledger.checkpoint), 0)
"""


WITNESS = "witness.example/w1"


class Ledger(NamedTuple):
    """A founded log with a way to write to it and a superuser's connection."""

    url: str
    pool: asyncpg.Pool
    founded: Founded
    writer: Writer
    superuser: asyncpg.Connection

    async def sign(self) -> None:
        """What a checkpointer would, if it signed whatever it finds: an attacker has the log key."""
        await checkpoint(self.url, SITE, self.founded.log)

    async def export(self, directory: Path, pool: Any = None, *, sign: bool = True, **options: Any) -> Exported:
        if sign and await self.pool.fetchval(_UNSIGNED):
            await self.sign()
        return await export(
            pool or self.pool, Vaults(self.pool, [MASTER]), SITE, directory, lambda done, size: None, **options
        )

    def verify(self, directory: Path, old: Path | None = None, witnesses: Any = ()) -> Report:
        older = None if old is None else parse_checkpoint((old / "checkpoint").read_bytes())
        vkey = VerifierKey(ORIGIN, TYPE_ED25519, self.founded.log.public)
        return verify(Directory(directory), Pins(vkey, self.founded.log_id, older, witnesses))

    async def entry(self, seq: int) -> bytes:
        stored: bytes = await self.pool.fetchval("select entry from ledger.entry where seq = $1", seq)
        return stored

    async def put_entry(self, seq: int, data: bytes) -> None:
        await self.superuser.execute("update ledger.entry set entry = $2 where seq = $1", seq, data)

    async def chain_anew(self, start: int) -> None:
        """Let every entry from `start` on follow from the one before, as a careful forger would."""
        rows = await self.pool.fetch("select seq, entry from ledger.entry where seq >= $1 order by seq", start - 1)
        tip = leaf_hash(rows[0]["entry"])
        for row in rows[1:]:
            data = encode(decode(row["entry"])._replace(prev=tip))
            await self.put_entry(row["seq"], data)
            tip = leaf_hash(data)


@pytest_asyncio.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    """Genesis, a policy at 1, events 2 to 601, an erasure of 2 and 300, a key, a second policy, and an event: 606."""
    founded = await found(database.url)
    pool = await open_pool(database.url, size=2)
    superuser = await asyncpg.connect(database.admin_url)
    writer = Writer(pool, founded)
    await writer.policy("1.0", b"the first policy")
    await writer.events(600)
    await writer.erase([2, 300])
    await writer.key()
    await writer.policy("1.1", b"the second policy")
    await writer.events(1)
    made = Ledger(database.url, pool, founded, writer, superuser)
    await made.sign()
    yield made
    await superuser.close()
    await pool.close()


async def unguard(superuser: asyncpg.Connection) -> None:
    """What a superuser can always do."""
    for trigger in ("ledger_refuse_ddl", "ledger_refuse_drop"):
        await superuser.execute(f"drop event trigger {trigger}")
    for table in ("entry", "opening", "erased", "document", "policy", "known"):
        await superuser.execute(f"alter table ledger.{table} disable trigger all")


async def test_an_exported_log_is_sound_and_counted(ledger: Ledger, tmp_path: Path) -> None:
    done = await ledger.export(tmp_path / "bundle")
    assert (done.size, done.problem, done.erased) == (606, None, 0)
    assert done.log_id == ledger.founded.log_id
    report = ledger.verify(tmp_path / "bundle")
    assert (report.verdict, report.faults, report.notes) == ("sound", (), ())
    counts = report.counts
    assert (counts.events, counts.opened, counts.erased) == (601, 599, 2)
    assert (counts.erasures, counts.policies, counts.keys) == (1, 2, 1)
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "checkpoint",
        "checkpoints",
        "documents",
        "payloads.ndjson",
        "tile",
    ]
    assert (tmp_path / "bundle").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "bundle.partial").exists()


async def test_an_older_checkpoint_covers_a_grown_log(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.export(tmp_path / "before")
    await ledger.writer.events(300)
    await ledger.export(tmp_path / "after")
    report = ledger.verify(tmp_path / "after", old=tmp_path / "before")
    assert (report.verdict, report.size) == ("sound", 906)


async def test_a_document_that_was_shown_is_exported(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.export(tmp_path / "bundle")
    texts = sorted(path.read_bytes() for path in (tmp_path / "bundle/documents").iterdir())
    assert texts == [b"the first policy", b"the second policy"]


Tamper = Callable[[Ledger], Awaitable[None]]


async def edit_a_time(ledger: Ledger) -> None:
    entry = decode(await ledger.entry(100))
    await ledger.put_entry(100, encode(entry._replace(ms=entry.ms - 1)))


async def edit_a_commitment_and_chain_anew(ledger: Ledger) -> None:
    entry = decode(await ledger.entry(100))
    await ledger.put_entry(100, encode(entry._replace(commit=bytes(32))))
    await ledger.chain_anew(101)


async def edit_a_payload(ledger: Ledger) -> None:
    opening = await opening_at(ledger.superuser, [MASTER], 100)
    assert opening is not None
    await reseal(ledger.superuser, [MASTER], 100, opening[1].replace(b"refused", b"given"))


async def edit_a_sealed_payload(ledger: Ledger) -> None:
    await ledger.superuser.execute("update ledger.opening set sealed = sealed || 'x' where seq = 100")


async def delete_a_payload(ledger: Ledger) -> None:
    await ledger.superuser.execute("delete from ledger.opening where seq = 100")


async def delete_an_entry(ledger: Ledger) -> None:
    await ledger.superuser.execute("delete from ledger.entry where seq = 100")


async def delete_the_end(ledger: Ledger) -> None:
    for table in ("entry", "opening"):
        await ledger.superuser.execute(f"delete from ledger.{table} where seq >= 605")


async def delete_an_entry_and_close_the_gap(ledger: Ledger) -> None:
    """Signatures know no position: without the key entry at 603 the policy can move up."""
    await delete_the_end(ledger)
    policy = decode(await ledger.entry(604))
    await ledger.superuser.execute("delete from ledger.entry where seq = 604")
    await ledger.put_entry(603, encode(policy._replace(seq=603, prev=leaf_hash(await ledger.entry(602)))))


async def insert_an_entry(ledger: Ledger) -> None:
    last = await ledger.entry(605)
    thief = SigningKey(bytes(32))
    forged = decode(last)._replace(seq=606, prev=leaf_hash(last), commit=b"\1" * 32, signature=thief.sign(b""))
    await ledger.superuser.execute("insert into ledger.entry select site_id, 606, $1 from ledger.site", encode(forged))


async def swap_two_entries(ledger: Ledger) -> None:
    first, second = await ledger.entry(100), await ledger.entry(101)
    await ledger.put_entry(100, second)
    await ledger.put_entry(101, first)


async def swap_two_payloads(ledger: Ledger) -> None:
    first, second = [(await opening_at(ledger.superuser, [MASTER], seq) or (b"", b""))[1] for seq in (100, 101)]
    await reseal(ledger.superuser, [MASTER], 100, second)
    await reseal(ledger.superuser, [MASTER], 101, first)


async def swap_two_sealed_payloads(ledger: Ledger) -> None:
    await ledger.superuser.execute(
        "update ledger.opening o set sealed = p.sealed from ledger.opening p "
        "where o.seq in (100, 101) and p.seq in (100, 101) and o.seq <> p.seq"
    )


async def put_an_erased_payload_back(ledger: Ledger) -> None:
    await ledger.superuser.execute(
        "insert into ledger.opening (site_id, seq, sealed) select site_id, 2, sealed from ledger.opening where seq = 3"
    )
    opening = await opening_at(ledger.superuser, [MASTER], 3)
    assert opening is not None
    vault, entry = ledger.founded.vault, decode(await ledger.entry(2))
    await ledger.superuser.execute(
        "update ledger.opening set sealed = $1 where seq = 2", vault.seal_opening(entry.commit, *opening)
    )


async def delete_a_document(ledger: Ledger) -> None:
    await ledger.superuser.execute("alter table ledger.policy drop constraint policy_document_fkey")
    await ledger.superuser.execute("delete from ledger.document where body = 'the second policy'::bytea")


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (edit_a_time, (3, 101)),
        (edit_a_commitment_and_chain_anew, (7, 100)),
        (edit_a_payload, (10, 100)),
        (delete_a_payload, (12, 100)),
        (delete_an_entry, (3, 100)),
        (insert_an_entry, (7, 606)),
        (swap_two_entries, (3, 100)),
        (swap_two_payloads, (10, 101)),
        (put_an_erased_payload_back, (12, 2)),
        (delete_a_document, (9, 604)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_verify_finds_what_a_superuser_did(
    ledger: Ledger, tmp_path: Path, tamper: Tamper, expected: tuple[int, int]
) -> None:
    await unguard(ledger.superuser)
    await tamper(ledger)
    await ledger.export(tmp_path / "bundle")
    report = ledger.verify(tmp_path / "bundle")
    assert report.exit_code == 1
    assert expected in faults(report)


async def refuse(ledger: Ledger) -> None:
    """What a checkpointer says that found the log broken."""
    await ledger.superuser.execute(
        "select ledger.report_checkpointer(site_id, 'refused', 'fault', 'rule 3 at entry 100', '[]') from ledger.site"
    )


async def test_a_log_that_was_broken_below_its_checkpoint_is_exported_under_it(ledger: Ledger, tmp_path: Path) -> None:
    await unguard(ledger.superuser)
    await edit_a_time(ledger)
    done = await ledger.export(tmp_path / "bundle")
    assert done.problem is not None
    assert done.problem.startswith("entry 100:")
    assert {(2, None), (3, 101)} <= set(faults(ledger.verify(tmp_path / "bundle")))


async def test_a_broken_log_that_is_not_signed_any_further_is_exported_without_a_signature(
    ledger: Ledger, tmp_path: Path
) -> None:
    await unguard(ledger.superuser)
    await edit_a_time(ledger)
    await ledger.writer.events(10)
    await refuse(ledger)
    done = await ledger.export(tmp_path / "bundle", sign=False)
    assert done.size == 616
    assert done.problem is not None
    assert "NOT signed" in done.problem
    assert "rule 3 at entry 100" in done.problem
    assert b"\xe2\x80\x94" not in (tmp_path / "bundle/checkpoint").read_bytes()
    assert {(1, None), (3, 101)} <= set(faults(ledger.verify(tmp_path / "bundle")))


async def test_entries_beyond_every_checkpoint_are_waited_for_in_vain_and_the_way_out_is_told(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.writer.events(1)
    with pytest.raises(Unavailable, match=r"covers the 607 .* newest one covers 606.*--at-checkpoint 606") as late:
        await ledger.export(tmp_path / "bundle", sign=False, wait_seconds=0.3)
    assert "No checkpointer seems to be running" not in str(late.value)
    await ledger.superuser.execute("update ledger.checkpointer set seen_at = now() - interval '1 hour'")
    with pytest.raises(Unavailable, match="No checkpointer seems to be running: start `consent-ledger serve`"):
        await ledger.export(tmp_path / "bundle", sign=False, wait_seconds=0)
    with pytest.raises(Unavailable, match="No checkpoint of size 100 was kept: the newest covers 606"):
        await ledger.export(tmp_path / "bundle", at_checkpoint=100, sign=False)
    assert list(tmp_path.iterdir()) == []


async def test_a_checkpoint_that_comes_in_time_is_waited_for(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.writer.events(1)
    exported = asyncio.create_task(ledger.export(tmp_path / "bundle", sign=False, wait_seconds=60))
    await asyncio.sleep(0.3)
    assert not exported.done()
    await ledger.sign()
    assert (await exported).size == 607
    assert ledger.verify(tmp_path / "bundle").verdict == "sound"


async def test_an_older_checkpoint_is_exported_until_something_it_covers_is_erased(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.writer.events(1)
    done = await ledger.export(tmp_path / "bundle", at_checkpoint=606, sign=False)
    assert done.size == 606
    assert ledger.verify(tmp_path / "bundle").verdict == "sound"
    await ledger.writer.erase([606])  # beyond it
    assert (await ledger.export(tmp_path / "again", at_checkpoint=606, sign=False)).size == 606
    await ledger.writer.erase([400])
    with pytest.raises(Unavailable, match="take a later checkpoint"):
        await ledger.export(tmp_path / "third", at_checkpoint=606, sign=False)


async def test_cosigned_checkpoints_go_along_and_those_of_the_log_alone_do_not(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.writer.events(1)
    cosign = partial(LogBuilder.cosign, cosigned=[(WITNESS, now_ms() // 1000)])
    await checkpoint(ledger.url, SITE, ledger.founded.log, cosign=cosign)
    await ledger.writer.events(1)
    assert (await ledger.export(tmp_path / "bundle")).size == 608
    assert [path.name for path in (tmp_path / "bundle/checkpoints").iterdir()] == ["607"]
    report = ledger.verify(tmp_path / "bundle", witnesses=(witness(WITNESS),))
    assert (report.verdict, report.notes) == ("sound", ())


async def test_of_too_many_checkpoints_as_many_go_along_as_an_auditor_reads(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covering, "MAX_KEPT_CHECKPOINTS", 4)
    for _ in range(11):
        await ledger.writer.events(1)
        await checkpoint(
            ledger.url, SITE, ledger.founded.log, cosign=lambda made: LogBuilder.cosign(made, [(WITNESS, 1)])
        )
    await ledger.export(tmp_path / "bundle")
    assert sorted(path.name for path in (tmp_path / "bundle/checkpoints").iterdir()) == ["607", "611", "615"]


@pytest.mark.parametrize("tamper", [edit_a_time, edit_a_commitment_and_chain_anew, swap_two_entries])
async def test_an_older_checkpoint_shows_a_rewrite(ledger: Ledger, tmp_path: Path, tamper: Tamper) -> None:
    await ledger.export(tmp_path / "before")
    await unguard(ledger.superuser)
    await tamper(ledger)
    await ledger.export(tmp_path / "after")
    assert (4, None) in faults(ledger.verify(tmp_path / "after", old=tmp_path / "before"))


@pytest.mark.parametrize("tamper", [delete_the_end, delete_an_entry_and_close_the_gap])
async def test_only_an_older_checkpoint_shows_what_was_dropped_and_signed_anew(
    ledger: Ledger, tmp_path: Path, tamper: Tamper
) -> None:
    await ledger.export(tmp_path / "before")
    await unguard(ledger.superuser)
    await tamper(ledger)
    await ledger.superuser.execute("truncate ledger.checkpoint, ledger.checkpointer")
    await ledger.export(tmp_path / "after")
    assert ledger.verify(tmp_path / "after").verdict == "sound"
    assert faults(ledger.verify(tmp_path / "after", old=tmp_path / "before")) == [(4, None)]


class Meddling:
    """A pool that lets something happen after each range it has read."""

    def __init__(self, pool: asyncpg.Pool, happen: Callable[[int], Awaitable[None]]) -> None:
        self._pool, self._happen, self._reads = pool, happen, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def fetch(self, *arguments: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._pool.fetch(*arguments)
        self._reads += 1
        await self._happen(self._reads)
        return rows


async def test_an_erasure_during_the_export_leaves_a_sound_bundle_without_the_erased(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "EXPORT_RANGE_ENTRIES", 100)
    early, late = [50, 150], [250, 500]

    async def happen(reads: int) -> None:
        if reads == 2:  # entries below 200 were read
            await ledger.writer.erase(early + late)
        if reads == 7:  # up to the checkpoint at hand, and the erasure lies beyond it
            await ledger.writer.events(3)
            await ledger.sign()

    done = await ledger.export(tmp_path / "bundle", Meddling(ledger.pool, happen))
    assert (done.size, done.erased) == (610, len(early))
    report = ledger.verify(tmp_path / "bundle")
    assert (report.verdict, report.counts.erased) == ("sound", 6)
    lines = (tmp_path / "bundle/payloads.ndjson").read_bytes().splitlines()
    assert not {json.loads(line)["seq"] for line in lines} & {*early, *late, 2, 300}


async def test_erasures_that_go_on_are_followed_until_a_checkpoint_covers_them(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "EXPORT_RANGE_ENTRIES", 256)

    async def happen(reads: int) -> None:
        if 3 <= reads <= 7:
            await ledger.sign()
        if reads <= 6:
            await ledger.writer.erase([400 + reads])

    done = await ledger.export(tmp_path / "bundle", Meddling(ledger.pool, happen))
    assert done.size == 612
    report = ledger.verify(tmp_path / "bundle")
    assert (report.verdict, report.counts.erased) == ("sound", 8)


async def test_an_erasure_of_no_living_entry_in_a_table_keeps_no_export_waiting(ledger: Ledger, tmp_path: Path) -> None:
    await unguard(ledger.superuser)
    await ledger.superuser.execute("insert into ledger.erased select site_id, 100, 5000 from ledger.site")
    assert (await ledger.export(tmp_path / "bundle", wait_seconds=0)).size == 606


async def test_nothing_is_overwritten_and_nothing_half_done_is_left(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter").write_text("mine")
    with pytest.raises(ConfigInvalid, match="not empty"):
        await ledger.export(tmp_path / "full")
    with pytest.raises(NotFound):
        await export(
            ledger.pool, Vaults(ledger.pool, [MASTER]), "nowhere.example", tmp_path / "other", lambda done, size: None
        )
    (tmp_path / "empty").mkdir()
    await ledger.export(tmp_path / "empty")
    (tmp_path / "taken.partial").mkdir()
    (tmp_path / "taken.partial/letter").write_text("mine")
    with pytest.raises(ConfigInvalid, match="none of ours"):
        await ledger.export(tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "taken.partial"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Under the master secret of the log that the tests found."""
    return replace(settings, master_secret=MASTER.secret)


UNRECORDED = (
    f"warning: this export is on no record: {SITE} has no administrative log: "
    "`consent-ledger site add` founds it again."
)


def command(settings: Settings, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "ledger", *map(str, arguments)],
        env={**os.environ, **settings.environment()},
        capture_output=True,
        check=False,
        timeout=300,
    )


async def test_the_command_writes_directories_tars_and_pipes_and_says_how_to_verify_them(
    ledger: Ledger, settings: Settings, tmp_path: Path
) -> None:
    for name in ("bundle", "bundle.tar", "bundle.tar.gz"):
        done = await asyncio.to_thread(command, settings, "export", SITE, tmp_path / name)
        assert done.returncode == 0
        assert done.stderr.decode().splitlines() == [UNRECORDED], "this log was founded without an administrative one"
        assert b"606 entries" in done.stdout
        suggested = shlex.split(done.stdout.decode().splitlines()[-1])
        assert suggested[:3] == ["consent-ledger", "verify", str(tmp_path / name)]
        assert (await asyncio.to_thread(command, settings, *suggested[1:])).stdout.startswith(b"sound: ")
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    done = await asyncio.to_thread(command, settings, "export", SITE, "-")
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "bundle.tar").read_bytes()
    assert b"606 entries" in done.stderr
    done = await asyncio.to_thread(command, settings, "export", SITE, tmp_path / "bundle.tar")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is there already" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle.tar", "bundle.tar.gz"]


async def test_the_command_exits_with_1_where_the_stored_log_is_broken_and_with_2_where_nothing_is_signed(
    ledger: Ledger, settings: Settings, tmp_path: Path
) -> None:
    await ledger.writer.events(1)
    done = await asyncio.to_thread(command, settings, "export", SITE, tmp_path / "none", "--wait", "0.2")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--at-checkpoint 606" in done.stderr
    assert not (tmp_path / "none").exists()
    await unguard(ledger.superuser)
    await edit_a_time(ledger)
    done = await asyncio.to_thread(command, settings, "export", SITE, tmp_path / "broken.tar", "--at-checkpoint", "606")
    assert done.returncode == 1
    assert b"warning: the stored log is broken: entry 100" in done.stderr
    assert (tmp_path / "broken.tar").exists()
