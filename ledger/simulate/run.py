"""The day itself: who comes, how many at once, the questions of analytics meanwhile, and the summary at the end.

The seed fixes who does what; ids are fresh in every run, so a day can be lived again on the same ledger.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp
from rich import box
from rich.console import Console
from rich.table import Table

from ledger.core.errors import ConfigInvalid
from ledger.credentials import Access
from ledger.percentile import percentile
from ledger.progress import Progress, bar
from ledger.simulate.client import Client, Unanswered
from ledger.simulate.scenarios import SCENARIOS, Scenario
from ledger.simulate.tally import Tally
from ledger.simulate.visit import Expected, SiteView, Visit, view_site

CHECK_VISITORS = 1_000
"""Analytics asks about so many visitors at once, as soon as so many visits are over."""
HISTORY_ONE_IN = 20
"""Of how many visitors one has their whole history read."""
ATTEMPT_TIMEOUT_SECONDS = 25.0
DESCRIPTION = "a day of visitors"


class Plan(NamedTuple):
    """`visitors` come, or with `minutes` as many as fit into that time; `concurrency` of them are there at once."""

    visitors: int = 1_000
    minutes: float | None = None
    concurrency: int = 16
    seed: int = 1
    patience_seconds: float = 60.0
    alone: bool = True  # nobody else posts to the site, so the log grows by exactly what was recorded


@dataclass
class Outcome:
    """What came of it. `grown` is what the log says, `tally.recorded` what the answers said."""

    tally: Tally = field(default_factory=Tally)
    lived: int = 0
    grown: int = 0
    checked_visitors: int = 0
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return self.tally.mismatches == 0 and self.tally.unsettled == 0


def run_simulate(access: Access, plan: Plan = Plan(), console: Console | None = None) -> int:  # noqa: B008
    """Simulate with a progress bar on a terminal and print the summary; 0 if every answer was as it had to be, else 1.

    `ConfigInvalid` where the ledger does not answer at all or the site has no policy.
    """
    with bar(DESCRIPTION, "visitors" if plan.minutes is None else "seconds") as progress:
        outcome = asyncio.run(simulate(access, plan, progress))
    print_summary(outcome, plan, access.site, console or Console())
    return 0 if outcome.sound else 1


async def simulate(access: Access, plan: Plan, progress: Progress = lambda done, total: None) -> Outcome:
    """Live through the day; `progress` is told after every visit."""
    outcome = Outcome()
    started = time.monotonic()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=plan.concurrency * 2),
        timeout=aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_SECONDS),
    ) as session:
        client = Client(session, access, outcome.tally, plan.patience_seconds)
        day = _Day(client, plan, outcome, await _look_at_site(client, access.site))
        before = await day.log_size()
        await day.live(progress)
        outcome.grown = await day.log_size() - before
    outcome.seconds = time.monotonic() - started
    _compare_growth(outcome, plan)
    return outcome


async def look_at_site(access: Access) -> SiteView:
    """The site as somebody who was never there sees it; `ConfigInvalid` where nothing can be decided on."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_SECONDS)) as session:
        return await _look_at_site(Client(session, access, Tally(), 0), access.site)


async def _look_at_site(client: Client, site: str) -> SiteView:
    try:
        view = view_site(await client.consent(_NOBODY))
    except Unanswered as error:
        raise ConfigInvalid(f"the ledger does not answer for {site}: {error}") from error
    if not view.version or not view.optional:
        raise ConfigInvalid(f"{site} has no policy in force with a purpose that a visitor can decide on")
    return view


_NOBODY = "simulation-asks-for-nobody"


def _compare_growth(outcome: Outcome, plan: Plan) -> None:
    tally = outcome.tally
    # What was left open may be in the log or not; what others posted in the meantime is there too.
    most = None if not plan.alone else tally.recorded + tally.unsettled
    if outcome.grown < tally.recorded or (most is not None and outcome.grown > most):
        tally.mismatch(f"the log grew by {outcome.grown} entries where {tally.recorded} events were recorded")


class _Day:
    """Visits in progress, and those that are over and wait for the question of analytics."""

    def __init__(self, client: Client, plan: Plan, outcome: Outcome, view: SiteView) -> None:
        self._client = client
        self._plan = plan
        self._outcome = outcome
        self._view = view
        self._over: list[Visit] = []

    async def log_size(self) -> int:
        position = (await self._client.consent(_NOBODY)).position
        return int(position.rpartition(":")[2]) + 1

    async def live(self, progress: Progress) -> None:
        visits = self._arrivals()
        started = time.monotonic()

        async def keep_visiting() -> None:
            for visit, scenario in visits:
                await self._visit(visit, scenario)
                self._outcome.lived += 1
                if self._plan.minutes is None:
                    progress(self._outcome.lived, self._plan.visitors)
                else:
                    progress(round(time.monotonic() - started), round(self._plan.minutes * 60))

        async with asyncio.TaskGroup() as group:
            for _ in range(self._plan.concurrency):
                group.create_task(keep_visiting())
        await self._ask_analytics()

    def _arrivals(self) -> Iterator[tuple[Visit, Scenario]]:
        """Everyone who comes, in the order of the seed: one of each kind first, then as the weights say."""
        chance = random.Random(self._plan.seed)
        first = chance.sample(SCENARIOS, len(SCENARIOS))
        weights = [scenario.weight for scenario in SCENARIOS]
        ends = None if self._plan.minutes is None else time.monotonic() + self._plan.minutes * 60
        for n in itertools.count():
            if (n >= self._plan.visitors) if ends is None else (time.monotonic() >= ends):
                return
            scenario = first[n] if n < len(first) else chance.choices(SCENARIOS, weights)[0]
            own = random.Random(chance.getrandbits(64))
            yield Visit(scenario.name, self._client, self._view, self._outcome.tally, own), scenario

    async def _visit(self, visit: Visit, scenario: Scenario) -> None:
        tally = self._outcome.tally
        try:
            await scenario.play(visit)
            tally.visits[scenario.name] += 1
            if visit.chance.randrange(HISTORY_ONE_IN) == 0:
                history = await self._client.history(visit.visitor)
                visit.require(history == visit.recorded, "the history is not what was recorded, in its order")
        except Unanswered as error:
            tally.unsettled += 1
            tally.mismatch(f"{scenario.name}: {error}")
            return
        self._over.append(visit)
        if len(self._over) >= CHECK_VISITORS:
            await self._ask_analytics()

    async def _ask_analytics(self) -> None:
        """May these visitors be processed? The bulk answer has to be what each visit ended with."""
        asked, self._over = self._over, []
        if not asked:
            return
        try:
            answers = await self._client.check([visit.visitor for visit in asked], list(self._view.untouched))
        except Unanswered as error:
            self._outcome.tally.mismatch(f"check: {error}")
            return
        for visit in asked:
            found = answers.results.get(visit.visitor, {})
            visit.compare("check", {purpose: Expected(a.decision, a.reason) for purpose, a in found.items()})
        self._outcome.checked_visitors += len(asked)


def print_summary(outcome: Outcome, plan: Plan, site: str, console: Console) -> None:
    """Who came, what was answered and how fast, and whether it was right."""
    tally = outcome.tally
    visits = Table("visitors", "count", box=box.SIMPLE_HEAD)
    visits.columns[1].justify = "right"
    console.print(f"{DESCRIPTION} at {site}, seed {plan.seed}")
    for scenario in SCENARIOS:
        visits.add_row(scenario.name, str(tally.visits[scenario.name]))
    visits.add_section()
    visits.add_row("all", str(tally.visits.total()))
    console.print(visits)
    calls = Table("call", "count", "p50 ms", "p99 ms", box=box.SIMPLE_HEAD)
    for column in calls.columns[1:]:
        column.justify = "right"
    for call, latencies in tally.latencies_ms.items():
        p50, p99 = percentile(latencies, 0.50), percentile(latencies, 0.99)
        calls.add_row(call, str(len(latencies)), f"{p50:.1f}", f"{p99:.1f}")
    console.print(calls)
    answers = ", ".join(f"{answer}: {count}" for answer, count in sorted(tally.answers.items()))
    console.print(f"answers          {answers}")
    console.print(f"events recorded  {tally.recorded} in {outcome.seconds:.1f} s")
    console.print(f"log grew by      {outcome.grown}")
    console.print(f"bulk checked     {outcome.checked_visitors} visitors")
    console.print(f"left open        {tally.unsettled}")
    console.print(f"mismatches       {tally.mismatches}")
    for text in tally.mismatch_texts:
        console.print(f"  {text}")
