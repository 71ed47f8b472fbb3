"""The administrative log: acts on record before what they tell of, and erasures that none ordered."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from click.testing import CliRunner

from ledger.admin_log import Wanted, acts, erase_due
from ledger.administration import Act, Administration, Who, act_id_of, named
from ledger.cli import main
from ledger.config import Settings
from ledger.core.admin_act import AdminAct, admin_log_of
from ledger.core.encoding import encode_time
from ledger.core.entry import Kind, commitment, encode_seqs
from ledger.core.erasing import events_hash, evidence_of
from ledger.core.errors import ConfigInvalid, Unavailable
from ledger.core.event import ErasureRecord, encode_payload
from ledger.export import export
from ledger.keys.files import log_keys, site_directory
from ledger.provision import create_api_key
from ledger.secrets import new_event_id, new_salt
from ledger.site import SiteRegistry
from ledger.store.append import ControlDraft
from ledger.store.reads import Reads
from tests.checkpointing import checkpoint
from tests.e2e.conftest import Shop
from tests.harness import grant, now_ms, refusal
from tests.vectors import spec_verifier

EVIDENCE = evidence_of([b"\xcd" * 32])
ADA = Who("ada", "operator", "ticket-7")


class Office(NamedTuple):
    """A site, its administration, and where an auditor gets the bundles of both logs."""

    shop: Shop
    administration: Administration
    settings: Settings

    @property
    def site(self) -> str:
        return self.shop.site.site

    async def recorded(self, wanted: Wanted = Wanted()) -> list[AdminAct | None]:  # noqa: B008 - immutable
        log = await self.shop.service.sites.admin_log(self.site)
        return [found.act async for found in acts(self.shop.pool, log, wanted)]

    async def export(self, directory: Path) -> tuple[Path, Path]:
        """Both logs, signed as they stand."""
        made = []
        for name in (self.site, admin_log_of(self.site)):
            await checkpoint(self.settings.database_url, name, log_keys(self.settings, name)[0])
            made.append(directory / name)
            await export(self.shop.pool, self.shop.service.sites.vaults, name, made[-1], lambda done, size: None)
        return made[0], made[1]

    def verify(self, bundles: tuple[Path, Path], *more: str) -> tuple[int, dict[str, Any]]:
        """Exit code and JSON report of `verify`, `--admin` too."""
        site, admin = bundles
        arguments = ["verify", str(site), "--log-vkey", self.shop.site.log_vkey, "--admin", str(admin), "--json", *more]
        done = CliRunner().invoke(main, arguments)
        return done.exit_code, json.loads(done.stdout) if done.exit_code in (0, 1) else {"error": done.stderr}

    async def erase(self, seqs: list[int], instruction: str, evidence: str = EVIDENCE, **other: Any) -> int:
        """What a worker does, and whoever has the database and an ingest key can do."""
        log = other.pop("log", self.shop.site)
        record = encode_payload(
            ErasureRecord(
                site=log.site,
                reason=other.pop("reason", "subject_request"),
                requested_at=encode_time(now_ms()),
                evidence=evidence,
                instruction=instruction,
            )
        )
        signer, salt, public = log.sequencer.signer, new_salt(), encode_seqs(sorted(seqs))
        commit = commitment(salt, record)
        signature = signer.sign(Kind.ERASURE, commit, public)
        sealed = log.vault.seal_record(commit, salt, record)
        draft = ControlDraft(Kind.ERASURE, commit, signer.key_hash, signature, public, sealed)
        return int((await log.sequencer.submit_control(draft)).seq)

    async def order(self, seqs: list[int]) -> str:
        """An order and the act by which these events may be erased: how a record names it."""
        erasure, asked = new_event_id(now_ms()), "cd" * 32
        told = {"reason": "subject_request", "evidence": asked, "level": "erase", "erasure": erasure}
        await self.administration.record(self.site, Act("erasure.ordered", "ada", "operator", "ticket-7", told))
        told = {"reason": "subject_request", "evidence": EVIDENCE, "count": str(len(seqs)), "erasures": erasure}
        act = Act("erasure.executed", "eraser", "ledger", details={**told, "events": events_hash(seqs)})
        return named(await self.administration.record(self.site, act))


@pytest_asyncio.fixture
async def office(shop: Shop, settings: Settings) -> AsyncIterator[Office]:
    yield Office(shop, shop.service.administration, settings)


async def test_an_operator_who_erases_a_withdrawal_through_the_database_is_found(
    office: Office, tmp_path: Path
) -> None:
    seqs = [(await office.shop.record(event)).receipt.seq for event in (grant(), grant(), grant(), refusal())]
    await office.erase(seqs[:2], await office.order(seqs[:2]))
    await office.order(seqs[2:3])  # and not carried out
    before = await office.export(tmp_path / "before")
    code, report = office.verify(before)
    assert (code, report["verdict"]) == (0, "sound")
    told = report["admin"]
    assert (told["matched"], told["events"], told["mismatchCount"], told["log"]["verdict"]) == (1, 2, 0, "sound")
    assert [(each["act"], each["count"]) for each in told["pending"]] == [
        ("erasure.ordered", 0),
        ("erasure.executed", 1),
    ]
    assert told["log"]["rootKey"] == "bound"
    log = await office.shop.service.sites.admin_log(office.site)
    pinned = ("--admin-vkey", log.log_vkey, "--admin-log-id", log.log_id.hex())
    assert office.verify(before, *pinned)[0] == 0
    assert office.verify(before, *pinned[:3], "00" * 32)[0] == 1, "another log's id"
    assert spec_verifier.audit(before[1], log.log_vkey, log.log_id).exit == 0

    await office.administration.record(office.site, ADA._replace(flagged="unclear").act("erasure.ordered"))
    awkward = await office.erase([seqs[3]], f"{log.site}:9999:{'00' * 32}", "cd" * 32)
    after = await office.export(tmp_path / "after")
    assert spec_verifier.audit(after[0], office.shop.site.log_vkey).exit == 0, "the log alone is sound"
    code, report = office.verify(after, *pinned)
    assert (code, report["verdict"]) == (1, "sound")
    (mismatch,) = report["admin"]["mismatches"]
    assert (mismatch["log"], mismatch["seq"], mismatch["what"]) == (office.site, awkward, "orphan")
    arguments = ["verify", str(after[0]), "--log-vkey", office.shop.site.log_vkey, "--admin", str(after[1])]
    text = CliRunner().invoke(main, arguments).stdout
    assert "somebody erased what nobody ordered" in text
    assert f"UNMATCHED  entry {awkward} of {office.site} (orphan)" in text
    assert "pending    erasure.executed" in text
    assert "flagged    1 acts" in text
    assert office.verify((after[0], after[0]))[0] == 2, "a site's log is no administrative log"


async def test_acts_at_once_are_all_on_record_and_one_that_is_repeated_only_once(office: Office) -> None:
    elsewhere = SiteRegistry(Reads(office.shop.pool), office.shop.pool, office.settings)
    others = [office.administration, Administration(elsewhere, Reads(office.shop.pool))]
    once = new_event_id(now_ms())
    many = [others[n % 2].record(office.site, ADA.act("held.opened", {"count": str(n)})) for n in range(40)]
    same = [others[n % 2].record(office.site, ADA.act("site.closed"), act_id=once) for n in range(6)]
    receipts = await asyncio.gather(*many, *same)
    await elsewhere.stop()
    assert len({receipt.seq for receipt in receipts}) == 41
    assert len(set(receipts[40:])) == 1
    counts = [act.details["count"] for act in await office.recorded(Wanted(act="held")) if act is not None]
    assert sorted(map(int, counts)) == list(range(40))


async def test_what_cannot_be_put_on_record_is_not_done(office: Office, tmp_path: Path) -> None:
    acting = office.administration.acting(office.site, ADA)
    with pytest.raises(ConfigInvalid, match="no detail"):
        await office.administration.record(office.site, ADA.act("key.created", {"visitor": "v" * 22}))
    with pytest.raises(ConfigInvalid, match="another form"):
        await office.administration.record(office.site, ADA.act("policy.published", {"version": "of Mr. Smith"}))
    with pytest.raises(ConfigInvalid, match="cannot be recorded"):
        await office.administration.record(office.site, ADA._replace(actor="two\nlines").act("key.created"))
    site_directory(office.settings, admin_log_of(office.site)).rename(tmp_path / "away")
    sites = SiteRegistry(Reads(office.shop.pool), office.shop.pool, office.settings)
    keyless = Administration(sites, Reads(office.shop.pool)).acting(office.site, ADA)
    size, keys = await office.shop.size(), "select count(*) from ledger.api_key"
    before = await office.shop.pool.fetchval(keys)
    with pytest.raises(Unavailable):
        await create_api_key(office.shop.pool, office.shop.site.site_id, "secret", ("check",), "x", keyless)
    with pytest.raises(Unavailable):
        await office.shop.service.publish(office.shop.site, document_of(office, "2.0"), keyless)
    assert (await office.shop.size(), await office.shop.pool.fetchval(keys)) == (size, before)
    await sites.stop()
    await office.shop.service.publish(office.shop.site, document_of(office, "2.0"), acting)
    assert await office.shop.size() == size + 1


def document_of(office: Office, version: str) -> bytes:
    from tests.harness import document

    return document(office.site, version)


async def test_the_command_line_puts_its_acts_on_record_and_shows_them(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in office.settings.environment().items():
        monkeypatch.setenv(name, value)

    async def run(*arguments: str, text: str | None = None) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, main, list(arguments), text)
        assert done.exit_code == 0, done.output
        return done.stdout

    log = await office.shop.service.sites.admin_log(office.site)
    who = ("--as", "Ada L.", "--instruction", "mail of 21 November", "--flag", "unclear")
    key = (await run("api-key", "create", office.site, "--class", "secret", "--scope", "check", *who)).strip()
    await run("api-key", "revoke", "--as", "Ada L.", text=key)
    listed = [json.loads(line) for line in (await run("admin-log", "list", office.site, "--json")).splitlines()]
    assert [each["act"]["act"] for each in listed] == [
        *("site.added", "policy.published", "key.created", "key.created", "key.created", "key.revoked")
    ]
    assert listed[0]["act"]["id"] == act_id_of(log.log_id.hex(), "site.added")
    made, revoked = listed[-2]["act"], listed[-1]["act"]
    assert (made["actor"], made["role"], made["instruction"], made["flagged"]) == (
        *("Ada L.", "operator", "mail of 21 November", "unclear"),
    )
    assert made["details"]["keyId"] == revoked["details"]["keyId"]
    assert made["details"]["scopes"] == "check"
    table = await run("admin-log", "list", office.site, "--actor", "Ada L.", "--act", "key.created", "--flagged")
    assert len(table.splitlines()) == 1
    assert "FLAGGED unclear" in table
    assert await run("admin-log", "list", office.site, "--since", "2999-01-01T00:00:00Z") == ""
    assert f"{office.site}\t" in await run("site", "list")
    assert len((await run("site", "list")).splitlines()) == 1, "an administrative log is no site"
    assert key not in "".join(map(json.dumps, listed))


async def test_acts_are_forgotten_after_their_term_and_those_on_which_erasures_rest_stay(
    office: Office, tmp_path: Path
) -> None:
    ordered = await office.shop.record(grant())
    await office.erase([ordered.receipt.seq], await office.order([ordered.receipt.seq]))
    there = ADA._replace(address="2001:db8::7")
    await office.administration.record(office.site, there.act("key.created"))
    acted = await office.administration.record(office.site, there.act("erasure.ordered"))
    assert "2001:db8" not in b64decode(acted.payload).decode(), "what stays holds no address"
    log = await office.shop.service.sites.admin_log(office.site)
    pool, day_ms = office.shop.pool, 86_400_000
    assert await erase_due(office.administration, pool, log, now_ms()) == 0
    assert await erase_due(office.administration, pool, log, now_ms() + 366 * day_ms) == 1
    living = [act for act in await office.recorded() if act is not None]
    assert [act.act for act in living if act.address is not None] == []
    assert await erase_due(office.administration, pool, log, now_ms() + 366 * day_ms) == 0
    gone = await asyncio.gather(
        *(erase_due(office.administration, pool, log, now_ms() + 3_651 * day_ms) for _ in range(3))
    )
    assert sum(gone) >= 4
    left = [act.act for act in await office.recorded() if act is not None]
    assert set(left) == {"erasure.executed", "erasure.ordered", "retention.run"}
    code, report = office.verify(await office.export(tmp_path))
    assert (code, report["admin"]["mismatchCount"]) == (0, 0)
    assert report["admin"]["matched"] == 3


async def test_the_log_of_a_site_is_an_administrative_log_to_nobody_who_visits(office: Office) -> None:
    service, name = office.shop.service, admin_log_of(office.site)
    assert [site.site for site in service.sites.loaded()] == [office.site]
    with pytest.raises(Exception, match="no site"):
        await service.site(name)
    assert (await service.sites.log(name)).site == name
    assert await office.shop.pool.fetchval("select count(*) from ledger.projection") == 1
    readiness = await service.readiness()
    assert not any(name in check for check in readiness.checks)
