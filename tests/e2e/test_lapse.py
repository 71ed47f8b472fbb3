"""Lapses that are told: once each, whatever ends the lapser, whoever writes meanwhile, and never of somebody forgotten.

Grants here are some days old when they are recorded and renewed daily, so they have lapsed as soon as they are read.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ledger import config
from ledger.administration import Who
from ledger.config import Settings
from ledger.core.decide import Recorded
from ledger.core.encoding import encode_time
from ledger.core.errors import Unavailable
from ledger.core.event import Event
from ledger.core.lapse import decode_told
from ledger.doctor.examine import examine
from ledger.doctor.finding import Verdict
from ledger.lapser import Lapser
from ledger.projector import Projector, rebuild
from ledger.retention.closing import close_site
from ledger.site import SiteRegistry
from ledger.store.pool import open_pool
from ledger.store.reads import Reads
from tests.conftest import Database
from tests.e2e.conftest import Shop
from tests.e2e.test_reading import check_projection
from tests.harness import document, grant, new_visitor, now_ms, refusal

DAY_MS = 86_400_000


def daily(shop: Shop, version: str, material: str = "false", effective: str = "2026-01-01") -> bytes:
    """A version whose grants hold for a day."""
    plain = document(shop.site.site, version, effective).decode().replace("P12M", "P1D")
    return plain.replace("/cookies}", f"/cookies, material: {material}}}").encode()


def old_grant(days: float, version: str = "d1", **members: Any) -> dict[str, Any]:
    """A grant that was made some days ago, by the visitor's own clocks."""
    now = now_ms()
    occurred, sent = encode_time(now - int(days * DAY_MS)), encode_time(now)
    members = {"decisions": {"analytics": "granted"}, "policyVersion": version, **members}
    return grant(occurredAt=occurred, sentAt=sent, **members)


class Lapsing:
    """A lapser that works when the test says so, with sequencers of its own."""

    def __init__(self, shop: Shop, settings: Settings) -> None:
        self.shop, self._settings = shop, settings

    async def __aenter__(self) -> Lapsing:
        self.lapser = Lapser(self._settings, self.shop.pool)
        self._writers = await open_pool(self._settings.database_url, size=2)
        self.sites = SiteRegistry(Reads(self.shop.pool), self._writers, self._settings, self.lapser._append)
        await self.sites.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sites.stop()
        self._writers.terminate()

    async def once(self) -> int | None:
        return await self.lapser.round(self.sites)

    async def all(self) -> None:
        """Until nothing is due."""
        async with asyncio.timeout(60):
            while await self.once() == 0:
                pass


@pytest_asyncio.fixture
async def lapsing(shop: Shop, settings: Settings) -> AsyncIterator[Lapsing]:
    await shop.service.publish(shop.site, daily(shop, "d1"))
    async with Lapsing(shop, settings) as lapsing:
        await lapsing.all()
        yield lapsing


async def told(shop: Shop) -> list[Recorded]:
    return [recorded for recorded in await shop.events() if recorded.event.lapsed]


async def due(shop: Shop) -> list[int | None]:
    rows = await shop.pool.fetch("select due_ms from ledger.state order by due_ms nulls first")
    return [row["due_ms"] for row in rows]


async def decisions(shop: Shop, visitor: str) -> dict[str, tuple[str, str, int | None]]:
    answers = (await shop.consent(visitor)).decisions
    return {purpose: (each.decision, each.reason, each.seq) for purpose, each in answers.items()}


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_a_grant_that_lapsed_is_told_once_and_nothing_else_changes(shop: Shop, lapsing: Lapsing) -> None:
    visitor = new_visitor()
    receipt = (await shop.record(old_grant(2, visitor=visitor))).receipt
    before = await decisions(shop, visitor)
    assert before["analytics"][1:] == ("expired", receipt.seq)
    await shop.project()
    await lapsing.all()
    (event,) = await told(shop)
    assert event.event == Event(
        id=event.event.id,
        site=shop.site.site,
        type="consent.expired",
        visitor=visitor,
        authentication="ledger",
        lapsed={"analytics": receipt.seq},
        occurred_at=encode_time(shop.site.policies.effects_ms[0]),  # its day was over before the site had a policy
    )
    assert await decisions(shop, visitor) == before
    assert await due(shop) == [None]
    for _ in range(3):
        await shop.project()
        await lapsing.all()
        assert await due(shop) == [None]
        await rebuild(shop.pool, shop.vaults, shop.site.site_id)
    assert len(await told(shop)) == 1
    row = await shop.pool.fetchrow("select told, seq from ledger.state")
    assert (decode_told(row["told"]), row["seq"]) == ({"analytics": receipt.seq}, event.seq)
    await check_projection(shop)


async def test_whatever_the_projection_does_not_hold_yet_is_known_to_the_lapser(shop: Shop, lapsing: Lapsing) -> None:
    """A renewal and a withdrawal that are not folded yet; the row alone would have two lapses to tell."""
    renewed, withdrew = new_visitor(), new_visitor()
    for visitor in (renewed, withdrew):
        await shop.record(old_grant(2, visitor=visitor))
    await shop.project()
    await shop.record(old_grant(0.5, visitor=renewed))
    await shop.record(refusal(visitor=withdrew, type="consent.withdrawn", action="withdraw"))
    await lapsing.all()
    assert await told(shop) == []
    await shop.project()
    assert [moment is None for moment in await due(shop)] == [True, False]


async def test_a_version_that_asks_again_ends_every_grant_and_only_once(
    shop: Shop, lapsing: Lapsing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "LAPSE_BATCH_ROWS", 4)
    monkeypatch.setattr(config, "LAPSE_PASS_ROWS", 3)
    seqs = [(await shop.record(old_grant(0.1))).receipt.seq for _ in range(10)]
    await shop.record(refusal())
    await shop.project()
    assert await told(shop) == []
    await shop.service.publish(shop.site, daily(shop, "d2", material="true"))
    await lapsing.all()
    published = shop.site.policies.get("d2")
    assert published is not None
    events = await told(shop)
    assert sorted(event.event.lapsed["analytics"] for event in events) == sorted(seqs)
    assert {(event.event.type, event.event.policy_version, event.event.occurred_at) for event in events} == {
        ("consent.invalidated", "d2", encode_time(published.effect_ms))
    }


async def test_a_version_that_is_to_come_is_told_when_it_comes(shop: Shop, lapsing: Lapsing) -> None:
    await shop.record(old_grant(0.1))
    await shop.project()
    effect_ms = now_ms() + 2_000
    await shop.service.publish(shop.site, daily(shop, "d2", material="true", effective=encode_time(effect_ms)))
    await lapsing.all()
    assert (await told(shop), await due(shop)) == ([], [effect_ms])
    await asyncio.sleep((effect_ms - now_ms()) / 1000)
    waiting = await lapsing.once()
    while waiting != 0 and now_ms() < effect_ms + 60_000:
        await asyncio.sleep((waiting or 10) / 1000)
        waiting = await lapsing.once()
    (event,) = await told(shop)
    assert (event.event.type, event.event.occurred_at) == ("consent.invalidated", encode_time(effect_ms))
    assert event.recorded_ms >= effect_ms


async def test_the_pass_goes_on_where_another_left_it_and_begins_anew_for_a_newer_version(
    shop: Shop, lapsing: Lapsing, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "LAPSE_PASS_ROWS", 3)
    for _ in range(8):
        await shop.record(old_grant(0.1))
    await shop.project()
    progress = "select due_policy, due_target, due_after from ledger.projection where live"
    subjects = [row["visitor"] for row in await shop.pool.fetch("select visitor from ledger.state order by visitor")]
    first = (await shop.service.publish(shop.site, daily(shop, "d2"))).seq
    await lapsing.once()
    assert tuple(await shop.pool.fetchrow(progress))[1:] == (first, subjects[2])
    async with Lapsing(shop, settings) as another:
        await another.once()
        assert tuple(await shop.pool.fetchrow(progress))[1:] == (first, subjects[5])
        second = (await shop.service.publish(shop.site, daily(shop, "d3"))).seq
        await another.once()
        assert tuple(await shop.pool.fetchrow(progress))[1:] == (second, subjects[2])
        await another.all()
    assert tuple(await shop.pool.fetchrow(progress)) == (second, second, None)


async def test_a_projector_that_does_not_know_a_version_yet_writes_nothing(shop: Shop, lapsing: Lapsing) -> None:
    """Else its rows would say when they are due as if there were no such version, and no pass would find them."""
    await shop.record(old_grant(0.1))
    visitor = await shop.pool.fetchval("select visitor from ledger.opening where site_id = 1 and visitor is not null")
    size = await shop.size()
    call = "select ledger.write_state($1, 1, 0, $2, $3, $4, $5, $6, $7, $8, $9)"
    rows = ([visitor], [size - 1], [b""], [None], [None])
    policy_seq = shop.site.policies.last_seq
    assert not await shop.pool.fetchval(call, shop.site.site_id, size - 1, size, policy_seq - 1, *rows)
    assert await shop.pool.fetchval(call, shop.site.site_id, size - 1, size, policy_seq, *rows)


async def test_an_accounts_grant_is_told_of_under_the_account(shop: Shop, lapsing: Lapsing) -> None:
    visitor, account = new_visitor(), "customer-7"
    link = {"type": "account.linked", "visitor": visitor, "account": account}
    await shop.record(link, secret=True)
    receipt = (await shop.record(old_grant(2, visitor=visitor, scope="account"), secret=True)).receipt
    await shop.project()
    await lapsing.all()
    (event,) = await told(shop)
    assert (event.event.visitor, event.event.account) == (visitor, shop.site.hasher.account(account))
    assert event.event.lapsed == {"analytics": receipt.seq}
    under = await shop.pool.fetchval("select visitor from ledger.opening where site_id = 1 and seq = $1", event.seq)
    assert under == bytes.fromhex(event.event.account or "")
    await shop.project()
    await lapsing.all()
    assert len(await told(shop)) == 1


# --- who writes meanwhile ---------------------------------------------------------------------------------------------


class Meddling:
    """Something happens between what a lapser read and what it appends."""

    def __init__(self, lapsing: Lapsing, monkeypatch: pytest.MonkeyPatch) -> None:
        self.happen: Any = None
        reads = lapsing.lapser._reads
        events_at = reads.events_at

        async def meddle(*arguments: Any) -> Any:
            found = await events_at(*arguments)
            if self.happen is not None:
                happen, self.happen = self.happen, None
                await happen()
            return found

        monkeypatch.setattr(reads, "events_at", meddle)


@pytest.fixture
def meddling(lapsing: Lapsing, monkeypatch: pytest.MonkeyPatch) -> Meddling:
    return Meddling(lapsing, monkeypatch)


async def test_nothing_is_told_behind_an_act_that_came_meanwhile(
    shop: Shop, lapsing: Lapsing, meddling: Meddling
) -> None:
    visitor, other = new_visitor(), new_visitor()
    for each in (visitor, other):
        await shop.record(old_grant(2, visitor=each))
    await shop.project()

    async def renew() -> None:
        await shop.record(old_grant(0, visitor=visitor))

    meddling.happen = renew
    await lapsing.all()
    assert [event.event.visitor for event in await told(shop)] == [other]
    await shop.project()
    await lapsing.all()
    assert len(await told(shop)) == 1


@pytest.mark.parametrize("whole", [True, False])
async def test_nobody_who_was_forgotten_meanwhile_is_told_of(
    shop: Shop, lapsing: Lapsing, meddling: Meddling, whole: bool
) -> None:
    visitor = new_visitor()
    seqs = [(await shop.record(old_grant(2, visitor=visitor))).receipt.seq]
    seqs.append((await shop.record(refusal(visitor=visitor, decisions={"marketing": "denied"}))).receipt.seq)
    await shop.project()

    async def forget() -> None:
        await shop.erase(seqs if whole else seqs[:1])

    meddling.happen = forget
    await lapsing.all()
    await shop.project()
    await lapsing.all()
    assert await told(shop) == []
    assert len(await shop.events(visitor)) == (0 if whole else 1)
    assert await shop.pool.fetchval("select count(*) from ledger.unfolded") == 0


async def test_an_event_that_was_erased_is_not_told_again(shop: Shop, lapsing: Lapsing) -> None:
    visitor = new_visitor()
    await shop.record(old_grant(2, visitor=visitor))
    await shop.project()
    await lapsing.all()
    (event,) = await told(shop)
    await shop.erase([event.seq])
    await rebuild(shop.pool, shop.vaults, shop.site.site_id)
    await lapsing.all()
    assert await told(shop) == []
    assert await due(shop) == [None]


async def test_whoever_lost_a_row_but_not_every_event_is_folded_again(shop: Shop, lapsing: Lapsing) -> None:
    visitor = new_visitor()
    gone = (await shop.record(refusal(visitor=visitor, decisions={"marketing": "denied"}))).receipt.seq
    await shop.record(old_grant(0.5, visitor=visitor))
    await shop.project()
    expected = await due(shop)
    await shop.erase([gone])
    assert await due(shop) == []
    await shop.project()
    projector = Projector(shop.pool, shop.vaults)
    await projector._round()
    assert await due(shop) == expected
    assert await shop.pool.fetchval("select count(*) from ledger.unfolded") == 0
    await check_projection(shop)


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["events_at", "write_due"])
async def test_a_lapser_that_ends_before_or_after_its_append_is_followed_by_one_that_tells_the_rest(
    shop: Shop, lapsing: Lapsing, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(config, "LAPSE_BATCH_ROWS", 3)
    seqs = [(await shop.record(old_grant(2))).receipt.seq for _ in range(5)]
    await shop.project()

    async def end(*_: object, **__: object) -> None:
        raise RuntimeError("ended")

    owner = lapsing.lapser._reads if step == "events_at" else lapsing.lapser._rows
    monkeypatch.setattr(owner, step, end)
    with pytest.raises(RuntimeError, match="ended"):
        await lapsing.once()
    assert len(await told(shop)) == (0 if step == "events_at" else 3)
    async with Lapsing(shop, settings) as another:
        await another.all()
    assert sorted(event.event.lapsed["analytics"] for event in await told(shop)) == seqs


async def test_two_lapsers_at_once_tell_everything_once(
    shop: Shop, lapsing: Lapsing, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "LAPSE_BATCH_ROWS", 7)
    seqs = [(await shop.record(old_grant(2))).receipt.seq for _ in range(40)]
    await shop.project()
    async with Lapsing(shop, settings) as another:
        await asyncio.gather(lapsing.all(), another.all())
        told_by_each = lapsing.lapser.told + another.lapser.told
    events = await told(shop)
    assert sorted(event.event.lapsed["analytics"] for event in events) == seqs
    assert told_by_each == Counter({(shop.site.site, "consent.expired"): 40})


async def test_a_clock_that_is_wrong_tells_nothing_and_is_waited_for(shop: Shop, lapsing: Lapsing) -> None:
    await shop.record(old_grant(2))
    await shop.project()
    (site,) = lapsing.sites.loaded()
    assert site.sequencer is not None
    right = site.sequencer._wall_ms
    site.sequencer._wall_ms = lambda: now_ms() + 3_600_000
    await lapsing.once()
    assert await told(shop) == []
    site.sequencer._wall_ms = right
    await lapsing.all()
    assert len(await told(shop)) == 1


async def test_without_the_sites_key_nothing_is_told_and_rows_stay_due(
    shop: Shop, lapsing: Lapsing, settings: Settings
) -> None:
    await shop.record(old_grant(2))
    await shop.project()
    keys = settings.keys_dir / shop.site.site
    hidden = [path for path in keys.iterdir() if "ingest" in path.name]
    assert hidden
    for path in hidden:
        path.rename(path.with_suffix(".away"))
    async with Lapsing(shop, settings) as keyless:
        assert await keyless.once() is None
        assert keyless.lapser.lags[shop.site.site].seconds >= 0
    assert (await told(shop), len(await due(shop))) == ([], 1)
    await lapsing.all()
    assert len(await told(shop)) == 1


async def test_a_row_that_cannot_be_read_holds_up_no_other(shop: Shop, lapsing: Lapsing, database: Database) -> None:
    for _ in range(3):
        await shop.record(old_grant(2))
    await shop.project()
    broken = await shop.pool.fetchval("select visitor from ledger.state order by due_ms, visitor limit 1")
    superuser = await asyncpg.connect(database.admin_url)
    await superuser.execute("update ledger.state set body = 'junk' where visitor = $1", broken)
    await superuser.close()
    await lapsing.all()
    assert len(await told(shop)) == 2


async def test_a_database_that_goes_away_is_waited_for(shop: Shop, lapsing: Lapsing) -> None:
    await shop.record(old_grant(2))
    await shop.project()
    rows, sites = lapsing.lapser._rows, lapsing.lapser._rows.sites

    async def away() -> Any:
        raise Unavailable("database-unavailable", "The ledger's database does not answer; try again.")

    rows.sites = away  # type: ignore[method-assign]
    assert await lapsing.lapser._work(lapsing.sites) == config.LAPSE_IDLE_SECONDS
    rows.sites = sites  # type: ignore[method-assign]
    await lapsing.all()
    assert len(await told(shop)) == 1


async def test_lapses_that_wait_too_long_are_named_by_readyz_and_by_doctor(
    shop: Shop, lapsing: Lapsing, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.record(old_grant(2))
    await shop.project()
    name = f"lapses {shop.site.site}"
    assert (await shop.service.readiness()).checks[name].ok
    monkeypatch.setattr(config, "LAPSE_LATE_SECONDS", 0)
    ready = await shop.service.readiness()
    assert (ready.write, ready.checks[name].ok) == (True, False)
    assert "is a worker running" in ready.checks[name].detail
    found = [finding async for finding in examine(settings) if finding.what == f"{shop.site.site} lapses"]
    assert [finding.verdict for finding in found] == [Verdict.ADVICE]

    assert await close_site(shop.pool, shop.service.sites, shop.site, Who("ada", "operator", "DSR-1"))
    await lapsing.all()
    assert await told(shop) == [], "nothing is recorded for a site that was closed"
    monkeypatch.setattr(config, "LAPSE_LATE_SECONDS", 0.001)
    assert (await shop.service.readiness()).checks[name].ok
