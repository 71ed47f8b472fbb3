"""Whatever was recorded and promised: retention makes no yes of a no, and what is gone stays gone."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from msgspec.structs import replace

from ledger.core.decide import Mark, Recorded, decide_history
from ledger.core.duration import DAY_MS
from ledger.core.event import EVENT_TYPES
from ledger.core.policy import PolicyHistory, Published
from ledger.core.retention import Plan, Retention
from tests.unit.random_histories import (
    ACCOUNTS,
    PURPOSES,
    REGIONS,
    SEEDS,
    START_MS,
    Story,
    loosened,
    period,
    random_policies,
    random_story,
)

PERIODS = tuple(map(period, ("P1D", "P1M", "P2M", "P4M", "P12M")))
BRIEF_NO = {"consent.refused": period("P1D"), "consent.given": period("P12M")}
"""As if somebody wanted a no to be forgotten before the yes."""
SUPPRESS_FOR = period("P3Y")
FORGOTTEN_YES = ("expired", "policy_changed")
"""Denials that rest on a grant which lapsed: nobody said no, and who is forgotten is met as anybody else."""


class Site(NamedTuple):
    policies: PolicyHistory
    story: Story
    now_ms: int


def random_site(seed: int) -> Site:
    draw = Random(seed)
    published = tuple(keeping(draw, entry) for entry in random_policies(draw))
    story = random_story(draw)
    told = (*story.events, *(one for events in story.accounts.values() for one in events))
    now_ms = max((one.recorded_ms for one in told), default=START_MS) + draw.choice((0, 1, 20, 100, 300, 900)) * DAY_MS
    return Site(PolicyHistory(published), story, now_ms)


def keeping(draw: Random, entry: Published) -> Published:
    """The same version, with what it says of records."""
    document = entry.document
    purposes = {
        name: purpose if purpose.required else replace(purpose, record_retention=draw.choice((None, None, *PERIODS)))
        for name, purpose in document.purposes.items()
    }
    kept = replace(
        document,
        purposes=purposes,
        record_retention=draw.choice((None, *PERIODS, *PERIODS)),
        record_retention_of=BRIEF_NO
        if draw.random() < 0.4
        else {kind: draw.choice(PERIODS) for kind in EVENT_TYPES if draw.random() < 0.1},
        record_retention_counted=draw.choice(("act", "end")),
    )
    return entry._replace(document=kept)


def subjects(site: Site) -> list[tuple[str, list[Recorded]]]:
    return [("me", site.story.events), *((account, site.story.accounts[account]) for account in ACCOUNTS)]


def planned(site: Site, subject: str, events: list[Recorded], at_most: int | None = None) -> Plan:
    stands = subject == "me" and any(site.story.accounts.values())
    return Retention(site.policies, site.now_ms, SUPPRESS_FOR).plan(events, account_stands=stands, at_most=at_most)


def without(events: list[Recorded], plan: Plan) -> list[Recorded]:
    return [recorded for recorded in events if recorded.seq not in plan.due]


def denied_where_it_was(
    site: Site, gone: Plan, before: Story, after: Story, policies: PolicyHistory | None = None
) -> None:
    """`policies`: by which it is asked, if not by those that the plan knew."""
    marks = [Mark(*mark) for mark in gone.marks]
    policies = policies or site.policies
    for purpose in PURPOSES:
        for region in REGIONS:
            for at_ms in (site.now_ms, site.now_ms + 40 * DAY_MS, site.now_ms + 900 * DAY_MS):
                was = decide_history(
                    policies, before.events, purpose, at_ms=at_ms, region=region, account_events=before.accounts
                )
                if was.decision == "granted" or was.reason in FORGOTTEN_YES:
                    continue
                now = decide_history(
                    policies, after.events, purpose, at_ms=at_ms, region=region, account_events=after.accounts,
                    marks=marks,
                )  # fmt: skip
                assert now.decision == "denied", (purpose, region, at_ms, was, now, gone)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_no_run_makes_a_yes_of_a_no(seed: int) -> None:
    site = random_site(seed)
    for subject, events in subjects(site):
        gone = planned(site, subject, events)
        if not gone.due:
            continue
        story = site.story
        if subject == "me":
            left = story._replace(events=without(events, gone))
        else:
            left = story._replace(accounts={**story.accounts, subject: without(events, gone)})
        denied_where_it_was(site, gone, story, left)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_where_every_denial_is_remembered_no_later_version_makes_a_yes_of_one_that_went(seed: int) -> None:
    site = random_site(seed)
    if site.policies.in_force(site.now_ms) is None:
        return
    policies = loosened(tuple(site.policies), site.now_ms + DAY_MS)
    site = site._replace(policies=policies.known(999))
    gone = planned(site, "me", site.story.events)
    left = site.story._replace(events=without(site.story.events, gone))
    denied_where_it_was(site, gone, site.story, left, policies)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_second_run_finds_nothing_more(seed: int) -> None:
    site = random_site(seed)
    for subject, events in subjects(site):
        left = without(events, planned(site, subject, events))
        assert planned(site, subject, left).due == ()


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_in_parts_the_same_goes_as_at_once(seed: int) -> None:
    """Where an answer has to go with a grant that no part holds with it, it stays; it never goes before the grant."""
    site = random_site(seed)
    for subject, events in subjects(site):
        whole = planned(site, subject, events)
        left, gone = events, list[int]()
        while part := planned(site, subject, left, at_most=2).due:
            gone += part
            left = [recorded for recorded in left if recorded.seq not in part]
        assert set(gone) <= set(whole.due)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_nothing_is_due_before_the_moment_that_was_named(seed: int) -> None:
    site = random_site(seed)
    for subject, events in subjects(site):
        found = planned(site, subject, events)
        left = without(events, found)
        changes = [at_ms for at_ms in site.policies.effects_ms if at_ms > site.now_ms]
        until_ms = min([found.next_ms or site.now_ms + 4000 * DAY_MS, *changes]) - 1
        for at_ms in {until_ms, (site.now_ms + until_ms) // 2}:
            assert planned(site._replace(now_ms=at_ms), subject, left).due == ()
