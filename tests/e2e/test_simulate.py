"""A simulated day finds a sound ledger sound, and notices each kind of lie that a server could tell."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rich.console import Console

from ledger.config import Settings
from ledger.core.encoding import encode_base64
from ledger.core.errors import ConfigInvalid, InputRefused, Unavailable
from ledger.core.event import EventInput
from ledger.credentials import Access
from ledger.messages import CheckResults, Consent, History, PurposeDecision, Receipt
from ledger.service import Service
from ledger.simulate.run import Outcome, Plan, print_summary, simulate
from ledger.simulate.scenarios import SCENARIOS
from tests.contract.conftest import SITE, Api, running_api

DAY = Plan(visitors=80, seed=7)


class Wrapped:
    """A service with one thing different; everything else is the real one's."""

    def __init__(self, service: Service) -> None:
        self.real = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class GrantsForgotten(Wrapped):
    async def consent(self, *question: Any) -> Consent:
        answer = await self.real.consent(*question)
        denied = {
            purpose: msgspec.structs.replace(decision, decision="denied", reason="never_asked")
            for purpose, decision in answer.decisions.items()
        }
        return msgspec.structs.replace(answer, decisions=denied)


class WithdrawalsIgnored(Wrapped):
    async def consent(self, *question: Any) -> Consent:
        answer = await self.real.consent(*question)

        def told(decision: PurposeDecision) -> PurposeDecision:
            if decision.reason != "withdrawn":
                return decision
            return msgspec.structs.replace(decision, decision="granted", reason="granted")

        return msgspec.structs.replace(answer, decisions={p: told(d) for p, d in answer.decisions.items()})


class AnalyticsMayEverything(Wrapped):
    async def check(self, *question: Any) -> CheckResults:
        answer = await self.real.check(*question)
        results = {
            visitor: {p: msgspec.structs.replace(a, decision="granted", reason="granted") for p, a in answers.items()}
            for visitor, answers in answer.results.items()
        }
        return msgspec.structs.replace(answer, results=results)


class RetriesDoubled(Wrapped):
    async def record(self, site: Any, event: EventInput, *more: Any, **named: Any) -> Any:
        return await self.real.record(site, msgspec.structs.replace(event, id=None), *more)


class AnotherReceipt(Wrapped):
    """Says that an event is recorded, and shows the receipt of somebody else's."""

    first: Any = None

    async def record(self, site: Any, event: EventInput, *more: Any, **named: Any) -> Any:
        recording = await self.real.record(site, event, *more, **named)
        self.first = self.first or recording
        return self.first


class EventsDropped(Wrapped):
    """Answers 201 with a receipt that was worth something once."""

    kept: Any = None

    async def record(self, site: Any, event: EventInput, *more: Any, **named: Any) -> Any:
        if self.kept is None:
            self.kept = await self.real.record(site, event, *more, **named)
        return self.kept


class SaltChanged(Wrapped):
    async def record(self, *arguments: Any, **named: Any) -> Any:
        recording = await self.real.record(*arguments, **named)
        receipt: Receipt = recording.receipt
        return recording._replace(receipt=msgspec.structs.replace(receipt, salt=encode_base64(bytes(32))))


class UnknownVersionsRefused(Wrapped):
    async def record(self, site: Any, event: EventInput, *more: Any, **named: Any) -> Any:
        if event.type == "consent.refused" and site.policies.get(event.policy_version) is None:
            raise InputRefused("unknown-policy-version", "no such version")
        return await self.real.record(site, event, *more, **named)


class MisdatedGrantsTaken(Wrapped):
    async def record(self, site: Any, event: EventInput, *more: Any, **named: Any) -> Any:
        undated = event if event.sent_at else msgspec.structs.replace(event, occurred_at=None)
        return await self.real.record(site, undated, *more)


class HistoryCut(Wrapped):
    async def history(self, *question: Any) -> History:
        answer = await self.real.history(*question)
        return msgspec.structs.replace(answer, events=answer.events[1:])


class OftenBusy(Wrapped):
    """One post in four is turned away before it was recorded, and one after."""

    posts = itertools.count()

    async def record(self, *arguments: Any, **named: Any) -> Any:
        number = next(self.posts)
        if number % 4 == 1:
            raise Unavailable("overloaded", "come again")
        recording = await self.real.record(*arguments, **named)
        if number % 4 == 3:
            raise Unavailable("database-unavailable", "who knows what became of it")
        return recording


def access(api: Api) -> Access:
    return Access(api.url, SITE, api.publishable, api.secret)


async def day(settings: Settings, plan: Plan, wrap: Callable[[Service], Any] = lambda service: service) -> Outcome:
    async with running_api(settings, wrap=wrap) as api:
        return await simulate(access(api), plan)


def printed(outcome: Outcome, plan: Plan) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_summary(outcome, plan, SITE, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_a_day_on_a_sound_ledger_has_no_mismatch_and_the_log_grows_by_what_was_recorded(
    settings: Settings,
) -> None:
    plan = DAY._replace(visitors=400)
    outcome = await day(settings, plan)
    assert outcome.sound, outcome.tally.mismatch_texts
    assert outcome.grown == outcome.tally.recorded > 400
    assert outcome.checked_visitors == outcome.tally.visits.total() == 400
    assert set(outcome.tally.visits) == {scenario.name for scenario in SCENARIOS}, "a scenario was never played"
    assert set(outcome.tally.answers) >= {"200", "201", "409", "422", "hung up"}
    summary = printed(outcome, plan)
    assert f"log grew by      {outcome.grown}\n" in summary
    assert "mismatches       0\n" in summary


@pytest.mark.parametrize(
    "lie",
    [
        GrantsForgotten,
        WithdrawalsIgnored,
        AnalyticsMayEverything,
        RetriesDoubled,
        AnotherReceipt,
        EventsDropped,
        SaltChanged,
        UnknownVersionsRefused,
        MisdatedGrantsTaken,
        HistoryCut,
    ],
)
async def test_a_server_that_lies_is_found_out(settings: Settings, lie: type[Wrapped]) -> None:
    outcome = await day(settings, DAY, lie)
    assert outcome.tally.mismatches > 0
    assert not outcome.sound
    assert outcome.tally.mismatch_texts[0] in printed(outcome, DAY)


async def test_a_server_that_is_busy_is_asked_again_until_every_event_is_recorded_once(settings: Settings) -> None:
    outcome = await day(settings, DAY._replace(visitors=60), OftenBusy)
    assert outcome.sound, outcome.tally.mismatch_texts
    assert outcome.tally.answers["503"] > 0


async def test_the_seed_fixes_who_does_what(settings: Settings) -> None:
    async with running_api(settings) as api:
        first = await simulate(access(api), DAY._replace(visitors=80))
        again = await simulate(access(api), DAY._replace(visitors=80))
        other = await simulate(access(api), DAY._replace(visitors=80, seed=8))
    assert first.tally.visits == again.tally.visits != other.tally.visits
    assert first.tally.recorded == again.tally.recorded
    assert first.sound
    assert again.sound


async def test_somebody_else_who_posts_is_no_mismatch_where_it_was_said(settings: Settings) -> None:
    async with running_api(settings) as api:
        plan = DAY._replace(visitors=60, alone=False)
        outcomes = await asyncio.gather(simulate(access(api), plan), simulate(access(api), plan._replace(seed=2)))
    assert all(outcome.sound for outcome in outcomes)
    assert outcomes[0].grown > outcomes[0].tally.recorded


async def test_a_ledger_that_does_not_answer_is_no_day_at_all(unused_tcp_port: int) -> None:
    nobody = Access(f"http://127.0.0.1:{unused_tcp_port}", SITE, "pk_nobody", "sk_nobody")
    with pytest.raises(ConfigInvalid, match="does not answer"):
        await simulate(nobody, DAY._replace(patience_seconds=0.1))
