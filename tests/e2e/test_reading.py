"""What is read: the same answers whatever the projection holds, and answers about the past that stay as they were."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import asyncpg
import pytest

from ledger import config, projector
from ledger.config import Settings
from ledger.core.decide import EMPTY_STATE, Recorded, encode_state, fold
from ledger.core.encoding import decode_time, encode_time
from ledger.core.errors import InputRefused, Malformed, Unavailable
from ledger.messages import CheckInput, CheckVisitor, Consent
from ledger.projector import Projector, rebuild
from ledger.store.append import Appended, EventDraft, Head, append_events
from ledger.store.reads import Reads
from ledger.vault import Vaults
from tests.conftest import Database
from tests.e2e.conftest import Shop
from tests.harness import found, grant, new_visitor, now_ms, refusal, until
from tests.unit.naive_replay import Naive, Question, replay, replay_history

PURPOSES = ("analytics", "marketing", "video")
HOUR_MS = 3_600_000
SEEDS = (1, 2, 3)


class Crowd:
    """Visitors who grant and deny at random, with clocks of all kinds; the same for the same seed."""

    def __init__(self, seed: int, visitors: int = 12) -> None:
        self._random = random.Random(seed)
        self.visitors = [f"visitor-{seed:04d}-{n:020d}" for n in range(visitors)]

    def act(self) -> dict[str, object]:
        chance = self._random
        visitor, signal = chance.choice(self.visitors), chance.random() < 0.2 or None
        if chance.random() < 0.5:
            decisions = {purpose: chance.choice(("granted", "denied")) for purpose in PURPOSES[:2]}
            if "granted" in decisions.values():
                clock = self._clock((0, HOUR_MS, 72 * HOUR_MS))
                return grant(visitor=visitor, decisions=decisions, gpc=signal, **clock)
        named = chance.sample((*PURPOSES, "*"), chance.randint(1, 2))
        return refusal(
            visitor=visitor,
            type=chance.choice(("consent.refused", "consent.withdrawn")),
            decisions=dict.fromkeys(named, "denied"),
            action=chance.choice(("withdraw", "gpc", "settings")),
            **self._clock((0, HOUR_MS, 72 * HOUR_MS, 9_000 * HOUR_MS, -9_000 * HOUR_MS)),
        )

    def _clock(self, ages_ms: tuple[int, ...]) -> dict[str, str | None]:
        occurred_ms = now_ms() - self._random.choice(ages_ms)
        occurred, sent = encode_time(occurred_ms), encode_time(occurred_ms + self._random.choice((0, 500, 2 * HOUR_MS)))
        occurred_at, sent_at = self._random.choice(((None, None), (occurred, None), (occurred, sent)))
        return {"occurredAt": occurred_at, "sentAt": sent_at}

    async def live(self, shop: Shop, events: int) -> None:
        """Post so many events, some at once."""
        for start in range(0, events, 8):
            await asyncio.gather(*(shop.record(self.act()) for _ in range(min(8, events - start))))


Answers = dict[tuple[str, str], tuple[str, str, int | None, str | None]]


def answers_of(visitor: str, consent: Consent) -> Answers:
    return {
        (visitor, purpose): (each.decision, each.reason, each.seq, each.regime)
        for purpose, each in consent.decisions.items()
    }


async def answers(shop: Shop, visitors: Iterable[str]) -> Answers:
    """Each visitor's decisions as the service gives them now, of which a bulk check has to say the same."""
    found: Answers = {}
    visitors = list(visitors)
    for visitor in visitors:
        found |= answers_of(visitor, await shop.consent(visitor, purposes=PURPOSES))
    checked = await shop.service.check(shop.site, CheckInput(visitors=list(visitors), purposes=list(PURPOSES)))
    assert {
        (visitor, purpose): (each.decision, each.reason)
        for visitor, of_visitor in checked.results.items()
        for purpose, each in of_visitor.items()
    } == {place: answer[:2] for place, answer in found.items()}
    return found


def answer_of(naive: Naive) -> tuple[str, str, int | None, str | None]:
    return naive.decision, naive.reason, naive.seq, naive.regime


async def naive_answers(shop: Shop, visitors: Iterable[str]) -> Answers:
    """The same by replaying every stored event."""
    published, ask = shop.published(), Question(now_ms())
    events = {visitor: await shop.events(visitor) for visitor in visitors}
    return {
        (visitor, purpose): answer_of(replay(published, events[visitor], purpose, ask))
        for visitor in events
        for purpose in PURPOSES
    }


async def check_projection(shop: Shop) -> None:
    """Each row of the living projection is the fold of its visitor's living events up to its seq; no other rows."""
    rows = await shop.pool.fetch(
        "select t.visitor, t.seq, t.body, t.version = p.version as live from ledger.state t"
        " join ledger.projection p on p.site_id = t.site_id and p.live"
    )
    by_visitor: dict[bytes, list[Recorded]] = {}
    for recorded in await shop.events():
        by_visitor.setdefault(shop.site.hasher.visitor(recorded.event.visitor), []).append(recorded)
    for row in rows:
        assert row["live"], "a row of a version that is no more"
        events = [recorded for recorded in by_visitor[row["visitor"]] if recorded.seq <= row["seq"]]
        assert row["body"] == encode_state(fold(EMPTY_STATE, events))
        assert row["seq"] == events[-1].seq


# --- reads follow writes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_answer_is_the_same_however_far_the_projection_came(
    shop: Shop, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "PROJECT_BATCH_ENTRIES", 37)
    crowd = Crowd(seed)
    await crowd.live(shop, 60)
    await shop.publish("2.0")
    await crowd.live(shop, 60)
    expected = await naive_answers(shop, crowd.visitors)
    assert await answers(shop, crowd.visitors) == expected
    for position in (37, 74, 111, await shop.size() - 1):
        assert await shop.project(1) == position
        assert await answers(shop, crowd.visitors) == expected
        await check_projection(shop)
    assert await rebuild(shop.pool, shop.vaults, shop.site.site_id) == await shop.size()
    assert await answers(shop, crowd.visitors) == expected
    await check_projection(shop)
    await crowd.live(shop, 20)
    assert await answers(shop, crowd.visitors) == await naive_answers(shop, crowd.visitors)


async def test_what_was_answered_is_in_the_very_next_read_while_the_projector_runs(shop: Shop) -> None:
    projecting = asyncio.create_task(Projector(shop.pool, shop.vaults).run())
    visitor = new_visitor()
    for n in range(40):
        event = (grant if n % 2 else refusal)(visitor=visitor)
        receipt = (await shop.record(event)).receipt
        answer = await shop.consent(visitor, purposes=["analytics"])
        assert answer.decisions["analytics"].seq == receipt.seq
        assert answer.position == receipt.position
    projecting.cancel()
    await asyncio.wait([projecting])
    await check_projection(shop)


async def test_a_reader_may_ask_for_a_position_and_waits_for_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor, size = new_visitor(), await shop.size()
    waiting = asyncio.create_task(shop.consent(visitor, min_position=size))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    receipt = (await shop.record(grant(visitor=visitor))).receipt
    assert (await waiting).decisions["analytics"].seq == receipt.seq
    monkeypatch.setattr(config, "MIN_POSITION_WAIT_SECONDS", 0.1)
    with pytest.raises(Unavailable) as refused:
        await shop.consent(visitor, min_position=size + 1)
    assert refused.value.reason == "position-not-reached"


# --- erasure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projected", [False, True])
async def test_after_an_erasure_the_answers_are_those_of_what_is_left(shop: Shop, projected: bool) -> None:
    crowd = Crowd(9)
    await crowd.live(shop, 80)
    if projected:
        await shop.project()
    gone, less = crowd.visitors[:2]
    of_less = [recorded.seq for recorded in await shop.events(less)]
    await shop.erase([recorded.seq for recorded in await shop.events(gone)] + of_less[::2])
    expected = await naive_answers(shop, crowd.visitors)
    assert {expected[gone, purpose][1] for purpose in PURPOSES[:2]} == {"never_asked"}
    assert await answers(shop, crowd.visitors) == expected
    if projected:
        await shop.project()
        await crowd.live(shop, 40)
        await shop.project()
    assert await answers(shop, crowd.visitors) == await naive_answers(shop, crowd.visitors)
    await check_projection(shop)


# --- rebuild ----------------------------------------------------------------------------------------------------------


class Meddled:
    """A pool under which something happens between what a rebuild read and what it writes of it."""

    def __init__(self, shop: Shop, meddle: Callable[[int], Awaitable[None]]) -> None:
        self._pool, self._meddle = shop.pool, meddle
        self.writes = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    async def fetchval(self, query: str, *arguments: object) -> object:
        if query == projector._WRITE:
            self.writes += 1
            await self._meddle(self.writes)
        return await self._pool.fetchval(query, *arguments)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_rebuild_beside_appends_a_projector_and_erasures_equals_a_naive_replay(
    shop: Shop, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "PROJECT_BATCH_ENTRIES", 40)
    monkeypatch.setattr(config, "PROJECT_IDLE_SECONDS", 0.01)
    crowd = Crowd(seed)
    await crowd.live(shop, 150)
    await shop.project(2)
    projecting = asyncio.create_task(Projector(shop.pool, shop.vaults).run())

    async def meddle(write: int) -> None:
        await crowd.live(shop, 5)
        if write in (1, 3):
            victim = crowd.visitors[write]
            await shop.erase([recorded.seq for recorded in await shop.events(victim)][:4])
            assert await answers(shop, crowd.visitors) == await naive_answers(shop, crowd.visitors)

    meddled = Meddled(shop, meddle)
    async with asyncio.timeout(60):
        await rebuild(meddled, shop.vaults, shop.site.site_id)
    assert meddled.writes > 4
    assert await answers(shop, crowd.visitors) == await naive_answers(shop, crowd.visitors)
    projecting.cancel()
    await asyncio.wait([projecting])
    await shop.project()
    assert await answers(shop, crowd.visitors) == await naive_answers(shop, crowd.visitors)
    await check_projection(shop)


async def test_a_rebuild_ends_though_events_never_cease(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "PROJECT_BATCH_ENTRIES", 20)
    crowd = Crowd(5)
    await crowd.live(shop, 50)

    async def meddle(_: int) -> None:
        await crowd.live(shop, 8)

    async with asyncio.timeout(60):
        await rebuild(Meddled(shop, meddle), shop.vaults, shop.site.site_id)
    assert await answers(shop, crowd.visitors) == await naive_answers(shop, crowd.visitors)


async def test_of_two_rebuilds_the_later_goes_on_alone(shop: Shop) -> None:
    crowd = Crowd(6)
    await crowd.live(shop, 50)

    async def meddle(write: int) -> None:
        if write == 1:
            await rebuild(shop.pool, shop.vaults, shop.site.site_id)

    async with asyncio.timeout(60):
        with pytest.raises(Unavailable, match="Another rebuild"):
            await rebuild(Meddled(shop, meddle), shop.vaults, shop.site.site_id)
    assert await answers(shop, crowd.visitors) == await naive_answers(shop, crowd.visitors)
    await check_projection(shop)


async def test_what_a_killed_rebuild_left_is_swept_by_the_next(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "PROJECT_BATCH_ENTRIES", 20)
    crowd = Crowd(7)
    await crowd.live(shop, 60)
    await shop.project()

    async def meddle(write: int) -> None:
        if write == 3:
            raise RuntimeError("killed")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            await rebuild(Meddled(shop, meddle), shop.vaults, shop.site.site_id)
    expected = await naive_answers(shop, crowd.visitors)
    assert await answers(shop, crowd.visitors) == expected
    await rebuild(shop.pool, shop.vaults, shop.site.site_id)
    assert await answers(shop, crowd.visitors) == expected
    await check_projection(shop)


# --- the past ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_answer_about_a_past_pair_never_changes(shop: Shop, seed: int) -> None:
    crowd, chance = Crowd(seed, visitors=4), random.Random(seed)
    await crowd.live(shop, 60)
    size, now = await shop.size(), now_ms()
    recorded_ms = [recorded.recorded_ms for recorded in await shop.events()]
    pairs: list[dict[str, object]] = []
    for _ in range(40):
        at_ms = chance.choice((now, now - HOUR_MS, now - 80 * HOUR_MS, *recorded_ms)) + chance.choice((-1, 0, 1))
        if chance.random() < 0.5:
            pairs.append({"at_ms": at_ms, "known": chance.randrange(size)})
        else:
            known = chance.choice(recorded_ms) + chance.choice((0, 1))
            pairs.append({"at_ms": at_ms, "known": known, "known_is_time": True})

    async def ask() -> list[Answers]:
        found: list[Answers] = []
        for pair, visitor in itertools.product(pairs, crowd.visitors):
            found.append(answers_of(visitor, await shop.consent(visitor, purposes=PURPOSES, **pair)))
        return found

    before = await ask()
    events = {visitor: await shop.events(visitor) for visitor in crowd.visitors}
    for (pair, visitor), answer in zip(itertools.product(pairs, crowd.visitors), before, strict=True):
        known = int(str(pair["known"]))
        known_seq = sum(ms < known for ms in await times(shop)) - 1 if "known_is_time" in pair else known
        question = Question(int(str(pair["at_ms"])), known_seq=known_seq)
        for purpose in PURPOSES:
            naive = replay_history(shop.published(), events[visitor], purpose, question)
            assert answer[visitor, purpose] == answer_of(naive)
    await crowd.live(shop, 40)
    await shop.publish("2.0")
    await crowd.live(shop, 20)
    await shop.project()
    assert await ask() == before


async def times(shop: Shop) -> list[int]:
    rows = await shop.pool.fetch("select ledger.entry_ms(entry) as ms from ledger.entry where site_id = 1 order by seq")
    return [row["ms"] for row in rows]


async def test_what_was_known_at_a_time_waits_for_an_append_of_that_time_to_be_visible(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry has its time before it is committed. Were it overlooked, the same question would find it later."""
    assert shop.site.sequencer is not None
    drafts: list[EventDraft] = []

    async def keep(draft: EventDraft, *_: object) -> Appended:
        drafts.append(draft)
        raise Unavailable("kept", "kept")

    monkeypatch.setattr(shop.site.sequencer, "enter", keep)
    visitor = new_visitor()
    with pytest.raises(Unavailable):
        await shop.record(grant(visitor=visitor))

    connection = await asyncpg.connect(settings.database_url)
    append = connection.transaction()
    await append.start()
    signer = shop.site.sequencer.signer.key_hash
    (appended,), _ = await append_events(connection, shop.site.site_id, now_ms(), Head(0, b""), signer, drafts, 5)
    await asyncio.sleep(0.01)
    question = {"purposes": PURPOSES, "known": appended.ms + 5, "known_is_time": True}
    asking = asyncio.create_task(shop.consent(visitor, **question))
    await asyncio.sleep(0.2)
    await append.commit()
    await connection.close()
    first = await asking
    assert first.decisions == (await shop.consent(visitor, **question)).decisions
    assert first.decisions["analytics"].seq == appended.seq


async def test_an_append_that_ends_between_two_looks_at_the_log_is_not_overlooked(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known at a time, and whether more may come, are of one moment: else the answer would change later."""
    assert shop.site.sequencer is not None
    drafts: list[EventDraft] = []

    async def keep(draft: EventDraft, *_: object) -> Appended:
        drafts.append(draft)
        raise Unavailable("kept", "kept")

    monkeypatch.setattr(shop.site.sequencer, "enter", keep)
    visitor = new_visitor()
    with pytest.raises(Unavailable):
        await shop.record(grant(visitor=visitor))
    connection = await asyncpg.connect(settings.database_url)
    append = connection.transaction()
    await append.start()
    signer = shop.site.sequencer.signer.key_hash
    (appended,), _ = await append_events(connection, shop.site.site_id, now_ms(), Head(0, b""), signer, drafts, 5)
    await asyncio.sleep(0.01)

    reads, looks = Reads(shop.pool), 0
    look = reads._fetch

    async def end_after_the_first(query: str, *arguments: object) -> list[asyncpg.Record]:
        nonlocal looks
        rows = await look(query, *arguments)
        looks += 1
        if looks == 1:
            await append.commit()
        return rows

    monkeypatch.setattr(reads, "_fetch", end_after_the_first)
    assert await reads.last_seq_before(shop.site.site_id, appended.ms + 5) == appended.seq
    await connection.close()


async def test_what_the_log_has_not_reached_cannot_have_been_known(shop: Shop) -> None:
    size = await shop.size()
    await shop.consent(new_visitor(), known=size - 1)
    with pytest.raises(InputRefused):
        await shop.consent(new_visitor(), known=size)


async def test_a_log_with_a_hole_denies_what_was_known_at_a_time(shop: Shop, database: Database) -> None:
    event = grant()
    receipt = (await shop.record(event)).receipt
    superuser = await asyncpg.connect(database.admin_url)
    await superuser.execute("drop event trigger ledger_refuse_ddl; alter table ledger.entry disable trigger all")
    await superuser.execute("delete from ledger.entry where seq = 1")
    await superuser.close()
    known = decode_time(receipt.recorded_at) + 1
    answer = await shop.consent(event["visitor"], purposes=["analytics"], known=known, known_is_time=True)
    assert answer.decisions["analytics"].decision == "denied"


async def test_before_the_first_policy_everything_is_denied(shop: Shop) -> None:
    visitor = new_visitor()
    await shop.record(grant(visitor=visitor))
    for question in ({"known": 0}, {"known": 0, "known_is_time": True}, {"at_ms": 0}):
        answer = await shop.consent(visitor, purposes=["analytics"], **question)
        assert answer.decisions["analytics"].reason == "no_policy"
        assert answer.policy_version is None


async def test_a_visitor_asked_about_in_two_regions_gets_no_answer_of_one_of_them(shop: Shop) -> None:
    visitor = new_visitor()
    twice = [CheckVisitor(visitor=visitor, region="US"), CheckVisitor(visitor=visitor, region="DE")]
    with pytest.raises(InputRefused) as refused:
        await shop.service.check(shop.site, CheckInput(visitors=twice, purposes=["analytics"]))
    assert refused.value.pointer == "/visitors/1"
    assert visitor not in str(refused.value)
    await shop.service.check(shop.site, CheckInput(visitors=[visitor, visitor], purposes=["analytics"]))


# --- one site and the others -----------------------------------------------------------------------------------------


async def test_a_site_that_cannot_be_projected_does_not_hold_up_the_others(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shop's number is the lower one, so it is projected first."""
    other = (await found(settings, "other.example.com")).site
    batch = projector.project_batch

    async def fail_for_the_shop(pool: asyncpg.Pool, vaults: Vaults, site_id: int, *rest: Any) -> int:
        if site_id == shop.site.site_id:
            raise Malformed("the visitor state is of another format; rebuild the projection")
        return await batch(pool, vaults, site_id, *rest)

    monkeypatch.setattr(projector, "project_batch", fail_for_the_shop)
    watched = Projector(shop.pool, shop.vaults)
    running = asyncio.create_task(watched.run())

    async def progressed() -> bool:
        return bool(watched.progress())

    await until(progressed)
    running.cancel()
    assert [progress.site for progress in watched.progress()] == [other]
